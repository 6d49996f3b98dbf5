//! Explicit mode: models are loaded and unloaded by request.

use plumbline_model_server::{Config, ModelControl};
use serde_json::json;

use super::{answer, looked, polling, state, write};
use crate::models;
use crate::support::{Answer, TestServer, eventually};

fn explicit(config: &mut Config) {
    polling(config);
    config.repository.control = ModelControl::Explicit;
    config.repository.ready_without_models = true;
}

async fn load(server: &TestServer, parameters: serde_json::Value) -> Answer {
    let body = json!({ "parameters": parameters }).to_string();
    server.post("/v2/repository/models/m/load", body).await
}

async fn unload(server: &TestServer) -> Answer {
    server.post("/v2/repository/models/m/unload", "").await
}

#[tokio::test]
async fn models_come_and_go_by_request() {
    let files = [
        ("m/1/model.onnx", models::plus(1.0)),
        ("m/2/model.onnx", models::plus(2.0)),
        ("other/model.onnx", models::plus(9.0)),
    ];
    let server = TestServer::start_with(&files, |config| {
        explicit(config);
        config.repository.load_models = vec!["other".to_owned()];
    })
    .await;
    assert_eq!(answer(&server, "/v2/models/other").await, Some(9.0));
    assert_eq!(server.get("/v2/models/m/ready").await.status, 404);
    assert_eq!(
        state(&server, "m", "").await,
        Some(("UNKNOWN".into(), String::new()))
    );
    assert_eq!(load(&server, json!({})).await.status, 200);
    assert_eq!(answer(&server, "/v2/models/m").await, Some(2.0));
    // What changes in the files changes nothing, until it is asked for.
    write(server.repository(), "m/3/model.onnx", &models::plus(3.0));
    assert_eq!(answer(&server, "/v2/models/m").await, Some(2.0));
    assert_eq!(load(&server, json!({})).await.status, 200);
    assert_eq!(answer(&server, "/v2/models/m").await, Some(3.0));
    assert_eq!(unload(&server).await.status, 200);
    assert_eq!(server.get("/v2/models/m/ready").await.status, 404);
    eventually("the model is freed", async || {
        state(&server, "m", "3").await == Some(("UNAVAILABLE".into(), "unloaded".into()))
    })
    .await;
    // Asked for again, it is the same answer: that is the state it is in.
    assert_eq!(unload(&server).await.status, 200);
    assert_eq!(load(&server, json!({})).await.status, 200);
    assert_eq!(answer(&server, "/v2/models/m").await, Some(3.0));
    for verb in ["load", "unload"] {
        let path = format!("/v2/repository/models/nobody/{verb}");
        let refused = server.post(&path, "").await;
        assert_eq!(refused.status, 404, "{refused:?}");
    }
    // A model whose files are gone serves until it is unloaded.
    std::fs::remove_dir_all(server.repository().join("m")).unwrap();
    for _ in 0..50 {
        assert_eq!(answer(&server, "/v2/models/m").await, Some(3.0));
    }
    assert_eq!(unload(&server).await.status, 200);
    eventually("the model is forgotten", async || {
        !server.index().await.iter().any(|[name, ..]| name == "m")
    })
    .await;
}

#[tokio::test]
async fn a_load_that_fails_leaves_everything_as_it_was() {
    let server = TestServer::start_with(&[("m/1/model.onnx", models::plus(1.0))], explicit).await;
    write(server.repository(), "m/2/model.onnx", b"broken");
    let refused = load(&server, json!({})).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.error().contains("failed to load model `m`") && refused.error().contains("not an ONNX model"),
        "{}",
        refused.error()
    );
    assert_eq!(answer(&server, "/v2/models/m").await, None);
    std::fs::remove_dir_all(server.repository().join("m/2")).unwrap();
    assert_eq!(load(&server, json!({})).await.status, 200);
    write(server.repository(), "m/2/model.onnx", b"broken");
    assert_eq!(load(&server, json!({})).await.status, 400);
    assert_eq!(answer(&server, "/v2/models/m").await, Some(1.0));
    // All of them or none.
    write(server.repository(), "m/3/model.onnx", &models::plus(3.0));
    let all = json!({"config": json!({"version_policy": {"all": {}}}).to_string()});
    assert_eq!(load(&server, all).await.status, 400);
    assert_eq!(answer(&server, "/v2/models/m").await, Some(1.0));
}

#[tokio::test]
async fn files_and_settings_may_come_with_the_request() {
    use base64::Engine as _;

    let server = TestServer::start_with(&[], explicit).await;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let files = json!({
        "file:1/model.onnx": encode(&models::plus(1.0)),
        "file:2/model.onnx": encode(&models::plus(2.0)),
    });
    assert_eq!(load(&server, files.clone()).await.status, 200);
    assert_eq!(answer(&server, "/v2/models/m").await, Some(2.0));
    assert_eq!(answer(&server, "/v2/models/m/versions/1").await, None);
    let mut both = files.clone();
    both["config"] = json!({
        "backend": "onnxruntime",
        "version_policy": {"latest": {"num_versions": "2"}},
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 1]}],
    })
    .to_string()
    .into();
    assert_eq!(load(&server, both).await.status, 200);
    assert_eq!(answer(&server, "/v2/models/m/versions/1").await, Some(1.0));
    for (config, part) in [
        (json!({"optimization": {}}), "unknown field `optimization`"),
        (json!({"input": [{"name": "z"}]}), "the model has no input `z`"),
    ] {
        let mut wrong = files.clone();
        wrong["config"] = config.to_string().into();
        let refused = load(&server, wrong).await;
        assert_eq!(refused.status, 400);
        assert!(refused.error().contains(part), "{}", refused.error());
    }
    assert_eq!(answer(&server, "/v2/models/m").await, Some(2.0));
    let mut weights = json!({"file:1/model.onnx": encode(&models::external_weights())});
    let refused = load(&server, weights.clone()).await;
    assert!(refused.error().contains("`weights.bin`"), "{}", refused.error());
    weights["file:1/weights.bin"] = encode(&[1.0_f32, 2.0].map(f32::to_le_bytes).concat()).into();
    assert_eq!(load(&server, weights).await.status, 200);
    assert_eq!(unload(&server).await.status, 200);
    eventually("nothing is left", async || server.index().await.is_empty()).await;
}

#[tokio::test]
async fn loads_side_by_side_all_succeed_and_the_last_order_counts() {
    let server = TestServer::start_with(&[("m/model.onnx", models::plus(1.0))], explicit).await;
    let loads = || async { load(&server, json!({})).await.status };
    let (one, two, three, gone) = tokio::join!(loads(), loads(), loads(), unload(&server));
    assert_eq!((one, two, three), (one, one, one));
    assert_eq!((one.as_u16(), gone.status.as_u16()), (200, 200));
    let outcome = load(&server, json!({})).await;
    assert_eq!(outcome.status, 200);
    assert_eq!(answer(&server, "/v2/models/m").await, Some(1.0));
}

#[tokio::test]
async fn other_modes_say_that_they_do_not_load_by_request() {
    let server = TestServer::start_with(&[("m/model.onnx", models::plus(1.0))], polling).await;
    for refused in [load(&server, json!({})).await, unload(&server).await] {
        assert_eq!(refused.status, 501);
        assert!(
            refused
                .error()
                .contains("explicit model load / unload with --model-control poll"),
            "{}",
            refused.error()
        );
    }
    assert_eq!(answer(&server, "/v2/models/m").await, Some(1.0));
    looked(&server, "sentinel").await;
}
