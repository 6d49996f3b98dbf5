//! gRPC-Web, by the bytes of its specification.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use plumbline_gateway::{AccessLogSpec, AccessLogTo};

use crate::support::*;

const TEXT: &str = "application/grpc-web-text";

fn request(content_type: &'static str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("http://gateway/inference.GRPCInferenceService/ModelInfer")
        .header("host", "gateway")
        .header("content-type", content_type)
        .header("x-grpc-web", "1")
        .body(Full::new(body.into()))
        .expect("a request")
}

/// The messages of an answer and its trailers, which are the last frame.
fn frames(mut body: &[u8]) -> (Vec<Vec<u8>>, HeaderMap) {
    let mut messages = Vec::new();
    loop {
        let (flag, rest) = body.split_first().expect("trailers come last");
        let (length, rest) = rest.split_first_chunk().expect("a length");
        let (content, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        match flag {
            0 => messages.push(content.to_vec()),
            0x80 => {
                assert!(rest.is_empty(), "nothing after the trailers");
                let text = std::str::from_utf8(content).expect("text");
                let field = |line: &str| {
                    let (name, value) = line.split_once(": ").expect("a field");
                    (name.parse().expect("a name"), value.parse().expect("a value"))
                };
                return (messages, text.split_terminator("\r\n").map(field).collect());
            }
            _ => panic!("flag {flag}"),
        }
        body = rest;
    }
}

async fn whole(answer: Response<Incoming>) -> (HeaderMap, Bytes) {
    assert_eq!(answer.status(), StatusCode::OK);
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a body");
    assert!(body.trailers().is_none(), "clients cannot read those");
    (head.headers, body.to_bytes())
}

/// What base64 says that is padded piece by piece.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    for group in text.chunks(4) {
        data.extend(STANDARD.decode(group).expect("base64"));
    }
    data
}

async fn predictor() -> FakePredictor {
    FakePredictor::answering(|_| Reply::grpc(b"answer")).await
}

#[tokio::test]
async fn a_call_is_grpc_to_the_endpoint_and_its_trailers_are_the_last_frame() {
    let predictor = predictor().await;
    let gateway = TestGateway::before(&predictor);
    let http1 = gateway
        .send(request("application/grpc-web+proto", model_infer("churn")))
        .await;
    let mut client = gateway.http2().await;
    let request = request("application/grpc-web", model_infer("churn"));
    let http2 = client.send_request(request).await.expect("an answer");
    for answer in [http1, http2] {
        let (headers, body) = whole(answer).await;
        assert_eq!(headers["content-type"], "application/grpc-web+proto");
        assert!(headers.contains_key("x-request-id"));
        let (messages, trailers) = frames(&body);
        assert_eq!(messages, [b"answer"]);
        assert_eq!(trailers["grpc-status"], "0");
    }
    let received = predictor.received(2).await;
    assert_eq!(received[0].header("content-type"), "application/grpc+proto");
    assert_eq!(received[1].header("content-type"), "application/grpc");
    for request in received {
        assert_eq!(request.header("te"), "trailers");
        assert_eq!(request.body, model_infer("churn"));
    }
    gateway
        .until_counted(r#"plumbline_gateway_requests_total{code="OK",model="churn",protocol="grpc"} 2"#)
        .await;
}

#[tokio::test]
async fn text_is_read_and_written() {
    let predictor = predictor().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("access.log");
    let to = AccessLogTo::File(file.clone());
    let gateway = TestGateway::start(vec![churn(&[predictor.url()])], |config| {
        config.access_log = AccessLogSpec { to, sample: 1.0 };
    });
    let message = model_infer("churn");
    let (first, second) = message.split_at(7);
    // Padded in its midst, as by a client that flushes.
    let text = STANDARD.encode(first) + &STANDARD.encode(second);
    assert!(STANDARD.encode(first).ends_with('='));
    let length = text.len();
    let (headers, body) = whole(gateway.send(request(TEXT, text)).await).await;
    assert_eq!(headers["content-type"], "application/grpc-web-text+proto");
    let (messages, trailers) = frames(&decoded(&body));
    assert_eq!(
        (&*messages, &trailers["grpc-status"]),
        (&[b"answer".to_vec()][..], &"0".parse().expect("a value"))
    );
    assert_eq!(predictor.received(1).await[0].body, message);
    gateway.begin_shutdown();
    gateway.drained().await;
    let log = std::fs::read_to_string(file).expect("a log");
    assert!(log.contains(r#""protocol":"grpc-web""#), "{log}");
    assert!(
        length > message.len() && log.contains(&format!(r#""bytes_in":{}"#, message.len())),
        "{log}"
    );
}

/// The trailers of a call that fails: they are all of the body, and the head has no status.
async fn failure(gateway: &TestGateway, model: &str) -> HeaderMap {
    let answer = gateway.send(request("application/grpc-web", model_infer(model)));
    let (headers, body) = whole(answer.await).await;
    assert!(!headers.contains_key("grpc-status"));
    let (messages, trailers) = frames(&body);
    assert_eq!(messages.len(), 0);
    trailers
}

#[tokio::test]
async fn failures_are_told_in_the_body() {
    let predictor = predictor().await;
    let gateway = TestGateway::before(&predictor);
    // The gateway's own.
    let trailers = failure(&gateway, "nope").await;
    assert_eq!(trailers["grpc-status"], "5");
    assert!(
        trailers["grpc-message"]
            .to_str()
            .expect("text")
            .contains("'nope'")
    );
    // A body that is no base64, in its midst and at its end.
    for body in ["!!!!", "AAAAA"] {
        let answer = gateway.send(request(TEXT, body)).await;
        assert_eq!(answer.headers()["connection"], "close");
        let (_, body) = whole(answer).await;
        let (_, trailers) = frames(&decoded(&body));
        assert_eq!(trailers["grpc-status"], "3", "{trailers:?}");
        assert!(
            trailers["grpc-message"]
                .to_str()
                .expect("text")
                .contains("base64")
        );
    }
    assert_eq!(predictor.received_so_far(), 0);
}

#[tokio::test]
async fn an_endpoint_that_refuses_at_once_is_told_of_in_the_body_too() {
    let predictor = FakePredictor::answering(|_| Reply::grpc_error(7, "not today")).await;
    let gateway = TestGateway::before(&predictor);
    assert_eq!(failure(&gateway, "churn").await["grpc-status"], "7");
}
