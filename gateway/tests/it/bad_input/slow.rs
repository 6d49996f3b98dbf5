//! Clients that take their time, or only places.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use plumbline_testkit::malformed;

use super::Scene;
use crate::support::*;

/// Connections that are begun and left alone.
const MANY: usize = 1_000;

#[tokio::test]
async fn a_thousand_clients_that_never_finish_hold_up_nobody() {
    let scene = Scene::start().await;
    let mut open = Vec::new();
    for index in 0..MANY {
        let mut stream = TcpStream::connect(scene.gateway.address)
            .await
            .expect("connected");
        let begun: &[u8] = match index % 4 {
            0 => b"",
            1 => b"POST /v2/models/churn/infer HTTP/1.1\r\nHost: gate",
            2 => b"POST /v2/models/churn/infer HTTP/1.1\r\nHost: gateway\r\nContent-Length: 100\r\n\r\nx",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0",
        };
        stream.write_all(begun).await.expect("sent");
        open.push(stream);
    }
    let answer = scene.gateway.infer("good").await;
    assert_eq!(answer.status(), 200);
    scene.unharmed().await;
    drop(open);
}

#[tokio::test]
async fn a_body_that_does_not_come_ends_with_the_deadline() {
    let scene = Scene::with(FakePredictor::echo().await, |route| {
        route.timeout = Duration::from_millis(200);
    })
    .await;
    let request = "POST /v2/models/churn/infer HTTP/1.1\r\nHost: gateway\r\nContent-Length: 100\r\n\r\nx";
    let answer = malformed::raw(scene.gateway.address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert_eq!(scene.predictor.received_so_far(), 0);
    scene.unharmed().await;
}

#[tokio::test]
async fn a_storm_of_connections_that_are_reset_hold_up_nobody() {
    let scene = Scene::start().await;
    for _ in 0..2 * MANY {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_zero_linger().expect("an option of the socket");
        drop(socket.connect(scene.gateway.address).await);
    }
    assert_eq!(scene.gateway.infer("good").await.status(), 200);
    scene.unharmed().await;
}
