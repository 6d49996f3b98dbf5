//! The error table over REST and gRPC: the exact status, and one sentence that names what is wrong.

mod grpc;
mod rest;

use http::StatusCode;
use serde_json::json;

use crate::models::{self, Dim, Labels};
use crate::support::TestServer;

const MAX_BODY_BYTES: usize = 4_096;

/// Models for every kind of fault.
async fn server() -> TestServer {
    let files = [
        ("simple/1/model.onnx", models::simple()),
        (
            "floats/model.onnx",
            models::identity(models::FLOAT, &[Dim::Any, Dim::Size(2)]),
        ),
        ("bytes/model.onnx", models::identity(models::STRING, &[Dim::Any])),
        ("bools/model.onnx", models::identity(9, &[Dim::Any])),
        ("small/model.onnx", models::identity(2, &[Dim::Any])),
        ("half/model.onnx", models::identity(10, &[Dim::Any])),
        ("columns/model.onnx", models::columns()),
        ("product/model.onnx", models::product()),
        ("churn/model.onnx", models::classifier(&Labels::Strings)),
    ];
    TestServer::start_with(&files, |config| config.max_body_bytes = MAX_BODY_BYTES).await
}

#[tokio::test]
async fn a_model_whose_queue_is_full_answers_429_and_says_when_to_come_back() {
    // Never run before, so that its cost is unknown and it runs on a compute thread.
    let files = [
        ("slow/model.onnx", models::slow()),
        ("slow/model.toml", b"warmup = false".to_vec()),
    ];
    let server = TestServer::start_with(&files, |config| {
        config.instances = std::num::NonZeroUsize::new(1);
        config.max_queue = 0;
    })
    .await;
    // Long enough (a product of two such matrices) for the second request to meet the first.
    let shape = json!({"name": "shape", "datatype": "INT64", "shape": [2], "data": [1_800, 1_800]});
    let body = json!({"inputs": [shape]}).to_string();
    let infer = || server.post("/v2/models/slow/infer", body.clone());
    let (first, second) = tokio::join!(infer(), infer());
    let (served, refused) = if first.status == StatusCode::OK {
        (first, second)
    } else {
        (second, first)
    };
    assert_eq!(served.status, StatusCode::OK, "{served:?}");
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{refused:?}");
    assert_eq!(refused.json()["code"], "overloaded");
    assert_eq!(refused.headers["retry-after"], "1");
    let series = "plumbline_server_requests_rejected_total{model=\"slow\",reason=\"queue_full\"}";
    assert_eq!(server.metric(series), Some(1.0));
}
