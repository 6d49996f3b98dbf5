//! The start: the port answers at once, and what is broken is told.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use plumbline_inference_protocol::grpc::proto;
use plumbline_model_server::{ModelControl, ModelPath};
use serde_json::json;

use super::{answer, polling, state};
use crate::models;
use crate::support::{TestServer, config, eventually, models as directory, ready, start_error};

/// A file that is as slow to read as the test wants.
fn fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the path is a C string that outlives the call.
    let status = unsafe { libc::mkfifo(path.as_ptr(), 0o600) };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
}

#[tokio::test]
async fn the_port_answers_while_models_load() {
    let models = directory(&[("quick/model.onnx", models::plus(1.0))]);
    std::fs::create_dir(models.path().join("slow")).unwrap();
    let slow = models.path().join("slow/model.onnx");
    fifo(&slow);
    let server = TestServer::begin_in(models, |_| {}).await;
    eventually("the names are known", async || {
        server.get("/v2/models/nope/ready").await.status == 404
    })
    .await;
    assert_eq!(server.get("/v2/health/live").await.status, 200);
    let unready = server.get("/v2/health/ready").await;
    assert_eq!(unready.status, 503);
    assert_eq!(unready.json(), json!({"live": true, "ready": false}));
    let model = server.get("/v2/models/slow/ready").await;
    assert_eq!(model.status, 503);
    assert_eq!(
        model.json(),
        json!({"name": "slow", "ready": false, "error": "model `slow` is not ready: it is loading"})
    );
    assert_eq!(server.get("/v1/models/slow").await.status, 503);
    let refused = server.post("/v2/models/slow/infer", "{}").await;
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(server.get("/v2/models/slow/versions/1/ready").await.status, 503);
    assert_eq!(server.get("/v2/models/slow/versions/2/ready").await.status, 404);
    let asked = proto::ModelReadyRequest {
        name: "slow".to_owned(),
        version: String::new(),
    };
    let path = "/inference.GRPCInferenceService/ModelReady";
    let told: proto::ModelReadyResponse = server.call(path, &asked).await.unwrap();
    assert!(!told.ready);
    // Each model is served as soon as it is loaded; the server is ready when all are.
    eventually("the quick one is served", async || {
        answer(&server, "/v2/models/quick").await == Some(1.0)
    })
    .await;
    assert!(!server.process.readiness().is_ready());
    tokio::task::spawn_blocking(move || std::fs::write(slow, models::plus(2.0)).unwrap())
        .await
        .unwrap();
    ready(&server.process).await;
    assert_eq!(server.get("/v2/health/ready").await.status, 200);
    assert_eq!(answer(&server, "/v2/models/slow").await, Some(2.0));
}

#[tokio::test]
async fn one_broken_model_of_a_repository_does_not_take_the_others_down() {
    let files = || {
        [
            ("bad/model.onnx", Vec::new()),
            ("good/model.onnx", models::plus(1.0)),
            ("two/a.onnx", models::plus(1.0)),
            ("two/b.onnx", models::plus(1.0)),
        ]
    };
    let server = TestServer::start_with(&files(), polling).await;
    assert_eq!(answer(&server, "/v2/models/good").await, Some(1.0));
    let (told, reason) = state(&server, "bad", "1").await.unwrap();
    assert_eq!(
        (told.as_str(), reason.as_str()),
        ("UNAVAILABLE", "the file is empty")
    );
    let (_, reason) = state(&server, "two", "1").await.unwrap();
    assert!(reason.contains("`a.onnx`, `b.onnx`; expected one"), "{reason}");
    let model = server.get("/v2/models/bad/ready").await;
    assert_eq!(
        (model.status.as_u16(), model.error()),
        (503, "model `bad` is not ready: the file is empty".to_owned())
    );
    assert_eq!(server.get("/v2/health/ready").await.status, 200);
    // Unless that is what was asked for.
    let strict = TestServer::begin(&files(), |config| {
        polling(config);
        config.repository.strict_readiness = true;
    })
    .await;
    eventually("the good one is served", async || {
        answer(&strict, "/v2/models/good").await == Some(1.0)
    })
    .await;
    eventually("the reason is told", async || {
        let pending = strict.process.readiness().pending();
        pending == ["model `bad` is not served: the file is empty"]
    })
    .await;
    assert_eq!(strict.get("/v2/health/ready").await.status, 503);
    super::write(strict.repository(), "bad/model.onnx", &models::plus(2.0));
    super::write(strict.repository(), "two/b.onnx", b"");
    std::fs::remove_file(strict.repository().join("two/b.onnx")).unwrap();
    ready(&strict.process).await;
}

#[tokio::test]
async fn what_is_named_on_the_command_line_has_to_be_served() {
    let models = directory(&[
        ("m.onnx", Vec::new()),
        ("repository/good.onnx", models::plus(1.0)),
    ]);
    let mut with_model = config(&models.path().join("repository"));
    polling(&mut with_model);
    with_model.repository.models = vec![ModelPath::new(models.path().join("m.onnx"))];
    let error = start_error(with_model).await;
    assert!(
        error.starts_with("1 model cannot be served") && error.contains("the file is empty"),
        "{error}"
    );
    let mut with_name = config(&models.path().join("repository"));
    with_name.repository.control = ModelControl::Explicit;
    with_name.repository.load_models = vec!["churn".to_owned()];
    let error = start_error(with_name).await;
    assert!(
        error.contains("model `churn`") && error.contains("--load-model names it"),
        "{error}"
    );
}

#[tokio::test]
async fn an_empty_repository_is_served_and_ready_when_that_is_what_was_asked_for() {
    let server = TestServer::begin(&[], polling).await;
    eventually("the first look is over", async || {
        server.get("/v2/models/m/ready").await.status == 404
    })
    .await;
    eventually("the reason is told", async || {
        server.process.readiness().pending() == ["no model is served"]
    })
    .await;
    super::write(server.repository(), "m/model.onnx", &models::plus(1.0));
    ready(&server.process).await;
    TestServer::start_with(&[], |config| {
        polling(config);
        config.repository.ready_without_models = true;
    })
    .await;
}
