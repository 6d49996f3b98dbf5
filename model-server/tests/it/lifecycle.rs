//! How models come and go: at the start, by their files, by request, and under load.

mod explicit;
mod poll;
mod process;
mod start;
mod under_load;

use std::path::Path;
use std::time::Duration;

use plumbline_model_server::{Config, ModelControl};
use serde_json::json;

use crate::models;
use crate::support::{TestServer, eventually};

/// Looks at the files as often as it may.
fn polling(config: &mut Config) {
    config.repository.control = ModelControl::Poll;
    config.repository.poll_interval = Duration::from_millis(10);
}

/// What the model `m` adds to 0; `None` when it does not answer.
async fn answer(server: &TestServer, path: &str) -> Option<f64> {
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [0]}]});
    let answer = server.post(&format!("{path}/infer"), body.to_string()).await;
    if answer.status != 200 {
        return None;
    }
    answer.json()["outputs"][0]["data"][0].as_f64()
}

async fn serves(server: &TestServer, number: f64) {
    eventually(&format!("m adds {number}"), async || {
        answer(server, "/v2/models/m").await == Some(number)
    })
    .await;
}

fn write(root: &Path, file: &str, bytes: &[u8]) {
    let path = root.join(file);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
    std::fs::write(path, bytes).expect("written");
}

/// Waits until the files were looked at often enough for anything to be noticed: a model that comes is served after
/// two looks.
async fn looked(server: &TestServer, sentinel: &str) {
    write(
        server.repository(),
        &format!("{sentinel}/model.onnx"),
        &models::plus(1.0),
    );
    let path = format!("/v2/models/{sentinel}/ready");
    eventually("the files are looked at", async || {
        server.get(&path).await.status == 200
    })
    .await;
}

/// State and reason of a version in the index.
async fn state(server: &TestServer, name: &str, version: &str) -> Option<(String, String)> {
    let lines = server.index().await;
    lines
        .into_iter()
        .find(|[line, number, ..]| line == name && number == version)
        .map(|[_, _, state, reason]| (state, reason))
}

fn loads(server: &TestServer) -> f64 {
    let series = "plumbline_server_model_load_duration_seconds_count{model=\"m\"}";
    server.metric(series).unwrap_or_default()
}
