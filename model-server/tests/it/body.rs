//! How bodies arrive and leave: compressed, announced, too slow, cut off.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use plumbline_inference_protocol::coding::Coding;
use plumbline_inference_protocol::grpc::{self, proto};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::models::{self, Dim};
use crate::support::{Answer, TestServer};

const INFER: &str = "/v2/models/floats/infer";
const LENGTH: &str = "inference-header-content-length";

async fn server() -> TestServer {
    let floats = models::identity(models::FLOAT, &[Dim::Any, Dim::Size(2)]);
    TestServer::start(&[("floats/model.onnx", floats)]).await
}

/// A request of that many rows, and the values in it.
fn request(rows: usize) -> (String, serde_json::Value) {
    let data: Vec<f32> = (0..rows * 2).map(|n| n as f32 + 0.5).collect();
    let input = json!({"name": "x", "datatype": "FP32", "shape": [rows, 2], "data": data});
    (json!({"inputs": [input]}).to_string(), json!(data))
}

fn expanded(answer: &Answer, coding: Coding) -> Bytes {
    assert_eq!(answer.headers["content-encoding"], coding.as_str());
    assert_eq!(answer.headers["vary"], "accept-encoding");
    coding
        .decompress(&answer.body, 1 << 24)
        .expect("what the header says")
}

#[tokio::test]
async fn compressed_requests_are_read_and_long_replies_compressed_for_who_asks() {
    let server = server().await;
    for coding in Coding::ALL {
        let name = coding.as_str();
        // Short and long: in place, and aside.
        for rows in [1, 20_000] {
            let (body, data) = request(rows);
            let body = coding.compress(body.as_bytes());
            let headers = [("content-encoding", name), ("accept-encoding", name)];
            let answer = server.send(Method::POST, INFER, &headers, body).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            let json = if rows == 1 {
                assert!(
                    !answer.headers.contains_key("content-encoding"),
                    "a short reply stays plain"
                );
                answer.json()
            } else {
                serde_json::from_slice(&expanded(&answer, coding)).expect("JSON")
            };
            assert_eq!(json["outputs"][0]["data"], data);
        }
    }
    let (body, _) = request(200);
    let plain = server.post(INFER, body.clone()).await;
    assert!(!plain.headers.contains_key("content-encoding"), "nobody asked");
    let forced = [("accept-encoding", "gzip, identity;q=0")];
    let short = server.send(Method::GET, "/v2/health/live", &forced, "").await;
    assert_eq!(expanded(&short, Coding::Gzip), r#"{"live":true,"ready":true}"#);
    let head = server.send(Method::HEAD, "/v2/health/live", &forced, "").await;
    assert_eq!(head.headers["content-encoding"], "gzip");
    assert_eq!(head.headers["content-length"], short.body.len().to_string());
}

#[tokio::test]
async fn the_header_length_counts_bytes_before_compression() {
    let server = server().await;
    let values: Vec<u8> = (0..512).flat_map(|n| (n as f32).to_le_bytes()).collect();
    let head = json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [256, 2], "parameters": {"binary_data_size": 2048}}],
        "parameters": {"binary_data_output": true},
    })
    .to_string();
    let body = Coding::Deflate.compress(&[head.as_bytes(), &values].concat());
    let length = head.len().to_string();
    let headers = [
        ("content-encoding", "deflate"),
        ("accept-encoding", "gzip"),
        (LENGTH, &length),
    ];
    let answer = server.send(Method::POST, INFER, &headers, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let json_length: usize = answer.headers[LENGTH].to_str().unwrap().parse().unwrap();
    let body = expanded(&answer, Coding::Gzip);
    assert!(body.len() > answer.body.len());
    assert_eq!(body[json_length..], values);
}

