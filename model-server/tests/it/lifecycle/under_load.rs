//! A hundred reloads while requests flow: none may fail.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use super::{answer, polling, serves, write};
use crate::models;
use crate::support::TestServer;

/// Sends one request after the other until told to stop; each has to be answered with one of the models' numbers.
async fn client(address: std::net::SocketAddr, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) {
    let stream = TcpStream::connect(address).await.expect("connected");
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [0]}]});
    let body = Bytes::from(body.to_string());
    while !stop.load(Ordering::Relaxed) {
        let request = Request::post("/v2/models/m/infer")
            .header("host", "localhost")
            .body(Full::new(body.clone()))
            .expect("a request");
        let answer = client.send_request(request).await.expect("an answer");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(status, 200, "{body:?}");
        let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let number = answer["outputs"][0]["data"][0].as_f64().expect("a number");
        assert!((1.0..=200.0).contains(&number), "{number}");
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// What can happen to the files of a model.
#[derive(Clone, Copy)]
enum Change {
    NewVersion,
    Rollback,
    Broken,
    HalfCopied,
    Touched,
    InPlace,
}

async fn apply(server: &TestServer, change: Change, step: u32, version: &mut u32, number: &mut f32) {
    let root = server.repository();
    let file = |version: u32| format!("m/{version}/model.onnx");
    match change {
        Change::NewVersion => {
            *version += 1;
            *number = step as f32;
            write(root, &file(*version), &models::plus(*number));
        }
        Change::Rollback => {
            std::fs::remove_dir_all(root.join(format!("m/{version}"))).expect("removed");
            *version -= 1;
            *number = number_of(root, *version);
        }
        Change::Broken => {
            write(root, &file(*version), b"broken");
            // Served all the same; and then mended.
            for _ in 0..20 {
                assert!(answer(server, "/v2/models/m").await.is_some());
            }
            *number = step as f32;
            write(root, &file(*version), &models::plus(*number));
        }
        Change::HalfCopied => {
            *version += 1;
            *number = step as f32;
            let whole = models::plus(*number);
            write(root, &file(*version), &whole[..whole.len() / 2]);
            for _ in 0..20 {
                assert!(answer(server, "/v2/models/m").await.is_some());
            }
            write(root, &file(*version), &whole);
        }
        Change::Touched => write(root, &file(*version), &models::plus(*number)),
        Change::InPlace => {
            *number = step as f32;
            write(root, &file(*version), &models::plus(*number));
        }
    }
    serves(server, f64::from(*number)).await;
}

/// The number that a version adds, as its file has it.
fn number_of(root: &Path, version: u32) -> f32 {
    let bytes = std::fs::read(root.join(format!("m/{version}/model.onnx"))).expect("read");
    let numbers = (1..=200_u16).map(f32::from);
    let mut same = numbers.filter(|&number| models::plus(number) == bytes);
    same.next().expect("one of ours")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_fail_no_request() {
    let files = [
        ("m/1/model.onnx", models::plus(100.0)),
        ("m/2/model.onnx", models::plus(101.0)),
    ];
    let server = TestServer::start_with(&files, polling).await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| tokio::spawn(client(server.address, Arc::clone(&stop), Arc::clone(&sent))))
        .collect();
    let order = [
        Change::NewVersion,
        Change::InPlace,
        Change::Broken,
        Change::Touched,
        Change::HalfCopied,
        Change::Rollback,
        Change::Rollback,
    ];
    let (mut version, mut number) = (2, 101.0);
    for (step, change) in (1..=100).zip(order.into_iter().cycle()) {
        apply(&server, change, step, &mut version, &mut number).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no request fails");
    }
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent > 1_000, "only {sent} requests during the reloads");
}
