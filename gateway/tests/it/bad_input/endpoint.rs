//! Endpoints whose answers are none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Good, Scene};
use crate::support::*;

/// Says the same bytes to every request, and closes when it says so.
struct Endpoint {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Endpoint {
    async fn saying(bytes: Vec<u8>, closes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                counted.fetch_add(1, Ordering::Relaxed);
                let bytes = bytes.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        if stream.write_all(&bytes).await.is_err() || closes {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, connections }
    }
}

/// A gateway before it, with a good client beside.
async fn before(endpoint: &Endpoint) -> (TestGateway, Good, FakePredictor) {
    let good = FakePredictor::echo().await;
    let routes = vec![
        churn(&[format!("http://{}", endpoint.address)]),
        route("good", &[good.url()]),
    ];
    let gateway = TestGateway::start(routes, |_| {});
    let client = Good::start(&gateway).await;
    (gateway, client, good)
}

#[tokio::test]
async fn what_is_no_answer_is_told_as_a_bad_gateway() {
    let head = b"HTTP/1.1 200 OK\r\n";
    let large = [head, &b"x: "[..], &vec![b'y'; 1 << 20], b"\r\n\r\n"].concat();
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("HTTP/2", b"\0\0\0\x04\0\0\0\0\0".to_vec()),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        ("a head of 1 MiB", large),
        ("no status", b"HTTP/1.1 xyz OK\r\n\r\n".to_vec()),
        ("no field", [head, &b"no colon\r\n\r\n"[..]].concat()),
        (
            "a length that is none",
            [head, &b"Content-Length: +5\r\n\r\nhello"[..]].concat(),
        ),
        (
            "two lengths",
            [head, &b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"[..]].concat(),
        ),
    ] {
        let endpoint = Endpoint::saying(bytes, true).await;
        let (gateway, good, _predictor) = before(&endpoint).await;
        let answer = gateway.infer("churn").await;
        assert_eq!(answer.status(), 502, "{what}");
        good.served().await;
    }
}

#[tokio::test]
async fn a_body_that_is_cut_does_not_look_whole() {
    for (what, bytes) in [
        (
            "a length too long",
            &b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"[..],
        ),
        (
            "chunks without an end",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
        (
            "no chunk",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n+1\r\nx\r\n0\r\n\r\n",
        ),
    ] {
        let endpoint = Endpoint::saying(bytes.to_vec(), true).await;
        let (gateway, good, _predictor) = before(&endpoint).await;
        let answer = gateway.infer("churn").await;
        let body = http_body_util::BodyExt::collect(answer.into_body()).await;
        assert!(body.is_err(), "{what}: {body:?}");
        good.served().await;
    }
}

/// What comes behind an answer is not the next request's.
#[tokio::test]
async fn a_connection_with_bytes_left_over_is_not_used_again() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let endpoint = Endpoint::saying([&answer[..], evil].concat(), false).await;
    let (gateway, good, _predictor) = before(&endpoint).await;
    for _ in 0..10 {
        assert_eq!(text(gateway.infer("churn").await).await, "hello");
    }
    assert_eq!(endpoint.connections.load(Ordering::Relaxed), 10);
    good.served().await;
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let storm = [
        b"HTTP/1.1 102 Processing\r\n\r\n".repeat(1_000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
    ]
    .concat();
    let endpoint = Endpoint::saying(storm, true).await;
    let (gateway, good, _predictor) = before(&endpoint).await;
    assert_eq!(text(gateway.infer("churn").await).await, "hello");
    good.served().await;
}

#[tokio::test]
async fn an_endpoint_without_http2_is_unavailable_for_grpc() {
    let endpoint = Endpoint::saying(
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(),
        true,
    )
    .await;
    let (gateway, good, _predictor) = before(&endpoint).await;
    assert_eq!(gateway.grpc(grpc_infer("churn")).await.status(), "14");
    good.served().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_told() {
    for cut in [Cut::BeforeHead, Cut::AfterHead, Cut::MidBody] {
        let predictor = FakePredictor::answering(move |request| Reply::echo(request).cut(cut)).await;
        let scene = Scene::with(predictor, |_| {}).await;
        let answer = scene.gateway.infer("churn").await;
        if cut == Cut::BeforeHead {
            assert_eq!(answer.status(), 502);
        } else {
            let body = http_body_util::BodyExt::collect(answer.into_body()).await;
            assert!(body.is_err(), "{cut:?}");
        }
        scene.unharmed().await;
    }
}
