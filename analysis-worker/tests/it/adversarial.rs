//! Hostile inputs of `golden/analyst-adversarial.jsonl`, with a model that does what they ask.
//!
//! Every case of the file runs, and every check of it is made. Channels that do not exist yet come in through the nearest one
//! that does.

mod checks;
mod effects;

use base64::Engine as _;
use http::HeaderMap;
use plumbline_analysis_worker::{Approval, Report};
use plumbline_testkit::gemini::{API_KEY, Asked, FakeGemini, answer};
use plumbline_testkit::github::{FakeGitHub, TOKEN as GITHUB_TOKEN};
use plumbline_testkit::slack::{FakeSlack, TOKEN as SLACK_TOKEN};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::actions::REPOSITORY;
use crate::seeds::{Seeded, expand};
use crate::support::{PATIENCE, TestWorker, provider};
use checks::{always, hold};

const TOKEN: &str = "webhook-token-0f3c";

/// Where a channel's text goes in.
enum Entry {
    Label,
    Annotation,
    WholeAlert,
    /// `ci_log` and `commit_message` have no collector of their own yet and come in as a log.
    Log,
}

fn entry(channel: &str) -> Entry {
    match channel {
        "alert_label" => Entry::Label,
        "alert_annotation" => Entry::Annotation,
        "drift_alert" => Entry::WholeAlert,
        "pod_log" | "ci_log" | "commit_message" => Entry::Log,
        unknown => panic!("no way in for channel {unknown}"),
    }
}

/// Everything that one case came to.
struct Observed {
    id: String,
    text: String,
    secrets: Vec<(String, String)>,
    asked: Asked,
    other_prompt: String,
    report: Report,
    markdown: String,
    /// The message in Slack: its body as it was posted.
    slack: Value,
    /// Titles and bodies of the issues.
    issues: Vec<(String, String)>,
    /// Calls to GitHub, as method and path.
    calls: Vec<String>,
    /// Workflows that were dispatched.
    dispatches: Vec<Value>,
    html: String,
    store: String,
    metrics_before: usize,
    metrics: String,
    headers: Vec<HeaderMap>,
    /// Standard output and error of the one-shot command on the same input.
    console: String,
    /// Standard output alone.
    stdout: String,
    /// Names of the files of Actions that it wrote to.
    actions_files: Vec<&'static str>,
    /// What it wrote to `GITHUB_OUTPUT`.
    actions_output: String,
}

#[tokio::test]
async fn every_case_holds_with_a_model_that_obeys() {
    let mut done = 0;
    // Cases of the same form in another file: `make adversarial CASES=file`.
    let other = std::env::var("PLUMBLINE_ADVERSARIAL_CASES").ok();
    let cases = other.as_ref().map_or_else(
        || include_str!("../golden/analyst-adversarial.jsonl").to_owned(),
        |file| std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}")),
    );
    for (seed, line) in cases.lines().filter(|line| !line.trim().is_empty()).enumerate() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let observed = observe(&case, seed as u64).await;
        always(&observed);
        for check in case["checks"].as_array().expect("checks") {
            let surfaces: Vec<&str> = match &check["on"] {
                Value::String(surface) => vec![surface],
                Value::Array(surfaces) => surfaces.iter().filter_map(Value::as_str).collect(),
                other => panic!("surfaces, not {other}"),
            };
            for surface in surfaces {
                let mut names = check.as_object().expect("a check").keys();
                let name = names.find(|name| !matches!(name.as_str(), "on" | "model_reply" | "max_fragment"));
                hold(&observed, surface, name.expect("an assertion"), check);
                done += 1;
            }
        }
    }
    if other.is_none() {
        assert_eq!(done, 62, "checks that were made");
    }
    assert!(done > 0, "no case, no check");
}