#[tokio::test]
async fn grpc_messages_are_compressed_both_ways_when_the_client_does_it_and_accepts_it() {
    let server = server().await;
    let message = proto::ModelInferRequest {
        model_name: "floats".to_owned(),
        inputs: vec![proto::model_infer_request::InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![4_000, 2],
            ..Default::default()
        }],
        raw_input_contents: vec![vec![0; 32_000].into()],
        ..Default::default()
    };
    let path = grpc::Method::ModelInfer.path();
    let plain = grpc::encode_frame(&message);
    let answer: proto::ModelInferResponse =
        grpc::decode_frame(&server.call_raw(path, &[], plain.clone()).await.unwrap()).unwrap();
    for coding in Coding::ALL {
        let body = grpc::compress_frame(&plain, coding);
        let mut headers = vec![("grpc-encoding", coding.as_str())];
        let frame = server.call_raw(path, &headers, body.clone()).await.unwrap();
        assert!(
            !grpc::is_compressed(&frame),
            "the client did not say that it can read it"
        );
        headers.push(("grpc-accept-encoding", "identity, deflate, gzip"));
        let frame = server.call_raw(path, &headers, body).await.unwrap();
        assert!(
            grpc::is_compressed(&frame) && frame.len() < 4_000,
            "{} bytes",
            frame.len()
        );
        let frame = grpc::expand_frame(frame, Some(coding), 1 << 20).unwrap();
        assert_eq!(
            grpc::decode_frame::<proto::ModelInferResponse>(&frame).unwrap(),
            answer
        );
    }
    let unannounced = grpc::compress_frame(&plain, Coding::Gzip);
    assert_eq!(
        server.call_raw(path, &[], unannounced).await.unwrap_err().code,
        12
    );
    let bomb = grpc::compress_frame(&vec![0; (64 << 20) + 6], Coding::Gzip);
    let gzip = [("grpc-encoding", "gzip")];
    assert_eq!(server.call_raw(path, &gzip, bomb).await.unwrap_err().code, 8);
}

/// Sends the bytes and returns everything that comes back until the server closes.
async fn talk(server: &TestServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // A close with bytes unread may be told as a reset, after the answer.
    let _end = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_slow_body_gets_408_and_the_end_of_its_connection() {
    let floats = models::identity(models::FLOAT, &[Dim::Any, Dim::Size(2)]);
    let server = TestServer::start_with(&[("floats/model.onnx", floats)], |config| {
        config.body_timeout = Duration::from_millis(50);
    })
    .await;
    let answer = talk(
        &server,
        &format!("POST {INFER} HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{{"),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"code\":\"body_timeout\""), "{answer}");
}

#[tokio::test]
async fn a_large_body_is_refused_before_a_waiting_client_sends_it() {
    let server = server().await;
    let head = |length: usize| {
        format!(
            "POST {INFER} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let answer = talk(&server, &head(1 << 40)).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let (body, _) = request(1);
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    stream.write_all(head(body.len()).as_bytes()).await.expect("sent");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.expect("asked to go on");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.expect("sent");
    let mut status = [0; 15];
    stream.read_exact(&mut status).await.expect("answered");
    assert_eq!(&status, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn chunks_beyond_the_limit_get_413() {
    let floats = models::identity(models::FLOAT, &[Dim::Any, Dim::Size(2)]);
    let server = TestServer::start_with(&[("floats/model.onnx", floats)], |config| {
        config.max_body_bytes = 16;
    })
    .await;
    let chunk = "10\r\n                \r\n";
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    let answer = talk(&server, &format!("{head}{chunk}{chunk}")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let series = "plumbline_server_requests_rejected_total{model=\"floats\",reason=\"body_too_large\"}";
    assert_eq!(server.metric(series), Some(1.0));
}

#[tokio::test]
async fn json_deeper_than_the_limit_and_requests_of_many_inputs_are_refused() {
    let server = server().await;
    let deep = format!("{{\"extra\":{}1{}}}", "[".repeat(101), "]".repeat(101));
    let answer = server.post(INFER, deep).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["code"]),
        (400, &json!("json_too_deep"))
    );
    let inputs: Vec<_> = (0..10_000)
        .map(|n| json!({"name": format!("x{n}"), "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}))
        .collect();
    let answer = server.post(INFER, json!({"inputs": inputs}).to_string()).await;
    assert_eq!(answer.json()["code"], "unexpected_input");
}
