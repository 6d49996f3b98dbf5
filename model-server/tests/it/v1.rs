//! V1: predictions by row and by column, classifiers, status.

use http::StatusCode;
use serde_json::json;

use crate::models::{self, Labels};
use crate::support::TestServer;

#[tokio::test]
async fn a_classifier_answers_with_label_and_probabilities() {
    let files = [
        ("words/model.onnx", models::classifier(&Labels::Strings)),
        ("numbers/model.onnx", models::classifier(&Labels::Ints)),
    ];
    let server = TestServer::start(&files).await;
    let expected = (2.0_f64).exp() / ((2.0_f64).exp() + 1.0);
    for (model, label, class) in [("words", json!("yes"), "yes"), ("numbers", json!(1), "1")] {
        let path = format!("/v1/models/{model}:predict");
        let answer = server.post(&path, r#"{"instances": [[1, 0], [0, 3]]}"#).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let answer = answer.json();
        let predictions = answer["predictions"].as_array().unwrap();
        assert_eq!(predictions.len(), 2);
        assert_eq!(predictions[0]["label"], label);
        let probability = predictions[0]["probabilities"][class].as_f64().unwrap();
        assert!((probability - expected).abs() < 1e-6, "{answer}");
    }
}

#[tokio::test]
async fn other_models_answer_with_values_or_objects() {
    let files = [
        (
            "one/model.onnx",
            models::identity(models::FLOAT, &[models::Dim::Any, models::Dim::Size(2)]),
        ),
        ("columns/model.onnx", models::columns()),
    ];
    let server = TestServer::start(&files).await;
    let one = server
        .post("/v1/models/one:predict", r#"{"instances": [[1, 2], [3.5, 4]]}"#)
        .await
        .json();
    assert_eq!(one, json!({"predictions": [[1.0, 2.0], [3.5, 4.0]]}));
    let body = json!({"instances": [{"id": 1, "plan": "a"}, {"id": 2, "plan": "b"}]}).to_string();
    let rows = server.post("/v1/models/columns:predict", body).await;
    assert_eq!(rows.status, StatusCode::OK, "{rows:?}");
    let rows = rows.json();
    assert_eq!(rows["predictions"][1], json!({"id_out": [2], "plan_out": ["b"]}));
    let body = json!({"inputs": {"id": [[1], [2]], "plan": [["a"], ["b"]]}}).to_string();
    let columns = server.post("/v1/models/columns:predict", body).await.json();
    assert_eq!(columns["outputs"]["plan_out"], json!([["a"], ["b"]]));
}

#[tokio::test]
async fn status_and_list() {
    let server = TestServer::start(&[("b/model.onnx", models::simple()), ("a.onnx", models::simple())]).await;
    // A directory with a file of its own is one model; its directories are not looked at.
    assert_eq!(server.get("/").await.json(), json!({"status": "alive"}));
    assert_eq!(server.get("/v1/models").await.json(), json!({"models": ["a"]}));
    assert_eq!(
        server.get("/v1/models/a").await.json(),
        json!({"name": "a", "ready": true})
    );
    let unknown = server.get("/v1/models/b").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(
        unknown.error().starts_with("Request for unknown model"),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_told_before_running() {
    let server = TestServer::start(&[("a.onnx", models::identity(models::FLOAT, &[models::Dim::Any]))]).await;
    let v2 = r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}"#;
    let requests = [
        ("/v1/models/a:predict", r#"{"instances": [1]}"#),
        ("/v2/models/a/infer", v2),
    ];
    for (path, body) in requests {
        for (timeout, expected) in [
            ("0", StatusCode::GATEWAY_TIMEOUT),
            ("30s", StatusCode::OK),
            ("soon", StatusCode::BAD_REQUEST),
        ] {
            let headers = [("x-request-timeout", timeout)];
            let answer = server.send(http::Method::POST, path, &headers, body).await;
            assert_eq!(answer.status, expected, "{path} {timeout}: {answer:?}");
        }
    }
}
