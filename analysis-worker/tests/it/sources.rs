//! Context from outside: asked, or named as missing.

use std::time::Duration;

use plumbline_analysis_worker::{LokiSource, MlflowSource, Secret, Sidecar, Source};
use plumbline_testkit::predictor::{FakePredictor, RefusingPort, Reply};
use serde_json::json;

use crate::support::{TestWorker, drift_event};

fn sidecar(url: &str) -> Sidecar {
    Sidecar {
        model: "churn".to_owned(),
        url: url.parse().expect("a URL"),
    }
}

#[tokio::test]
async fn an_alert_about_drift_gets_the_sidecars_comparison() {
    let overview = json!({"models": [drift_event()["data"]["report"]]}).to_string();
    let server = FakePredictor::answering(move |_| Reply::json(overview.clone())).await;
    let url = server.url();
    let mut worker = TestWorker::start(|config| config.sources.sidecars = vec![sidecar(&url)]).await;
    worker
        .alert(
            &json!({"alertname": "ModelDrift", "model": "churn", "severity": "warning"}),
            &json!({}),
        )
        .await;
    let report = worker.report().await.report.clone();
    assert_eq!(server.received(1).await[0].path(), "/drift");
    let drift = report.drift.expect("a comparison");
    assert_eq!(drift.subjects[0].name, "Contract");
    assert!(
        report
            .evidence
            .iter()
            .any(|fact| fact.source == Source::DriftState && fact.title == "feature Contract")
    );
}

#[tokio::test]
async fn a_source_of_an_event_that_is_not_configured_is_not_asked() {
    let server = FakePredictor::answering(|_| Reply::json("{}")).await;
    let mut worker = TestWorker::start(|_| {}).await;
    let mut event = drift_event();
    event["source"] = json!(server.url());
    worker.post("/api/v1/events", event.to_string()).await;
    let report = worker.report().await.report.clone();
    assert_eq!(server.accepted(), 0);
    assert!(
        report
            .missing
            .iter()
            .any(|gap| gap.source == Source::DriftState && gap.reason.contains("not among the configured"))
    );
    assert!(report.drift.is_some(), "the event carries its own comparison");
}

#[tokio::test]
async fn prometheus_is_asked_for_before_and_now() {
    let server = FakePredictor::answering(|request| {
        let begin = 1_795_384_800; // 22:00:00, when the alert began
        let series = json!({"metric": {}, "values": [[begin - 60, "10"], [begin + 60, "42"]]});
        let query = request.uri.query().unwrap_or("");
        let has_series = query.contains("duration%5Fseconds%5Fcount") && !query.contains("code");
        let result = if has_series { json!([series]) } else { json!([]) };
        Reply::json(
            json!({"status": "success", "data": {"resultType": "matrix", "result": result}}).to_string(),
        )
    })
    .await;
    let url = server.url();
    let mut worker =
        TestWorker::start(|config| config.sources.prometheus = Some(url.parse().expect("a URL"))).await;
    worker
        .alert(&json!({"alertname": "LatencyHigh", "model": "churn"}), &json!({}))
        .await;
    let report = worker.report().await;
    let fact = report
        .report
        .evidence
        .iter()
        .find(|fact| fact.source == Source::Prometheus)
        .expect("a fact");
    assert!(
        fact.content.contains("median before 10, now 42"),
        "{}",
        fact.content
    );
    assert!(
        report.markdown.contains("4.2 times the requests"),
        "{}",
        report.markdown
    );
    assert!(
        report
            .report
            .missing
            .iter()
            .any(|gap| gap.reason.contains("drift score, PSI: no series"))
    );
}

