//! Gemini's answers and failures: a report comes of each, and says who wrote it.

use std::time::Duration;

use plumbline_analysis_worker::{Engine, Findings, Outcome, ProviderConfig, Secret};
use plumbline_testkit::gemini::{
    self, FakeGemini, answer, blocked, error, finished, no_candidates, quota_of_the_day, retry_after,
};
use plumbline_testkit::predictor::{Cut, Reply};
use serde_json::json;

use crate::support::{TestWorker, drift_event, good_answer, provider};

async fn alert(worker: &TestWorker) {
    worker
        .alert(
            &json!({"alertname": "ModelErrorRateHigh", "severity": "critical"}),
            &json!({"summary": "5xx"}),
        )
        .await;
}

#[tokio::test]
async fn a_good_answer_is_the_report() {
    let gemini = FakeGemini::answering(|_| answer(&good_answer().to_string())).await;
    let mut worker = TestWorker::asking(&gemini).await;
    alert(&worker).await;
    let report = worker.report().await.report.clone();
    assert_eq!(
        (report.analysis.provider.as_str(), report.analysis.outcome),
        ("gemini", Outcome::Valid)
    );
    assert_eq!(report.analysis.fallback, None);
    let asked = &gemini.received(1).await[0];
    assert_eq!(asked.model, "gemini-3.5-flash");
    assert_eq!(
        asked.body["generationConfig"]["responseMimeType"],
        "application/json"
    );
    assert_eq!(asked.schema()["properties"]["root_causes"]["maxItems"], 3);
    assert!(asked.prompt().contains("label alertname: ModelErrorRateHigh"));
    assert_eq!(asked.request.header("x-goog-api-key"), gemini::API_KEY);
    let other = rusqlite::Connection::open(&worker.store).expect("opened");
    let (prompt, kept, digest): (String, String, String) = other
        .query_row("SELECT prompt, answer, prompt_digest FROM report", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .expect("kept");
    assert_eq!(prompt, asked.prompt());
    assert_eq!(kept, good_answer().to_string());
    assert_eq!(digest, report.analysis.prompt_digest);
}

#[tokio::test]
async fn a_drift_event_is_asked_about_with_its_own_schema() {
    let reply = json!({
        "summary": "Contracts moved.", "kind": "data_drift", "confidence": 0.8,
        "affected": [{"subject": "Contract", "finding": "more month-to-month", "evidence": [{"id": "E2", "quote": "share of Month-to-month"}]}],
        "causes": [{"hypothesis": "a campaign", "confidence": 0.6, "evidence": [{"id": "E2"}]}],
        "remediation": [{"action": "retrain", "rationale": "new mix"}],
        "urgency": "P0", "action_items": ["ask marketing"],
    });
    let gemini = FakeGemini::answering(move |_| answer(&reply.to_string())).await;
    let mut worker = TestWorker::asking(&gemini).await;
    worker.post("/api/v1/events", drift_event().to_string()).await;
    let report = worker.report().await.report.clone();
    assert_eq!(report.analysis.notes, Vec::<String>::new());
    let Findings::Drift(findings) = &report.findings else {
        panic!("drift findings")
    };
    assert_eq!(findings.summary, "Contracts moved.");
    let asked = &gemini.received(1).await[0];
    assert!(asked.schema()["properties"]["kind"]["enum"].as_array().is_some());
    assert!(
        asked.prompt().contains("feature `Contract`: drift"),
        "{}",
        asked.prompt()
    );
}

#[tokio::test]
async fn a_refused_answer_is_asked_for_again_once() {
    let mut wrong = good_answer();
    wrong["root_causes"][0]["evidence"] = json!([{"id": "E99"}]);
    let gemini = FakeGemini::in_turn(vec![
        answer(&wrong.to_string()),
        answer(&good_answer().to_string()),
    ])
    .await;
    let mut worker = TestWorker::asking(&gemini).await;
    alert(&worker).await;
    let report = worker.report().await.report.clone();
    assert_eq!(
        (report.analysis.provider.as_str(), report.analysis.outcome),
        ("gemini", Outcome::Repaired)
    );
    let asked = gemini.received(2).await;
    assert!(
        asked[1]
            .prompt()
            .contains("no cause cites a fact that exists; the facts are E1"),
        "{}",
        asked[1].prompt()
    );
    assert!(
        worker
            .metrics()
            .contains(r#"plumbline_worker_provider_requests_total{outcome="refused"} 1"#)
    );
}

#[tokio::test]
async fn every_failure_of_the_provider_still_gives_a_report() {
    let mut unsure = good_answer();
    unsure["root_causes"][0]["confidence"] = json!(7);
    for (reply, requests, expected) in [
        (no_candidates(), 1, "no candidates"),
        (blocked("PROHIBITED_CONTENT"), 1, "PROHIBITED_CONTENT"),
        (finished(None, "STOP"), 1, "no text"),
        (
            finished(Some("{\"summary\": \"cut"), "MAX_TOKENS"),
            2,
            "MAX_TOKENS",
        ),
        (finished(Some("{}"), "RECITATION"), 1, "RECITATION"),
        (finished(Some("{}"), "BRAND_NEW_REASON"), 1, "BRAND_NEW_REASON"),
        (answer("I am sorry, I cannot."), 2, "not the JSON"),
        (
            answer(&format!("{} and that is all", good_answer())),
            2,
            "text after the document",
        ),
        (answer(&unsure.to_string()), 2, "outside 0 to 1"),
        (
            error(404, "NOT_FOUND", "models/gemini-3.5-flash is not found"),
            1,
            "status 404",
        ),
        (
            error(
                400,
                "INVALID_ARGUMENT",
                "The input token count (9) exceeds the maximum",
            ),
            1,
            "status 400",
        ),
        (quota_of_the_day(), 1, "status 429"),
    ] {
        let gemini = FakeGemini::in_turn(vec![reply]).await;
        let mut worker = TestWorker::asking(&gemini).await;
        alert(&worker).await;
        let report = worker.report().await;
        let fallback = report.report.analysis.fallback.clone().expect("a reason");
        assert!(fallback.contains(expected), "{fallback}");
        assert_eq!(report.report.analysis.provider, "offline");
        assert!(
            report.markdown.contains("no language model's answer was used"),
            "{}",
            report.markdown
        );
        assert_eq!(gemini.received_so_far(), requests, "{expected}");
    }
}

#[tokio::test]
async fn advice_to_wait_is_followed_and_the_answer_taken() {
    let replies = vec![
        retry_after("0.02s"),
        retry_after("20ms"),
        answer(&good_answer().to_string()),
    ];
    let gemini = FakeGemini::in_turn(replies).await;
    let mut worker = TestWorker::asking(&gemini).await;
    alert(&worker).await;
    assert_eq!(worker.report().await.report.analysis.provider, "gemini");
    assert_eq!(gemini.received_so_far(), 3);
    assert!(
        worker
            .metrics()
            .contains(r#"plumbline_worker_provider_requests_total{outcome="rate_limited"} 2"#)
    );
}

#[tokio::test]
async fn advice_to_wait_longer_than_there_is_time_falls_back_at_once() {
    let gemini = FakeGemini::in_turn(vec![retry_after("200s")]).await;
    let mut worker = TestWorker::asking(&gemini).await;
    alert(&worker).await;
    let report = worker.report().await.report.clone();
    assert!(
        report
            .analysis
            .fallback
            .expect("a reason")
            .contains("rate limited")
    );
    assert_eq!(gemini.received_so_far(), 1);
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let good = || answer(&good_answer().to_string());
    let html = || Reply::json("<html>Bad Gateway</html>").header("content-type", "text/html");
    let mut tries = tokio::task::JoinSet::new();
    // Each waits out a back-off of a second, so all at once.
    for (first, outcome) in [
        (good().cut(Cut::MidBody), "transport"),
        (good().cut(Cut::BeforeHead), "transport"),
        (html(), "unavailable"),
        (html().with_status(http::StatusCode::BAD_GATEWAY), "unavailable"),
        (
            error(503, "UNAVAILABLE", "The model is overloaded."),
            "unavailable",
        ),
        (error(500, "INTERNAL", "Internal error."), "unavailable"),
    ] {
        tries.spawn(async move {
            let gemini = FakeGemini::in_turn(vec![first, good()]).await;
            let mut worker = TestWorker::asking(&gemini).await;
            alert(&worker).await;
            assert_eq!(
                worker.report().await.report.analysis.provider,
                "gemini",
                "{outcome}"
            );
            assert_eq!(gemini.received_so_far(), 2, "{outcome}");
            let series = format!("plumbline_worker_provider_requests_total{{outcome=\"{outcome}\"}} 1");
            assert!(worker.metrics().contains(&series), "{series}");
        });
    }
    while let Some(ended) = tries.join_next().await {
        ended.expect("no panic");
    }
}

#[tokio::test]
async fn the_quota_of_the_day_stops_everybody_for_a_while() {
    let gemini = FakeGemini::in_turn(vec![quota_of_the_day()]).await;
    let mut worker = TestWorker::asking(&gemini).await;
    alert(&worker).await;
    worker.report().await;
    worker.post("/api/v1/events", drift_event().to_string()).await;
    let second = worker.report().await.report.clone();
    assert!(
        second
            .analysis
            .fallback
            .expect("a reason")
            .contains("not asked for another")
    );
    assert_eq!(gemini.received_so_far(), 1, "the second analysis did not ask");
}

#[tokio::test]
async fn a_silent_provider_is_waited_for_until_the_deadline() {
    let gemini = FakeGemini::holding(|_| answer(&good_answer().to_string())).await;
    let provider = provider(&gemini, Duration::from_secs(1));
    let mut worker = TestWorker::start(|config| config.provider = provider).await;
    alert(&worker).await;
    let report = worker.report().await.report.clone();
    assert!(
        report
            .analysis
            .fallback
            .expect("a reason")
            .contains("no answer within")
    );
}

#[tokio::test]
async fn a_wrong_key_is_reported_without_being_told() {
    let gemini = FakeGemini::answering(|_| answer("{}")).await;
    let mut wrong = provider(&gemini, Duration::from_secs(5));
    if let ProviderConfig::Model(config) = &mut wrong
        && let Engine::Gemini(engine) = &mut config.engine
    {
        engine.api_key = Secret::new("another-key-123");
    }
    let mut worker = TestWorker::start(|config| config.provider = wrong).await;
    alert(&worker).await;
    let report = worker.report().await;
    let fallback = report.report.analysis.fallback.clone().expect("a reason");
    assert!(fallback.contains("API key not valid"), "{fallback}");
    assert!(!report.markdown.contains("another-key-123"));
}
