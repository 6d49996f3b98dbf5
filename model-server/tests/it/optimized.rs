//! The cache of optimized models: used when it is whole, rewritten when it is not, never a reason to fail.

use std::path::{Path, PathBuf};

use http::StatusCode;
use serde_json::json;

use crate::models::{Dim, FLOAT, Graph, node, tensor_type, value};
use crate::support::TestServer;

/// A graph of 120 nodes: `y` = cosine of the sine of … of `x`.
fn deep() -> Vec<u8> {
    let names: Vec<String> = (0..120).map(|at| format!("v{at}")).collect();
    let mut nodes = Vec::new();
    let mut before = "x";
    for (at, name) in names.iter().enumerate() {
        let op = if at % 2 == 0 { "Sin" } else { "Cos" };
        nodes.push(node(op, "", &[before], &[name], &[]));
        before = name;
    }
    Graph {
        initializers: Vec::new(),
        nodes,
        inputs: vec![value("x", tensor_type(FLOAT, &[Dim::Name("N")]))],
        outputs: vec![value(before, tensor_type(FLOAT, &[Dim::Name("N")]))],
    }
    .model()
}

async fn answer(cache: Option<&Path>) -> serde_json::Value {
    let server = TestServer::start_with(&[("deep/model.onnx", deep())], |config| {
        config.optimized_models = cache.map(Path::to_owned);
    })
    .await;
    let answer = server
        .post(
            "/v1/models/deep:predict",
            json!({"instances": [0.5, 1.5]}).to_string(),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[tokio::test]
async fn an_optimized_model_answers_the_same_and_a_damaged_one_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    let expected = answer(None).await;
    assert_eq!(answer(Some(&cache)).await, expected);
    let kept = entries(&cache);
    assert_eq!(kept.len(), 1, "{kept:?}");
    let whole = std::fs::read(&kept[0]).unwrap();
    assert_eq!(answer(Some(&cache)).await, expected);
    std::fs::write(&kept[0], &whole[..whole.len() / 2]).unwrap();
    assert_eq!(answer(Some(&cache)).await, expected);
    assert_eq!(entries(&cache), kept);
    assert_eq!(std::fs::read(&kept[0]).unwrap(), whole);
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_done_without() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(answer(Some(&file.path().join("below"))).await, answer(None).await);
}
