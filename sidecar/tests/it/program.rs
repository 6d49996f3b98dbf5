//! The sidecar as a program: what it says before it starts, and instead.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use plumbline_testkit::predictor::{FakePredictor, RefusingPort};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::harness::{h1, post};

fn sidecar(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_plumbline-sidecar"));
    program.args(arguments).output().expect("started")
}

#[test]
fn a_profile_that_was_asked_for_must_be_there_and_valid() {
    let directory = tempfile::tempdir().expect("a directory");
    let bad = directory.path().join("bad.json");
    std::fs::write(&bad, "{}").expect("written");
    let bad = bad.to_str().expect("text");
    let output = sidecar(&[
        "--profile",
        "/nonexistent.json",
        "--profile",
        bad,
        "--window-rows",
        "5",
    ]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for expected in [
        "3 problems",
        "/nonexistent.json",
        bad,
        "expected a reference profile",
        "window_rows",
    ] {
        assert!(text.contains(expected), "missing {expected:?} in:\n{text}");
    }
}

#[test]
fn a_valid_configuration_is_said_to_be_one() {
    let output = sidecar(&[
        "--check-config",
        "--upstream",
        "http://127.0.0.1:1",
        "--events-to",
        "http://worker:8090",
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = sidecar(&["--check-config", "--upstream", "ftp://model"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[tokio::test]
async fn a_port_in_use_is_told() {
    let port = RefusingPort::new();
    let address = port.address().to_string();
    let output = tokio::task::spawn_blocking(move || {
        sidecar(&[
            "--listen",
            &address,
            "--admin-listen",
            "127.0.0.1:0",
            "--log",
            "error",
        ])
    });
    let output = output.await.expect("run");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot listen on"), "{text}");
}

#[tokio::test]
async fn sigterm_drains_and_ends_with_success() {
    let predictor = FakePredictor::echo().await;
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_plumbline-sidecar"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--drain-delay",
            "0s",
        ])
        .args(["--upstream", &predictor.url(), "--log-format", "json"])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(program.stderr.take().expect("piped")).lines();
    let mut address: Option<SocketAddr> = None;
    while address.is_none() {
        let line = lines.next_line().await.expect("a line").expect("more to say");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        if line["message"] == "listening" && line["port"] == "data" {
            address = line["address"].as_str().and_then(|address| address.parse().ok());
        }
    }
    let answer = h1(address.expect("told"), post("/echo", "text/plain", "rows")).await;
    assert_eq!(answer.body, "rows");
    let id = program.id().expect("running").to_string();
    let killed = tokio::process::Command::new("kill")
        .args(["-TERM", &id])
        .status()
        .await
        .expect("run");
    assert!(killed.success());
    assert!(program.wait().await.expect("ended").success());
}
