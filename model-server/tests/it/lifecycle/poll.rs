//! Poll mode: what is served follows the files.

use plumbline_model_server::VersionPolicy;

use super::{answer, loads, looked, polling, serves, state, write};
use crate::models;
use crate::support::{TestServer, eventually};

#[tokio::test]
async fn a_new_version_is_served_and_a_deleted_one_rolled_back() {
    let server = TestServer::start_with(&[("m/1/model.onnx", models::plus(1.0))], polling).await;
    let root = server.repository();
    assert_eq!(answer(&server, "/v2/models/m").await, Some(1.0));
    write(root, "m/2/model.onnx", &models::plus(2.0));
    serves(&server, 2.0).await;
    // The policy is the newest one: the old one is unloaded, a moment after the new one is served, and its series go.
    eventually("version 1 is gone", async || {
        state(&server, "m", "1").await == Some(("UNAVAILABLE".into(), "unloaded".into()))
    })
    .await;
    assert_eq!(
        server.get("/v2/models/m").await.json()["versions"],
        serde_json::json!(["2"])
    );
    assert_eq!(answer(&server, "/v2/models/m/versions/1").await, None);
    assert_eq!(server.get("/v2/models/m/versions/1/ready").await.status, 404);
    let series = |version: u32| format!("plumbline_server_model_ready{{model=\"m\",version=\"{version}\"}}");
    assert_eq!(server.metric(&series(1)), None);
    assert_eq!(server.metric(&series(2)), Some(1.0));
    std::fs::remove_dir_all(root.join("m/2")).unwrap();
    serves(&server, 1.0).await;
    eventually("version 2 is forgotten", async || {
        state(&server, "m", "2").await.is_none()
    })
    .await;
}

#[tokio::test]
async fn a_model_comes_is_replaced_in_place_and_goes() {
    let server = TestServer::start_with(&[("other/model.onnx", models::plus(9.0))], polling).await;
    let root = server.repository();
    assert_eq!(server.get("/v2/models/m/ready").await.status, 404);
    write(root, "m/model.onnx", &models::plus(1.0));
    serves(&server, 1.0).await;
    write(root, "m/model.onnx", &models::plus(2.0));
    serves(&server, 2.0).await;
    // Another content by rename, as careful tools do it.
    write(root, "m/.new", &models::plus(3.0));
    std::fs::rename(root.join("m/.new"), root.join("m/model.onnx")).unwrap();
    serves(&server, 3.0).await;
    std::fs::remove_dir_all(root.join("m")).unwrap();
    eventually("m is unknown", async || {
        server.get("/v2/models/m/ready").await.status == 404
            && !server.index().await.iter().any(|l| l[0] == "m")
    })
    .await;
    assert_eq!(answer(&server, "/v2/models/other").await, Some(9.0));
    assert_eq!(
        server.metric("plumbline_server_model_load_duration_seconds_count{model=\"m\"}"),
        None
    );
}

#[tokio::test]
async fn a_broken_file_leaves_the_old_one_serving_and_says_why_once() {
    let server = TestServer::start_with(&[("m/model.onnx", models::plus(1.0))], polling).await;
    let root = server.repository();
    write(root, "m/model.onnx", b"this is a text file\n");
    let failed = "plumbline_server_model_update_failed{model=\"m\"}";
    eventually("the failure is told", async || server.metric(failed) == Some(1.0)).await;
    let (told, reason) = state(&server, "m", "1").await.unwrap();
    assert_eq!(told, "READY");
    assert!(
        reason.starts_with("update failed: the file is not an ONNX model"),
        "{reason}"
    );
    assert_eq!(answer(&server, "/v2/models/m").await, Some(1.0));
    // The same content again is no news.
    write(root, "m/model.onnx", b"this is a text file\n");
    looked(&server, "sentinel").await;
    let failures = "plumbline_server_model_load_failures_total{model=\"m\"}";
    assert_eq!(server.metric(failures), Some(1.0));
    // Settings that do not fit the model are no reason to stop either.
    write(root, "m/model.onnx", &models::plus(2.0));
    serves(&server, 2.0).await;
    assert_eq!(server.metric(failed), Some(0.0));
    write(root, "m/model.toml", b"[class_labels]\ny = [\"a\", \"b\"]\n");
    eventually("the labels are told", async || {
        let (_, reason) = state(&server, "m", "1").await.unwrap_or_default();
        reason.contains("output `y` has 1 classes, got 2 labels")
    })
    .await;
    write(root, "m/model.toml", b"instnces = 1\n");
    eventually("the unknown key is told", async || {
        let (_, reason) = state(&server, "m", "1").await.unwrap_or_default();
        reason.contains("unknown field `instnces`")
    })
    .await;
    assert_eq!(answer(&server, "/v2/models/m").await, Some(2.0));
    write(root, "m/model.toml", b"instances = 1\n");
    eventually("all is well", async || server.metric(failed) == Some(0.0)).await;
    assert_eq!(
        state(&server, "m", "1").await,
        Some(("READY".into(), String::new()))
    );
}

#[tokio::test]
async fn a_broken_new_version_leaves_the_one_before_serving() {
    let server = TestServer::start_with(&[("m/1/model.onnx", models::plus(1.0))], polling).await;
    write(server.repository(), "m/2/model.onnx", b"");
    eventually("the failure is told", async || {
        state(&server, "m", "2").await == Some(("UNAVAILABLE".into(), "the file is empty".into()))
    })
    .await;
    assert_eq!(
        state(&server, "m", "1").await,
        Some(("READY".into(), String::new()))
    );
    assert_eq!(answer(&server, "/v2/models/m").await, Some(1.0));
    let refused = server.get("/v2/models/m/versions/2/ready").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["ready"], false);
    assert!(server.process.readiness().is_ready());
    write(server.repository(), "m/2/model.onnx", &models::plus(2.0));
    serves(&server, 2.0).await;
}

