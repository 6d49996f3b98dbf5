//! One file in, one report out.

use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::alert;

pub(crate) async fn run(arguments: &[&str]) -> Output {
    run_with(arguments, &[]).await
}

/// With these variables, and none of those that a workflow or a person may have set.
pub(crate) async fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plumbline-analysis-worker"));
    for name in [
        "GEMINI_API_KEY",
        "GITHUB_TOKEN",
        "GITHUB_API_URL",
        "GITHUB_STEP_SUMMARY",
    ] {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .await
        .expect("it ends")
}

fn golden(name: &str) -> String {
    format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn a_drift_event_becomes_markdown_or_json() {
    let file = golden("drift-detected.json");
    let output = run(&["drift", "--event", &file]).await;
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.starts_with("# P0 churn: Contract"), "{text}");
    for expected in [
        "Kind: **data drift**",
        "Month-to-month 55.0 % → 91.2 %",
        "Retrain",
        "1. The population changed",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let output = run(&["drift", "--event", &file, "--format=json"]).await;
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["schema"], "plumbline.report.v1");
    assert!(
        report["findings"]["causes"]
            .as_array()
            .is_some_and(|causes| causes.len() >= 3)
    );
}

#[tokio::test]
async fn a_notification_with_two_incidents_becomes_two_reports() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("alert.json");
    let mut body = alert(&json!({"alertname": "LatencyHigh", "service": "a"}), &json!({}));
    body["alerts"]
        .as_array_mut()
        .expect("alerts")
        .push(json!({"labels": {"alertname": "DiskFull", "service": "b"}}));
    std::fs::write(&file, body.to_string()).expect("written");
    let output = run(&[
        "analyze",
        "--format=json",
        "--alert",
        file.to_str().expect("a path"),
    ])
    .await;
    assert_eq!(output.status.code(), Some(0));
    let reports: Vec<Value> = String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[0]["incident"]["kind"], "LatencyHigh");
}

#[tokio::test]
async fn a_log_is_fitted_without_its_secrets_and_beside_a_good_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a path").to_owned();
    let usual = "INFO fetched layer 17\nwarning: cache is cold\n";
    std::fs::write(path("good.log"), usual.repeat(20)).expect("written");
    let failed = format!(
        "{}\u{1b}[31merror: push refused for jo@example.org\u{1b}[0m\n",
        usual.repeat(20)
    );
    std::fs::write(path("failed.log"), failed).expect("written");
    let failed = path("failed.log");
    let good = path("good.log");
    let output = run(&["fit", "--file", &failed, "--good-log", &good, "--log-budget=200"]).await;
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("41: error: push refused for [REDACTED:email:1]\n"),
        "{text}"
    );
    assert!(text.starts_with('…') && text.lines().count() < 20, "{text}");
}

#[tokio::test]
async fn what_cannot_be_used_is_a_failure_with_a_reason() {
    for (arguments, status, expected) in [
        (
            &["divine", "--run", "a/b/1"][..],
            2,
            "there is no command `divine`",
        ),
        (&["analyze"], 2, "alert: is required"),
        (
            &["analyze", "--alert", "/nonexistent.json"],
            1,
            "/nonexistent.json: No such file",
        ),
        (
            &["drift", "--event", &golden("wire-captures.jsonl")],
            1,
            "not JSON",
        ),
        (
            &["analyze", "--alert", &golden("drift-detected.json")],
            1,
            "missing field `alerts`",
        ),
        (
            &[
                "serve",
                "--store",
                "/proc/none/worker.db",
                "--listen=127.0.0.1:0",
                "--admin-listen=127.0.0.1:0",
            ],
            1,
            "cannot make /proc/none",
        ),
        (&["fit"], 2, "file: is required"),
        (&["--provider=gemini", "--analyses=0"], 2, "2 problems"),
    ] {
        let output = run(arguments).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}
