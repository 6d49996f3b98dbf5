//! Providers beside the Gemini API: what each is sent, and what becomes of its failures.

use std::num::NonZeroU64;
use std::time::Duration;

use plumbline_analysis_worker::{
    Engine, Limits, OllamaEngine, OpenAiEngine, Outcome, ProviderConfig, Secret, VertexEngine,
};
use plumbline_testkit::gemini::{FakeGemini, answer};
use plumbline_testkit::ollama::{self, FakeOllama};
use plumbline_testkit::openai::{self, FakeOpenAi, completion};
use plumbline_testkit::predictor::{FakePredictor, Reply};
use serde_json::json;

use crate::support::{TestWorker, good_answer, model, provider};

const TIMEOUT: Duration = Duration::from_secs(30);

async fn alert(worker: &TestWorker) {
    worker
        .alert(
            &json!({"alertname": "ModelErrorRateHigh", "severity": "critical"}),
            &json!({"summary": "5xx"}),
        )
        .await;
}

fn of_openai(server: &FakeOpenAi, name: &str) -> ProviderConfig {
    let engine = Engine::OpenAiCompatible(OpenAiEngine {
        base_url: server.url().parse().expect("a URL"),
        api_key: Some(Secret::new(openai::API_KEY)),
    });
    model(engine, name, TIMEOUT)
}

#[tokio::test]
async fn an_openai_compatible_server_is_asked_with_the_schema() {
    let server = FakeOpenAi::answering(|_| completion(&good_answer().to_string(), "stop")).await;
    let provider = of_openai(&server, openai::MODEL);
    let mut worker = TestWorker::start(|config| config.provider = provider).await;
    alert(&worker).await;
    let report = worker.report().await.report.clone();
    assert_eq!(
        (report.analysis.provider.as_str(), report.analysis.outcome),
        ("openai-compatible", Outcome::Valid)
    );
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    let schema = &asked[0]["response_format"]["json_schema"]["schema"];
    assert_eq!(schema["properties"]["root_causes"]["maxItems"], 3);
    assert!(
        worker
            .metrics()
            .contains("plumbline_worker_provider_tokens_total 20\n")
    );
}

#[tokio::test]
async fn a_server_without_schemas_is_asked_for_json_and_told_the_schema() {
    let server = FakeOpenAi::answering(|_| completion(&good_answer().to_string(), "stop")).await;
    server.forget_schemas();
    let provider = of_openai(&server, openai::MODEL);
    let mut worker = TestWorker::start(|config| config.provider = provider).await;
    alert(&worker).await;
    assert_eq!(worker.report().await.report.analysis.fallback, None);
    let asked = server.asked();
    assert_eq!(asked[1]["response_format"]["type"], "json_object");
    let system = asked[1]["messages"][0]["content"].as_str().expect("a text");
    assert!(system.contains("\"root_causes\""), "{system}");
}

#[tokio::test]
async fn a_model_that_is_not_there_is_a_fault_of_the_configuration() {
    let server = FakeOpenAi::answering(|_| completion("{}", "stop")).await;
    let provider = of_openai(&server, "another");
    let mut worker = TestWorker::start(|config| config.provider = provider).await;
    alert(&worker).await;
    let fallback = worker
        .report()
        .await
        .report
        .analysis
        .fallback
        .clone()
        .expect("a reason");
    assert!(
        fallback.contains("no model another") || fallback.contains("does not exist"),
        "{fallback}"
    );
}

fn of_ollama(server: &FakeOllama, context: u32) -> ProviderConfig {
    let engine = Engine::Ollama(OllamaEngine {
        base_url: server.url().parse().expect("a URL"),
        context,
    });
    model(engine, ollama::MODEL, TIMEOUT)
}

#[tokio::test]
async fn ollama_is_told_how_long_the_context_is() {
    let server = FakeOllama::answering(|_| good_answer().to_string()).await;
    let provider = of_ollama(&server, 16_384);
    let mut worker = TestWorker::start(|config| config.provider = provider).await;
    alert(&worker).await;
    assert_eq!(worker.report().await.report.analysis.provider, "ollama");
    let asked = server.asked();
    assert_eq!(asked[0]["options"]["num_ctx"], 16_384);
    assert_eq!(asked[0]["format"]["type"], "object");
}

#[tokio::test]
async fn a_prompt_that_ollama_would_cut_is_not_sent() {
    let server = FakeOllama::answering(|_| good_answer().to_string()).await;
    let provider = of_ollama(&server, 4_100);
    let mut worker = TestWorker::start(|config| config.provider = provider).await;
    alert(&worker).await;
    let fallback = worker
        .report()
        .await
        .report
        .analysis
        .fallback
        .clone()
        .expect("a reason");
    assert!(fallback.contains("more than ollama_context = 4100"), "{fallback}");
    assert_eq!(server.asked().len(), 0);
}