#[tokio::test]
async fn half_a_file_waits_for_its_other_half() {
    let server = TestServer::start_with(&[("m/1/model.onnx", models::plus(1.0))], polling).await;
    let whole = models::plus(2.0);
    let (half, rest) = whole.split_at(whole.len() / 2);
    let file = server.repository().join("m/2/model.onnx");
    write(server.repository(), "m/2/model.onnx", half);
    looked(&server, "sentinel").await;
    assert_eq!(answer(&server, "/v2/models/m").await, Some(1.0));
    let mut writer = std::fs::OpenOptions::new().append(true).open(file).unwrap();
    std::io::Write::write_all(&mut writer, rest).unwrap();
    serves(&server, 2.0).await;
}

#[tokio::test]
async fn touching_a_file_loads_nothing() {
    let server = TestServer::start_with(&[("m/model.onnx", models::plus(1.0))], polling).await;
    let before = loads(&server);
    for sentinel in ["one", "two"] {
        write(server.repository(), "m/model.onnx", &models::plus(1.0));
        write(
            server.repository(),
            "m/model.toml",
            format!("# {sentinel}\n").as_bytes(),
        );
        looked(&server, sentinel).await;
    }
    assert_eq!(loads(&server), before);
    write(server.repository(), "m/model.toml", b"instances = 1\n");
    eventually("the model is loaded again", async || loads(&server) > before).await;
    assert_eq!(answer(&server, "/v2/models/m").await, Some(1.0));
}

#[tokio::test]
async fn a_kubernetes_volume_is_swapped_whole() {
    use std::os::unix::fs::symlink;

    let models = tempfile::tempdir().unwrap();
    let root = models.path();
    write(root, "m/..one/model.onnx", &models::plus(1.0));
    symlink("..one", root.join("m/..data")).unwrap();
    symlink("..data/model.onnx", root.join("m/model.onnx")).unwrap();
    let server = TestServer::begin_in(models, polling).await;
    serves(&server, 1.0).await;
    let root = server.repository();
    write(root, "m/..two/model.onnx", &models::plus(2.0));
    symlink("..two", root.join("m/..data_tmp")).unwrap();
    std::fs::rename(root.join("m/..data_tmp"), root.join("m/..data")).unwrap();
    std::fs::remove_dir_all(root.join("m/..one")).unwrap();
    serves(&server, 2.0).await;
}

#[tokio::test]
async fn weights_in_files_of_their_own_are_part_of_the_model() {
    let weights = |number: f32| [number, number].map(f32::to_le_bytes).concat();
    let files = [
        ("w/model.onnx", models::external_weights()),
        ("w/weights.bin", weights(1.0)),
    ];
    let server = TestServer::start_with(&files, polling).await;
    let root = server.repository();
    let sum = async || {
        let body = serde_json::json!({"inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}
        ]});
        let answer = server.post("/v2/models/w/infer", body.to_string()).await;
        answer.json()["outputs"][0]["data"][0].as_f64()
    };
    assert_eq!(sum().await, Some(1.0));
    // Cut short under a running model, as a copy that begins anew does.
    write(root, "w/weights.bin", b"\0\0");
    eventually("the failure is told", async || {
        let (_, reason) = state(&server, "w", "1").await.unwrap_or_default();
        reason.starts_with("update failed")
    })
    .await;
    assert_eq!(sum().await, Some(1.0));
    write(root, "w/weights.bin", &weights(5.0));
    eventually("the new weights are served", async || sum().await == Some(5.0)).await;
}

#[tokio::test]
async fn version_policies_choose_and_change() {
    let files = [
        ("m/1/model.onnx", models::plus(1.0)),
        ("m/2/model.onnx", models::plus(2.0)),
        ("m/3/model.onnx", models::plus(3.0)),
    ];
    let server = TestServer::start_with(&files, |config| {
        polling(config);
        config.repository.version_policy = VersionPolicy::All;
    })
    .await;
    let root = server.repository();
    let versions = async || server.get("/v2/models/m").await.json()["versions"].to_string();
    assert_eq!(versions().await, r#"["1","2","3"]"#);
    write(root, "m/model.toml", b"version_policy = { specific = [1, 2] }\n");
    eventually("1 and 2 are served", async || versions().await == r#"["1","2"]"#).await;
    assert_eq!(answer(&server, "/v2/models/m").await, Some(2.0));
    write(root, "m/model.toml", b"[version_policy]\nlatest = 2\n");
    eventually("2 and 3 are served", async || versions().await == r#"["2","3"]"#).await;
    write(root, "m/model.toml", b"version_policy = { specific = [3, 7] }\n");
    eventually("the missing one is told", async || {
        let (_, reason) = state(&server, "m", "3").await.unwrap_or_default();
        reason.contains("asks for version 7")
    })
    .await;
    assert_eq!(answer(&server, "/v2/models/m").await, Some(3.0));
}

#[tokio::test]
async fn a_repository_that_cannot_be_read_leaves_everything_serving() {
    let server = TestServer::start_with(&[("m/model.onnx", models::plus(1.0))], polling).await;
    let away = server.repository().with_extension("away");
    std::fs::rename(server.repository(), &away).unwrap();
    // Nothing tells that the files were looked at; a model that comes with them is served two looks after they are back.
    for _ in 0..50 {
        assert_eq!(answer(&server, "/v2/models/m").await, Some(1.0));
    }
    std::fs::rename(&away, server.repository()).unwrap();
    looked(&server, "sentinel").await;
    assert_eq!(loads(&server), 1.0);
}