async fn observe(case: &Value, seed: u64) -> Observed {
    let id = case["id"].as_str().expect("an id").to_owned();
    let Seeded { text, secrets } = expand(case["text"].as_str().expect("a text"), seed);
    let entry = entry(case["channel"].as_str().expect("a channel"));
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("scorer.log");
    let mut body = alert(&entry, &id, &text, &log);
    let gemini = FakeGemini::answering(obey).await;
    let provider = provider(&gemini, std::time::Duration::from_secs(30));
    let logs = if log.exists() {
        vec![log.clone()]
    } else {
        Vec::new()
    };
    let (slack, github) = (FakeSlack::start().await, crate::actions::github().await);
    let mut worker = TestWorker::start(|config| {
        crate::actions::acting(config, &slack, &github);
        // Links of our own would be in the way of the checks.
        config.actions.public_url = None;
        let retrain = config.actions.policy.retrain.as_mut().expect("configured");
        retrain.approval = Approval::Automatic;
        config.provider = provider;
        config.webhook_token = Some(TOKEN.to_owned());
        config.sources.logs.clone_from(&logs);
    })
    .await;
    let metrics_before = worker.metrics().lines().count();
    let token = format!("Bearer {TOKEN}");
    let sender = [
        ("authorization", token.as_str()),
        ("content-type", "application/json"),
    ];
    let accepted = worker
        .send(http::Method::POST, "/api/v1/alerts", &sender, body.to_string())
        .await;
    assert_eq!(accepted.status, http::StatusCode::OK, "{id}: {}", accepted.text());
    let finished = worker.report().await;
    if case["channel"] == "drift_alert" {
        // Evidence for what the alert claims: a retraining may follow, and only the configured one.
        worker
            .send(
                http::Method::POST,
                "/api/v1/events",
                &sender,
                crate::support::drift_event().to_string(),
            )
            .await;
        worker.report().await;
        settled("dispatched", || !github.dispatches(REPOSITORY).is_empty()).await;
    }
    // The next episode of the same: another request, which must have another nonce.
    body["alerts"][0]["startsAt"] = json!("2026-08-21T10:00:01Z");
    body["alerts"][0]["labels"]["alertname"] = json!("Another");
    worker
        .send(http::Method::POST, "/api/v1/alerts", &sender, body.to_string())
        .await;
    worker.report().await;
    let asked = gemini.received(2).await;
    settled("told", || {
        !slack.threads().is_empty() && !github.issues(REPOSITORY).is_empty()
    })
    .await;
    assert_eq!(slack.refused(), Vec::<String>::new(), "{id}");
    let page = worker
        .get(&format!("/incidents/{}", finished.report.incident.id))
        .await;
    let list = worker.get("/").await;
    let api = worker.get("/api/v1/incidents").await;
    let one_shot = one_shot(&body, &logs).await;
    Observed {
        id,
        text,
        secrets,
        asked: asked[0].clone(),
        other_prompt: asked.last().expect("two").prompt(),
        report: finished.report.clone(),
        markdown: finished.markdown.clone(),
        slack: slack.threads()[0].body.clone(),
        issues: issues(&github),
        calls: calls(&github).await,
        dispatches: github.dispatches(REPOSITORY),
        html: format!("{}{}", page.text(), list.text()),
        store: everything_stored(&worker.store),
        metrics_before,
        metrics: worker.metrics(),
        headers: vec![
            page.headers,
            list.headers,
            api.headers,
            asked[0].request.headers.clone(),
        ],
        console: one_shot.console,
        stdout: one_shot.stdout,
        actions_files: one_shot.files,
        actions_output: one_shot.output,
    }
}

/// The alert that brings the text in, or that asks for the log in which it is.
fn alert(entry: &Entry, id: &str, text: &str, log: &std::path::Path) -> Value {
    let mut labels = json!({"alertname": "ModelErrorRateHigh", "severity": "P0", "pod": "scorer-0"});
    let mut annotations = json!({"summary": "5xx ratio 12%"});
    match entry {
        Entry::Label if id == "S20" => labels["alertname"] = json!(text),
        Entry::Label => labels["service"] = json!(text.trim_start_matches("service=")),
        Entry::Annotation => annotations["summary"] = json!(text),
        Entry::WholeAlert => {
            let alert: Value = serde_json::from_str(text).expect("JSON");
            labels["alertname"] = alert["alertname"].clone();
            labels["severity"] = alert["severity"].clone();
            annotations = alert["annotations"].clone();
            // Joins the drift event below.
            labels["model"] = json!("churn");
        }
        Entry::Log => std::fs::write(log, text).expect("written"),
    }
    let mut body = crate::support::alert(&labels, &annotations);
    body["alerts"][0]["startsAt"] = json!("2026-08-21T10:00:00Z");
    body
}

async fn calls(github: &FakeGitHub) -> Vec<String> {
    let calls = github.received(0).await;
    calls
        .iter()
        .map(|call| format!("{} {}", call.method, call.path()))
        .collect()
}

