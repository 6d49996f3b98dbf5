//! What is accepted, counted once, refused, and resolved.

use std::time::Duration;

use http::{Method, StatusCode};
use plumbline_analysis_worker::{App, Config, PART};
use plumbline_service::Process;
use serde_json::{Value, json};

use crate::support::{TestWorker, alert, drift_event};

#[tokio::test]
async fn it_is_ready_only_when_its_port_is_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config::on_loopback(folder.path().join("worker.db"));
    let process = Process::start(PART, &config.common, Value::Null).expect("an admin port");
    assert_eq!(process.readiness().pending(), ["starting"]);
    let _app = App::bind(config, &process).await.expect("bound");
    assert!(process.readiness().is_ready());
}

#[tokio::test]
async fn an_alert_becomes_an_incident_with_one_report_and_a_repetition_changes_nothing() {
    let mut worker = TestWorker::start(|_| {}).await;
    let body = alert(
        &json!({"alertname": "ModelErrorRateHigh", "service": "scorer", "severity": "critical"}),
        &json!({"summary": "5xx ratio 12%"}),
    );
    let first = worker.post("/api/v1/alerts", body.to_string()).await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(
        (&first.json()["accepted"], &first.json()["duplicates"]),
        (&json!(1), &json!(0))
    );
    let finished = worker.report().await;
    assert_eq!(finished.report.urgency.as_str(), "P0");
    let again = worker.post("/api/v1/alerts", body.to_string()).await;
    assert_eq!(
        (&again.json()["accepted"], &again.json()["duplicates"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(again.json()["incidents"], first.json()["incidents"]);
    let id = finished.report.incident.id.clone();
    let incidents = worker.get("/api/v1/incidents").await.json();
    assert_eq!(incidents["incidents"].as_array().map(Vec::len), Some(1));
    assert_eq!(incidents["incidents"][0]["state"], "reported");
    let stored = worker
        .get(&format!("/api/v1/incidents/{id}/report.json"))
        .await
        .report();
    assert_eq!(stored, finished.report);
    let markdown = worker.get(&format!("/api/v1/incidents/{id}/report.md")).await;
    assert_eq!(markdown.text(), finished.markdown);
    assert_eq!(markdown.headers["content-type"], "text/markdown; charset=utf-8");
    assert!(worker.no_more_reports());
    let metrics = worker.metrics();
    assert!(
        metrics.contains(r#"plumbline_worker_signals_total{intake="alerts",kind="duplicate"} 1"#),
        "{metrics}"
    );
    assert!(metrics.contains(r#"plumbline_worker_reports_total{author="offline"} 1"#));
    worker.stop().await;
}

#[tokio::test]
async fn a_resolved_alert_resolves_its_incident() {
    let mut worker = TestWorker::start(|_| {}).await;
    let mut body = alert(&json!({"alertname": "LatencyHigh", "model": "churn"}), &json!({}));
    let id = worker.post("/api/v1/alerts", body.to_string()).await.json()["incidents"][0]
        .as_str()
        .expect("an id")
        .to_owned();
    worker.report().await;
    body["alerts"][0]["status"] = json!("resolved");
    body["alerts"][0]["endsAt"] = json!("2026-11-22T22:10:00Z");
    let answer = worker.post("/api/v1/alerts", body.to_string()).await.json();
    assert_eq!(answer["resolved"], json!([id]));
    let incident = worker.get(&format!("/api/v1/incidents/{id}")).await.json();
    assert_eq!(incident["incident"]["state"], "resolved");
    assert_eq!(incident["incident"]["resolved_at"], "2026-11-22T22:10:00Z");
    assert_eq!(incident["signals"][0]["times_seen"], 2);
}

#[tokio::test]
async fn a_drift_event_and_the_alert_of_the_same_drift_are_one_incident() {
    let mut worker = TestWorker::start(|_| {}).await;
    let event = drift_event();
    let answer = worker.post("/api/v1/events", event.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let report = worker.report().await.report.clone();
    assert_eq!(
        (report.incident.kind.as_str(), report.urgency.as_str()),
        ("drift", "P0")
    );
    let labels = json!({"alertname": "ModelDrift", "model": "churn", "severity": "warning"});
    assert_eq!(worker.alert(&labels, &json!({})).await, report.incident.id);
    let mut recovered = event;
    recovered["id"] = json!("churn-1-4f2a-recovered");
    recovered["type"] = json!("dev.plumbline.drift.recovered");
    recovered["data"]["state"] = json!("recovered");
    recovered["data"]["report"]["state"] = json!("recovered");
    let answer = worker.post("/api/v1/events", recovered.to_string()).await.json();
    assert_eq!(answer["resolved"], json!([]), "the alert still fires");
    let mut resolved = alert(&labels, &json!({}));
    resolved["alerts"][0]["status"] = json!("resolved");
    resolved["alerts"][0]["endsAt"] = json!("2026-11-22T23:00:00Z");
    let answer = worker.post("/api/v1/alerts", resolved.to_string()).await.json();
    assert_eq!(answer["resolved"], json!([report.incident.id]));
    assert!(worker.no_more_reports(), "one report for all of it");
}

#[tokio::test]
async fn events_come_structured_batched_and_binary() {
    let mut worker = TestWorker::start(|_| {}).await;
    let event = drift_event();
    let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
    let answer = worker
        .send(Method::POST, "/api/v1/events", &structured, event.to_string())
        .await;
    assert_eq!(answer.json()["accepted"], 1, "{}", answer.text());
    let batch = [("content-type", "application/cloudevents-batch+json")];
    let answer = worker
        .send(Method::POST, "/api/v1/events", &batch, json!([event]).to_string())
        .await;
    assert_eq!(answer.json()["duplicates"], 1);
    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "churn-1-4f2a-detected"),
        ("ce-source", "http://127.0.0.1:9902"),
        ("ce-type", "dev.plumbline.drift.detected"),
        ("ce-subject", "churn"),
    ];
    let answer = worker
        .send(Method::POST, "/api/v1/events", &binary, event["data"].to_string())
        .await;
    assert_eq!(
        answer.json()["duplicates"],
        1,
        "the same event in another form: {}",
        answer.text()
    );
    worker.report().await;
    assert!(worker.no_more_reports());
}

#[tokio::test]
async fn malformed_bodies_are_refused_by_name() {
    let worker = TestWorker::start(|config| config.max_body_bytes = 100_000).await;
    let mut unknown = drift_event();
    unknown["type"] = json!("com.example.other");
    let mut broken = drift_event();
    broken["data"]["report"]["subjects"][1]["bins"] = json!("many");
    let mut nameless = drift_event();
    nameless.as_object_mut().expect("fields").remove("id");
    for (path, body, expected) in [
        ("alerts", "{".to_owned(), "not JSON"),
        ("alerts", r#"{"alerts": {}}"#.to_owned(), "alerts: invalid type"),
        (
            "alerts",
            r#"{"alerts": [{"labels": {"a": "b"}, "startsAt": "soon"}]}"#.to_owned(),
            "alerts[0].startsAt",
        ),
        ("events", "[]".to_owned(), "expected 1 to"),
        ("events", unknown.to_string(), "com.example.other"),
        ("events", broken.to_string(), "data.report.subjects[1].bins"),
        ("events", nameless.to_string(), "missing field `id`"),
    ] {
        let answer = worker.post(&format!("/api/v1/{path}"), body.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        let error = answer.json()["error"].as_str().expect("an error").to_owned();
        assert!(error.contains(expected), "{error}");
    }
    let large = worker.post("/api/v1/alerts", "x".repeat(100_001)).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        worker.get("/api/v1/alerts").await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        worker.get("/api/v1/incidents/none").await.status,
        StatusCode::NOT_FOUND
    );
    let metrics = worker.metrics();
    assert!(
        metrics.contains(r#"plumbline_worker_rejected_total{intake="alerts",reason="malformed"} 3"#),
        "{metrics}"
    );
    assert!(metrics.contains(r#"plumbline_worker_rejected_total{intake="alerts",reason="too_large"} 1"#));
}

#[tokio::test]
async fn a_token_is_asked_for_when_there_is_one() {
    let worker = TestWorker::start(|config| config.webhook_token = Some("correct-horse".to_owned())).await;
    let body = alert(&json!({"alertname": "X"}), &json!({})).to_string();
    for header in ["", "Bearer wrong", "Basic correct-horse"] {
        let headers = [("authorization", header)];
        let answer = worker
            .send(Method::POST, "/api/v1/alerts", &headers, body.clone())
            .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{header}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    let headers = [("authorization", "Bearer correct-horse")];
    assert_eq!(
        worker
            .send(Method::POST, "/api/v1/alerts", &headers, body)
            .await
            .status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_store_that_cannot_commit_is_a_503_and_the_next_delivery_is_taken() {
    let worker = TestWorker::start(|config| config.store_busy_timeout = Duration::from_millis(10)).await;
    let body = alert(&json!({"alertname": "X"}), &json!({})).to_string();
    let other = rusqlite::Connection::open(&worker.store).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let refused = worker.post("/api/v1/alerts", body.clone()).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers["retry-after"], "1");
    other.execute_batch("ROLLBACK").expect("unlocked");
    let taken = worker.post("/api/v1/alerts", body).await;
    assert_eq!(
        (taken.status, &taken.json()["accepted"]),
        (StatusCode::OK, &json!(1))
    );
    assert!(
        worker
            .metrics()
            .contains(r#"plumbline_worker_rejected_total{intake="alerts",reason="store"} 1"#)
    );
}

#[tokio::test]
async fn what_is_accepted_is_in_the_database() {
    let worker = TestWorker::start(|_| {}).await;
    let id = worker
        .alert(
            &json!({"alertname": "X", "db_password": "hunter2"}),
            &json!({"summary": "mail jo@example.org"}),
        )
        .await;
    let other = rusqlite::Connection::open(&worker.store).expect("opened");
    let (incident, body): (String, String) = other
        .query_row("SELECT incident_id, body FROM signal", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .expect("a row");
    assert_eq!(incident, id);
    assert!(
        !body.contains("hunter2") && !body.contains("jo@example.org"),
        "{body}"
    );
    assert!(body.contains("[REDACTED:email:1]"), "{body}");
}