#[tokio::test]
async fn a_late_and_a_refusing_source_are_named_and_do_not_hold_up_the_report() {
    let silent = FakePredictor::holding(|_| Reply::json("{}")).await;
    let refusing = RefusingPort::new();
    let (prometheus, admin) = (silent.url(), refusing.url());
    let mut worker = TestWorker::start(|config| {
        config.sources.timeout = Duration::from_millis(200);
        config.sources.prometheus = Some(prometheus.parse().expect("a URL"));
        config.sources.sidecars = vec![sidecar(&admin)];
        config.sources.logs = vec!["/nonexistent/server.log".into()];
    })
    .await;
    worker
        .alert(&json!({"alertname": "LatencyHigh", "model": "churn"}), &json!({}))
        .await;
    let report = worker.report().await.report.clone();
    let reason = |source| {
        let gap = report.missing.iter().find(|gap| gap.source == source);
        gap.map_or_else(String::new, |gap| gap.reason.clone())
    };
    let late = reason(Source::Prometheus);
    assert!(
        late.contains("no answer within") || late.contains("did not answer in time"),
        "{late}"
    );
    assert!(
        reason(Source::DriftState).contains("refused"),
        "{}",
        reason(Source::DriftState)
    );
    assert!(reason(Source::Logs).contains("server.log"));
    let metrics = worker.metrics();
    assert!(
        metrics.contains(r#"plumbline_worker_collected_total{outcome="missing",source="logs"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_series_stands_beside_the_same_time_of_earlier_weeks() {
    let server = FakePredictor::answering(|request| {
        let begin = 1_795_384_800; // 22:00:00, when the alert began
        let query = request.uri.query().unwrap_or("");
        let has_series = query.contains("duration%5Fseconds%5Fcount") && !query.contains("code");
        let result = match request.path() {
            _ if !has_series => json!([]),
            // Every minute of an hour, four times as much from ten minutes before the incident on.
            "/api/v1/query_range" => {
                let value = |minute| if minute < 50 { "10" } else { "40" };
                let values: Vec<_> = (0..61)
                    .map(|minute| json!([begin - 3_600 + minute * 60, value(minute)]))
                    .collect();
                json!([{"metric": {}, "values": values}])
            }
            _ if query.contains("offset%207d") => json!([{"metric": {}, "value": [begin, "11"]}]),
            _ if query.contains("offset%2014d") => json!([{"metric": {}, "value": [begin, "9"]}]),
            _ => json!([]),
        };
        Reply::json(json!({"status": "success", "data": {"result": result}}).to_string())
    })
    .await;
    let url = server.url();
    let mut worker =
        TestWorker::start(|config| config.sources.prometheus = Some(url.parse().expect("a URL"))).await;
    worker
        .alert(&json!({"alertname": "LatencyHigh", "model": "churn"}), &json!({}))
        .await;
    let report = worker.report().await.report.clone();
    let fact = report
        .evidence
        .iter()
        .find(|fact| fact.source == Source::Prometheus);
    let content = &fact.expect("a fact").content;
    for expected in [
        "same time 7 days ago 11, 14 days ago 9, 30 days ago no data; now it is 3.636 times their median",
        "changed at 2026-11-22T21:50:00Z from 10 to 40 (10 min before the incident began)",
        "each of N days ago: quantile_over_time(0.5, (sum(rate(plumbline_request_duration_seconds_count",
    ] {
        assert!(content.contains(expected), "{expected}:\n{content}");
    }
}

#[tokio::test]
async fn loki_is_asked_for_the_pods_lines() {
    let server = FakePredictor::answering(|request| {
        let at = "1795384800000000000"; // 22:00:00, when the alert began
        assert_eq!(request.header("x-scope-orgid"), "ml");
        let values = json!([
            [at, "INFO started"],
            [
                at,
                "ERROR checksum mismatch in shard 7, key sk_live_4eC39HqLyjWDarjtT1zdp7dc"
            ]
        ]);
        let result = json!([{"stream": {"pod": "scorer-0"}, "values": values}]);
        Reply::json(
            json!({"status": "success", "data": {"resultType": "streams", "result": result}}).to_string(),
        )
    })
    .await;
    let loki = LokiSource {
        url: server.url().parse().expect("a URL"),
        tenant: Some("ml".to_owned()),
        query: "{namespace=$namespace, pod=~$pods}".to_owned(),
    };
    let mut worker = TestWorker::start(|config| config.sources.loki = Some(loki)).await;
    worker
        .alert(
            &json!({"alertname": "ErrorRate", "namespace": "models", "pod": "scorer-0"}),
            &json!({}),
        )
        .await;
    let report = worker.report().await.report.clone();
    let fact = report.evidence.iter().find(|fact| fact.source == Source::Loki);
    let content = &fact.expect("a fact").content;
    assert!(content.contains("checksum mismatch in shard 7"), "{content}");
    assert!(!content.contains("sk_live"), "{content}");
    assert!(
        content.contains(r#"query: {namespace="models", pod=~"scorer-0"}"#),
        "{content}"
    );
    let asked = &server.received(1).await[0];
    let query = asked.uri.query().expect("a query");
    // From half an hour before the incident, in nanoseconds.
    assert!(query.contains("start=1795383000000000000"), "{query}");
}

#[tokio::test]
async fn an_mlflow_that_refuses_is_named_and_its_token_is_not() {
    let server = FakePredictor::answering(|request| {
        assert_eq!(request.header("authorization"), "Bearer mlflow-token-123");
        Reply::json(
            json!({"error_code": "PERMISSION_DENIED", "message": "token mlflow-token-123 may not read"})
                .to_string(),
        )
        .with_status(http::StatusCode::FORBIDDEN)
    })
    .await;
    let mlflow = MlflowSource {
        url: server.url().parse().expect("a URL"),
        token: Some(Secret::new("mlflow-token-123")),
        alias: "champion".to_owned(),
    };
    let mut worker = TestWorker::start(|config| config.sources.mlflow = Some(mlflow)).await;
    worker
        .alert(&json!({"alertname": "AccuracyLow", "model": "churn"}), &json!({}))
        .await;
    let report = worker.report().await;
    let gap = report
        .report
        .missing
        .iter()
        .find(|gap| gap.source == Source::Mlflow);
    let reason = &gap.expect("named").reason;
    assert!(reason.contains("status 403"), "{reason}");
    assert!(
        !report.markdown.contains("mlflow-token-123"),
        "{}",
        report.markdown
    );
}