#[tokio::test]
async fn vertex_gets_a_token_of_the_machine_and_keeps_it() {
    let machine = FakePredictor::answering(|request| {
        assert_eq!(request.header("metadata-flavor"), "Google");
        Reply::json(
            json!({"access_token": "ya29.machine", "expires_in": 3600, "token_type": "Bearer"}).to_string(),
        )
    })
    .await;
    let gemini = FakeGemini::answering(|_| answer(&good_answer().to_string())).await;
    let engine = Engine::Vertex(VertexEngine {
        base_url: gemini.url().parse().expect("a URL"),
        project: "p".to_owned(),
        location: "europe-west4".to_owned(),
        credentials: None,
        metadata_url: machine.url().parse().expect("a URL"),
    });
    let provider = model(engine, "gemini-3.5-flash", TIMEOUT);
    let mut worker = TestWorker::start(|config| config.provider = provider).await;
    gemini.described().await;
    alert(&worker).await;
    assert_eq!(worker.report().await.report.analysis.provider, "vertex");
    let asked = gemini.received(1).await;
    assert_eq!(
        asked[0].request.path(),
        "/v1/projects/p/locations/europe-west4/publishers/google/models/gemini-3.5-flash:generateContent"
    );
    assert_eq!(asked[0].request.header("authorization"), "Bearer ya29.machine");
    assert_eq!(
        machine.received_so_far(),
        1,
        "one token for the check and the question"
    );
}

#[tokio::test]
async fn the_budget_outlives_the_worker() {
    let gemini = FakeGemini::answering(|_| answer(&good_answer().to_string())).await;
    let limited = |gemini: &FakeGemini| {
        let mut provider = provider(gemini, TIMEOUT);
        if let ProviderConfig::Model(model) = &mut provider {
            model.limits = Limits {
                requests_per_day: NonZeroU64::MIN,
                ..Limits::default()
            };
        }
        provider
    };
    let mut worker = TestWorker::start(|config| config.provider = limited(&gemini)).await;
    alert(&worker).await;
    assert_eq!(worker.report().await.report.analysis.fallback, None);
    let folder = worker.stop().await;
    let mut worker = TestWorker::start_in(folder, |config| config.provider = limited(&gemini)).await;
    worker.alert(&json!({"alertname": "Another"}), &json!({})).await;
    let fallback = worker
        .report()
        .await
        .report
        .analysis
        .fallback
        .clone()
        .expect("a reason");
    assert!(
        fallback.contains("1 of 1 requests per day are used"),
        "{fallback}"
    );
    assert_eq!(gemini.received_so_far(), 1);
    assert!(
        worker
            .metrics()
            .contains(r#"plumbline_worker_provider_requests_total{outcome="budget"} 1"#)
    );
}

#[tokio::test]
async fn the_same_question_is_answered_from_memory() {
    let gemini = FakeGemini::answering(|_| answer(&good_answer().to_string())).await;
    let mut worker = TestWorker::asking(&gemini).await;
    alert(&worker).await;
    worker.report().await;
    // The store forgets the incident, as after a kill between answer and report.
    let other = rusqlite::Connection::open(&worker.store).expect("opened");
    let forgotten = other.execute_batch(
        "PRAGMA foreign_keys = off; DELETE FROM approval; DELETE FROM effect; DELETE FROM decision; DELETE FROM report;
         DELETE FROM job; DELETE FROM signal; DELETE FROM incident;",
    );
    forgotten.expect("forgotten");
    alert(&worker).await;
    let report = worker.report().await.report.clone();
    assert_eq!(report.analysis.provider, "gemini");
    assert_eq!(gemini.received_so_far(), 1);
    assert!(
        worker
            .metrics()
            .contains(r#"plumbline_worker_provider_requests_total{outcome="cached"} 1"#)
    );
}

#[tokio::test]
async fn a_gemini_model_that_is_not_there_is_found_out_at_the_start() {
    let gemini = FakeGemini::answering(|_| answer(&good_answer().to_string())).await;
    gemini.forget_models();
    let mut worker = TestWorker::asking(&gemini).await;
    gemini.described().await;
    alert(&worker).await;
    let fallback = worker
        .report()
        .await
        .report
        .analysis
        .fallback
        .clone()
        .expect("a reason");
    assert!(fallback.contains("is not found for API version"), "{fallback}");
    assert_eq!(
        worker.get("/").await.status,
        http::StatusCode::OK,
        "it goes on taking alerts"
    );
}
