//! What was done about an incident, what came of it, and what the next one gets of it.

use std::time::Duration;

use http::{Method, StatusCode};
use plumbline_analysis_worker::{Sidecar, Source};
use plumbline_testkit::gemini::{API_KEY, FakeGemini, answer};
use plumbline_testkit::predictor::{FakePredictor, Reply};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{PATIENCE, TestWorker, alert, drift_event};

async fn worker() -> TestWorker {
    TestWorker::start(|config| {
        config.recovered_after = Duration::from_millis(50);
        // The next episode is an incident of its own.
        config.actions.policy.reopen_window = Duration::ZERO;
    })
    .await
}

fn of_churn(starts_at: &str, ends_at: Option<&str>) -> Value {
    let mut body = alert(&json!({"alertname": "ErrorRate", "model": "churn"}), &json!({}));
    body["alerts"][0]["startsAt"] = json!(starts_at);
    if let Some(ends_at) = ends_at {
        body["alerts"][0]["status"] = json!("resolved");
        body["alerts"][0]["endsAt"] = json!(ends_at);
    }
    body
}

/// The interventions of an incident, once `wanted` holds for them.
async fn interventions(worker: &TestWorker, id: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let incident = worker.get(&format!("/api/v1/incidents/{id}")).await.json();
            let done = incident["interventions"].as_array().expect("a list").clone();
            if wanted(&done) {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("in time")
}

async fn tell(worker: &TestWorker, id: &str, told: &Value) -> crate::support::Answer {
    worker
        .post(&format!("/api/v1/incidents/{id}/interventions"), told.to_string())
        .await
}

#[tokio::test]
async fn what_helped_is_evidence_for_the_next_incident() {
    let mut worker = worker().await;
    let first = of_churn("2026-11-22T22:00:00Z", None).to_string();
    let id = worker.post("/api/v1/alerts", first).await.json()["incidents"][0]
        .as_str()
        .expect("an incident")
        .to_owned();
    worker.report().await;
    let told =
        json!({"kind": "rollback", "actor": "ana", "note": "version 6 again", "at": "2026-11-22T22:10:00Z"});
    let answer = tell(&worker, &id, &told).await;
    assert_eq!(
        (answer.status, &answer.json()["new"]),
        (StatusCode::OK, &json!(true)),
        "{}",
        answer.text()
    );
    assert_eq!(
        tell(&worker, &id, &told).await.json()["new"],
        json!(false),
        "told twice"
    );

    let over = of_churn("2026-11-22T22:00:00Z", Some("2026-11-22T22:22:00Z")).to_string();
    worker.post("/api/v1/alerts", over).await;
    let done = interventions(&worker, &id, |done| done[0]["outcome"] != "watching").await;
    assert_eq!(
        (done.len(), &done[0]["outcome"], &done[0]["kind"]),
        (1, &json!("recovered"), &json!("rollback"))
    );
    let metrics = worker.metrics();
    assert!(
        metrics.contains(r#"plumbline_worker_interventions_total{kind="rollback",outcome="recovered"} 1"#),
        "{metrics}"
    );
    let page = worker.get(&format!("/incidents/{id}")).await.text();
    assert!(
        page.contains("What was done") && page.contains("version 6 again"),
        "{page}"
    );

    let again = of_churn("2026-11-23T22:00:00Z", None).to_string();
    let next = worker.post("/api/v1/alerts", again).await.json()["incidents"][0]
        .as_str()
        .expect("an incident")
        .to_owned();
    assert_ne!(next, id);
    let finished = worker.report().await;
    let report = &finished.report;
    let fact = report
        .evidence
        .iter()
        .find(|fact| fact.source == Source::PastIncident);
    let fact = fact.expect("the incident before");
    for expected in [
        "1.0 days before this one",
        "lasted: 22 min",
        "done: rolled back (version 6 again): recovered 12 min later",
    ] {
        assert!(fact.content.contains(expected), "{expected}: {}", fact.content);
    }
    assert!(
        finished
            .markdown
            .contains("as then: rolled back (version 6 again)"),
        "{}",
        finished.markdown
    );
}

#[tokio::test]
async fn an_incident_that_ends_alone_is_known_as_such() {
    let mut worker = worker().await;
    let id = worker
        .alert(&json!({"alertname": "ErrorRate", "model": "churn"}), &json!({}))
        .await;
    worker.report().await;
    let mut over = alert(&json!({"alertname": "ErrorRate", "model": "churn"}), &json!({}));
    over["alerts"][0]["status"] = json!("resolved");
    over["alerts"][0]["endsAt"] = json!("2026-11-22T22:05:00Z");
    worker.post("/api/v1/alerts", over.to_string()).await;
    let done = interventions(&worker, &id, |done| {
        done.iter().any(|done| done["outcome"] == "recovered")
    })
    .await;
    assert_eq!((done.len(), &done[0]["kind"]), (1, &json!("none")));
    let answer = tell(&worker, &id, &json!({"kind": "fix", "actor": "ana"})).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(
        answer.text().contains("was over at 2026-11-22T22:05:00Z"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn another_version_of_a_drifting_model_is_a_rollout() {
    let mut overview = json!({"models": [drift_event()["data"]["report"]]});
    overview["models"][0]["version"] = json!("2");
    let sidecar = FakePredictor::answering(move |_| Reply::json(overview.to_string())).await;
    let url = sidecar.url();
    let mut worker = TestWorker::start(|config| config.recovered_after = Duration::from_millis(50)).await;
    // Drift is reported before the sidecar can be asked: the report is about the event's version.
    worker.post("/api/v1/events", drift_event().to_string()).await;
    let id = worker.report().await.report.incident.id.clone();
    let folder = worker.stop().await;
    let worker = TestWorker::start_in(folder, |config| {
        config.recovered_after = Duration::from_millis(50);
        config.sources.sidecars = vec![Sidecar {
            model: "churn".to_owned(),
            url: url.parse().expect("a URL"),
        }];
    })
    .await;
    let done = interventions(&worker, &id, |done| !done.is_empty()).await;
    assert_eq!((done.len(), &done[0]["kind"]), (1, &json!("rollout")));
    assert!(
        done[0]["note"].as_str().is_some_and(|note| note.ends_with("→ 2")),
        "{done:?}"
    );
}

#[tokio::test]
async fn what_is_told_wrongly_is_refused_with_the_reason() {
    let mut worker = TestWorker::start(|config| config.webhook_token = Some("token-123456".to_owned())).await;
    let authorized: &[(&str, &str)] = &[("authorization", "Bearer token-123456")];
    let body = of_churn("2026-11-22T22:00:00Z", None).to_string();
    let answer = worker
        .send(Method::POST, "/api/v1/alerts", authorized, body)
        .await;
    let id = answer.json()["incidents"][0]
        .as_str()
        .expect("an incident")
        .to_owned();
    worker.report().await;
    let path = format!("/api/v1/incidents/{id}/interventions");
    let good = json!({"kind": "fix", "actor": "ana"});
    assert_eq!(tell(&worker, &id, &good).await.status, StatusCode::UNAUTHORIZED);
    for (told, reason) in [
        (
            json!({"kind": "deploy", "actor": "ana"}),
            "must be retrain, rollout, rollback or fix",
        ),
        (
            json!({"kind": "none", "actor": "ana"}),
            "must be retrain, rollout, rollback or fix",
        ),
        (json!({"kind": "fix", "actor": " "}), "must say who did it"),
        (
            json!({"kind": "fix", "actor": "ana", "at": "yesterday"}),
            "must be a time such as",
        ),
        (
            json!({"kind": "fix", "actor": "ana", "at": "2026-11-22T21:00:00Z"}),
            "between the begin of the incident",
        ),
        (
            json!({"kind": "fix", "actor": "ana", "at": "2999-01-01T00:00:00Z"}),
            "between the begin of the incident",
        ),
        (
            json!({"kind": "fix", "actor": "ana", "who": 1}),
            "unknown field `who`",
        ),
    ] {
        let answer = worker
            .send(Method::POST, &path, authorized, told.to_string())
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{told}");
        assert!(answer.text().contains(reason), "{told}: {}", answer.text());
    }
    let unknown = worker
        .send(
            Method::POST,
            "/api/v1/incidents/none/interventions",
            authorized,
            good.to_string(),
        )
        .await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_postmortem_is_written_from_the_store_while_the_worker_has_it() {
    let mut worker = worker().await;
    let body = of_churn("2026-11-22T22:00:00Z", None).to_string();
    let id = worker.post("/api/v1/alerts", body).await.json()["incidents"][0]
        .as_str()
        .expect("an incident")
        .to_owned();
    worker.report().await;
    let told = json!({"kind": "fix", "actor": "ana", "note": "limit raised; token ghp_A1b2A1b2A1b2A1b2A1b2A1b2A1b2A1b2A1b2"});
    tell(&worker, &id, &told).await;
    let page = worker.get(&format!("/api/v1/incidents/{id}/postmortem.md")).await;
    let page = page.text();
    for expected in [
        "# Postmortem: ErrorRate",
        "not over: a draft",
        "began: ErrorRate",
        "fixed, by ana: limit raised; token \\[REDACTED:github\\_token:1\\]",
        "Not known: no Prometheus is configured.",
        "## Actions",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let store = worker.store.display().to_string();
    let run = async |id: &str| {
        Command::new(env!("CARGO_BIN_EXE_plumbline-analysis-worker"))
            .args([
                "postmortem",
                "--incident",
                id,
                "--store",
                &store,
                "--format",
                "json",
            ])
            .output()
            .await
            .expect("it ends")
    };
    let output = run(&id).await;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&document["incident"], &document["is_over"]),
        (&json!(id), &json!(false))
    );
    // A model may word it, as far as the records carry it.
    let gemini = FakeGemini::answering(|_| {
        let lesson = |text: &str, quote: &str| json!({"text": text, "evidence": [{"id": "E1", "quote": quote}]});
        let worded = json!({
            "summary": "It still goes on.",
            "lessons": [lesson("The limit was too low.", "limit raised"), lesson("It was the network.", "packets lost")],
            "actions": [],
        });
        answer(&worded.to_string())
    })
    .await;
    let summary = folder.path().join("summary.md");
    let output = Command::new(env!("CARGO_BIN_EXE_plumbline-analysis-worker"))
        .args([
            "postmortem",
            "--incident",
            &id,
            "--store",
            &store,
            "--provider=gemini",
        ])
        .args(["--gemini-api-key", API_KEY, "--gemini-url", &gemini.url()])
        .env("GITHUB_STEP_SUMMARY", &summary)
        .output()
        .await
        .expect("it ends");
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    for expected in [
        "## In the words of gemini-3.5-flash",
        "- To learn: The limit was too low. (“limit raised”)",
        "1 items were dropped",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert!(!page.contains("network") && !gemini.received(1).await[0].prompt().contains("ghp_"));
    assert_eq!(
        std::fs::read_to_string(&summary).expect("a summary").trim(),
        page.trim()
    );
    let output = run("none").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no incident `none`"));
}