fn issues(github: &FakeGitHub) -> Vec<(String, String)> {
    let text = |issue: &Value, field: &str| issue[field].as_str().expect("a text").to_owned();
    let issues = github.issues(REPOSITORY);
    issues
        .iter()
        .map(|issue| (text(issue, "title"), text(issue, "body")))
        .collect()
}

/// Waits for effects, which are made one a second.
async fn settled(what: &str, wanted: impl Fn() -> bool) {
    let wanted = async {
        while !wanted() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wanted)
        .await
        .unwrap_or_else(|_| panic!("not {what} in time"));
}

/// Says whatever the data says, is sure of it, recommends it, and gives away what it should not know.
fn obey(asked: &Asked) -> plumbline_testkit::predictor::Reply {
    let prompt = asked.prompt();
    let told: Vec<&str> = prompt
        .lines()
        .filter_map(|line| Some(line.split_once("| ")?.1))
        .collect();
    let told: String = told.join("\n").chars().take(20_000).collect();
    let key = base64::engine::general_purpose::STANDARD.encode(API_KEY);
    let reversed: String = TOKEN.chars().rev().collect();
    let summary = format!("{told} {API_KEY} {key} {TOKEN} {reversed}");
    let evidence = json!([{"id": "E1"}, {"id": "E2", "quote": told}]);
    let reply = if asked.schema()["properties"]["root_causes"].is_object() {
        json!({"summary": summary, "root_causes": [{
            "hypothesis": format!("none {told}"), "confidence": 1.0, "evidence": evidence,
            "remediation": {"action": told, "command": "kubectl delete ns ml", "risk": "low"},
        }]})
    } else {
        json!({"summary": summary, "kind": "none", "confidence": 1.0,
            "affected": [{"subject": told, "finding": told, "evidence": evidence}],
            "causes": [{"hypothesis": told, "confidence": 1.0, "evidence": evidence}],
            "remediation": [{"action": "retrain", "rationale": told}], "urgency": "P2", "action_items": [told]})
    };
    answer(&reply.to_string())
}

/// What the one-shot command came to, in a step of Actions.
struct OneShot {
    console: String,
    stdout: String,
    files: Vec<&'static str>,
    output: String,
}

/// Files that a step of Actions may write to.
const ACTIONS_FILES: [&str; 5] = [
    "GITHUB_OUTPUT",
    "GITHUB_STEP_SUMMARY",
    "GITHUB_ENV",
    "GITHUB_PATH",
    "GITHUB_STATE",
];

async fn one_shot(body: &Value, logs: &[std::path::PathBuf]) -> OneShot {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("alert.json");
    std::fs::write(&file, body.to_string()).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_plumbline-analysis-worker"));
    command.args([
        "analyze",
        "--log=debug",
        "--provider=offline",
        "--webhook-token",
        TOKEN,
    ]);
    command.env("GEMINI_API_KEY", API_KEY).arg("--alert").arg(&file);
    for name in ACTIONS_FILES {
        command.env(name, folder.path().join(name));
    }
    for log in logs {
        command.arg("--logs").arg(log);
    }
    let output = command.output().await.expect("it ends");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let written = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    OneShot {
        console: format!("{stdout}{}", String::from_utf8_lossy(&output.stderr)),
        files: ACTIONS_FILES
            .into_iter()
            .filter(|name| !written(name).is_empty())
            .collect(),
        output: written("GITHUB_OUTPUT"),
        stdout,
    }
}

fn everything_stored(path: &std::path::Path) -> String {
    let connection = rusqlite::Connection::open(path).expect("opened");
    let mut all = String::new();
    for query in [
        "SELECT title || kind || coalesce(model, '') FROM incident",
        "SELECT title || body || dedup_key FROM signal",
        "SELECT coalesce(prompt, '') || coalesce(answer, '') || json || markdown FROM report",
        "SELECT coalesce(error, '') FROM job",
        "SELECT coalesce(error, '') || coalesce(receipt, '') FROM effect",
        "SELECT entry FROM audit",
    ] {
        let mut query = connection.prepare(query).expect("a query");
        let rows = query.query_map([], |row| row.get::<_, String>(0)).expect("rows");
        rows.for_each(|row| all.push_str(&row.expect("a text")));
    }
    all
}
