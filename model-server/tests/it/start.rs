//! Starts that must not succeed: each says in one screen what is wrong and what to do.

use std::path::Path;

use crate::models::{self, Dim};
use crate::support::{config, models as directory, start_error};

async fn refused(files: &[(&str, Vec<u8>)]) -> String {
    let directory = directory(files);
    let error = start_error(config(directory.path())).await;
    assert!(error.lines().count() <= 12, "more than a screen:\n{error}");
    error
}

#[tokio::test]
async fn a_bad_file_is_named_with_its_fault() {
    let whole = models::simple();
    let truncated = whole[..whole.len() / 2].to_vec();
    let sequence = "input `parts` is seq(tensor(float)), and a tensor is all that the protocol carries";
    for (bytes, fault) in [
        (Vec::new(), "the file is empty"),
        (truncated, "the file is truncated"),
        (b"this is a text file\n".to_vec(), "the file is not an ONNX model"),
        (models::sequence_input(), sequence),
        (
            models::identity(14, &[Dim::Any]),
            "input `x` is tensor(complex64), a datatype that the protocol does not",
        ),
    ] {
        let error = refused(&[("bad/model.onnx", bytes)]).await;
        assert!(
            error.contains(fault) && error.contains("`bad`") && error.contains("bad/model.onnx"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_model_newer_than_the_library_is_told_both_versions() {
    let identity = || models::Graph {
        initializers: Vec::new(),
        nodes: vec![models::node("Identity", "", &["x"], &["y"], &[])],
        inputs: vec![models::value(
            "x",
            models::tensor_type(models::FLOAT, &[Dim::Any]),
        )],
        outputs: vec![models::value(
            "y",
            models::tensor_type(models::FLOAT, &[Dim::Any]),
        )],
    };
    let error = refused(&[("new/model.onnx", identity().into_model(99, 15))]).await;
    assert!(
        error.contains("IR version is 99, ONNX Runtime 1.") && error.contains("reads up to"),
        "{error}"
    );
    let error = refused(&[("new/model.onnx", identity().into_model(8, 99))]).await;
    assert!(
        error.contains("opset of ai.onnx is 99, ONNX Runtime 1.") && error.contains("supports up to"),
        "{error}"
    );
}

#[tokio::test]
async fn every_model_that_fails_is_told_at_once_and_none_is_served() {
    let error = refused(&[
        ("empty/model.onnx", Vec::new()),
        ("good/model.onnx", models::simple()),
        ("text/model.onnx", b"text".to_vec()),
    ])
    .await;
    assert!(error.starts_with("2 models cannot be served"), "{error}");
    assert!(
        error.contains("`empty`") && error.contains("`text`") && !error.contains("`good`"),
        "{error}"
    );
}

#[tokio::test]
async fn places_without_one_clear_model_are_refused() {
    let error = start_error(config(Path::new("/nonexistent/models"))).await;
    assert!(
        error.contains("/nonexistent/models") && error.contains("no such file or directory"),
        "{error}"
    );
    let error = refused(&[("notes.txt", b"x".to_vec())]).await;
    assert!(error.contains("holds no .onnx file"), "{error}");
    let error = refused(&[("a.onnx", models::simple()), ("b.onnx", models::simple())]).await;
    assert!(error.contains("`a.onnx`, `b.onnx`; expected one"), "{error}");
    let twice = directory(&[("a/m.onnx", models::simple()), ("b/m.onnx", models::simple())]);
    let error = start_error(config(twice.path())).await;
    assert!(
        error.contains("`m`") && error.contains("the name is taken"),
        "{error}"
    );
}

#[tokio::test]
async fn model_toml_names_configures_and_is_checked() {
    let toml = |text: &str| ("m/model.toml", text.as_bytes().to_vec());
    let model = ("m/model.onnx", models::simple());
    let error = refused(&[toml("instnces = 1"), model.clone()]).await;
    assert!(
        error.contains("model.toml: line 1: unknown field `instnces`"),
        "{error}"
    );
    let error = refused(&[toml("[class_labels]\nnope = [\"a\"]"), model.clone()]).await;
    assert!(error.contains("the model has no output `nope`"), "{error}");
    let error = refused(&[toml("[class_labels]\nOUTPUT0 = [\"a\"]"), model.clone()]).await;
    assert!(
        error.contains("output `OUTPUT0` has 4 classes, got 1 labels"),
        "{error}"
    );
    let files = [toml("name = \"renamed\"\ninstances = 2\nwarmup = false"), model];
    let server = crate::support::TestServer::start(&files).await;
    assert_eq!(server.get("/v2/models/renamed/ready").await.status, 200);
}

#[tokio::test]
async fn a_missing_or_wrong_library_stops_the_start_before_any_model() {
    let nothing = directory(&[]);
    let text = directory(&[("libonnxruntime.so", b"not a library".to_vec())]);
    for (library, fault) in [
        (
            Path::new("/nonexistent/libonnxruntime.so").to_owned(),
            "no such file",
        ),
        (text.path().join("libonnxruntime.so"), "cannot be loaded"),
    ] {
        let mut config = config(nothing.path());
        config.onnxruntime = Some(library.clone());
        let error = start_error(config).await;
        for part in [
            fault,
            "version 1.31 or newer",
            "make setup",
            &library.display().to_string(),
        ] {
            assert!(error.contains(part), "missing {part:?} in:\n{error}");
        }
        assert!(error.lines().count() <= 12, "more than a screen:\n{error}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_told_before_anything_is_loaded() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(Path::new("/nonexistent/models"));
    config.common.listen = taken.local_addr().unwrap();
    let error = start_error(config).await;
    assert!(
        error.contains(&taken.local_addr().unwrap().to_string()) && error.contains("another process"),
        "{error}"
    );
}
