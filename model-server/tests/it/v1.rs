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
    let available = json!([{
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }]);
    for path in ["/v1/models/a", "/v1/models/a/versions/1"] {
        assert_eq!(
            server.get(path).await.json(),
            json!({"name": "a", "ready": true, "model_version_status": available})
        );
    }
    let unknown = server.get("/v1/models/b").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(
        unknown.error().starts_with("Request for unknown model"),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn metadata_is_in_tensorflow_serving_s_words() {
    let server = TestServer::start(&[("a.onnx", models::columns())]).await;
    let metadata = server.get("/v1/models/a/metadata").await.json();
    let spec = json!({"name": "a", "signature_name": "", "version": "1"});
    assert_eq!(metadata["model_spec"], spec);
    let signature = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
    let dimensions = json!([{"size": "-1", "name": ""}, {"size": "1", "name": ""}]);
    let plan = json!({
        "name": "plan",
        "dtype": "DT_STRING",
        "tensor_shape": {"dim": dimensions, "unknown_rank": false},
    });
    assert_eq!(signature["inputs"]["plan"], plan);
    assert_eq!(signature["outputs"]["id_out"]["dtype"], "DT_INT64");
    let versioned = server.get("/v1/models/a/versions/1/metadata").await;
    assert_eq!(versioned.json(), metadata);
}

#[tokio::test]
async fn members_of_tensorflow_serving_s_clients_are_taken() {
    let server =
        TestServer::start(&[("a.onnx", models::identity(models::STRING, &[models::Dim::Any]))]).await;
    let body = r#"{"signature_name": "serving_default", "instances": [{"b64": "aGk="}, "ho"]}"#;
    let answer = server.post("/v1/models/a/versions/1:predict", body).await;
    assert_eq!(answer.json(), json!({"predictions": ["hi", "ho"]}));
}

#[tokio::test]
async fn events_are_answered_by_events() {
    let model = models::identity(models::FLOAT, &[models::Dim::Any]);
    let server = TestServer::start(&[("a.onnx", model)]).await;
    let path = "/v1/models/a:predict";
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "36077800"),
        ("ce-source", "https://example.com/event-producer"),
        ("ce-type", "com.example.sampletype1"),
        ("content-type", "application/json"),
    ];
    let answer = server
        .send(http::Method::POST, path, &headers, r#"{"instances": [1]}"#)
        .await;
    assert_eq!(answer.json(), json!({"predictions": [1.0]}));
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-type", "io.kserve.inference.response"),
        ("ce-source", "io.kserve.inference.a"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(answer.headers[name], value, "{name}");
    }
    assert_ne!(answer.headers["ce-id"], "36077800");
    assert!(answer.headers["ce-time"].to_str().unwrap().ends_with('Z'));

    let event = json!({
        "specversion": "1.0",
        "id": "36077800",
        "source": "https://example.com/event-producer",
        "type": "com.example.sampletype1",
        "time": "2021-01-28T21:04:43.144141+00:00",
        "data": {"instances": [2]},
    });
    let headers = [("content-type", "application/cloudevents+json; charset=UTF-8")];
    let answer = server
        .send(http::Method::POST, path, &headers, event.to_string())
        .await;
    assert_eq!(answer.headers["content-type"], "application/cloudevents+json");
    let answer = answer.json();
    assert_eq!(answer["data"], json!({"predictions": [2.0]}));
    assert_eq!(answer["type"], "io.kserve.inference.response");
    assert_eq!(
        (&answer["specversion"], &answer["source"]),
        (&json!("1.0"), &json!("io.kserve.inference.a"))
    );

    // Headers that are no event are nothing.
    let answer = server
        .send(
            http::Method::POST,
            path,
            &[("ce-id", "1")],
            r#"{"instances": [1]}"#,
        )
        .await;
    assert!(!answer.headers.contains_key("ce-type"));
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
