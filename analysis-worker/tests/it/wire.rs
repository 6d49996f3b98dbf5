//! Recorded requests of real clients: the receiver takes every Alertmanager body, the fakes take every request to a model.

use http::{Method, StatusCode};
use plumbline_testkit::gemini::{FakeGemini, answer};
use plumbline_testkit::openai::{self, FakeOpenAi, completion};
use serde_json::Value;

use crate::support::{TestWorker, send};

fn captures() -> Vec<Value> {
    let lines = include_str!("../golden/wire-captures.jsonl").lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[tokio::test]
async fn every_alertmanager_body_is_taken_and_resolves_what_it_opened() {
    let mut worker = TestWorker::start(|_| {}).await;
    let captures = captures();
    let bodies: Vec<&Value> = captures
        .iter()
        .filter(|capture| {
            capture["sender"]
                .as_str()
                .is_some_and(|sender| sender.starts_with("Alertmanager"))
        })
        .map(|capture| &capture["body"])
        .collect();
    assert_eq!(bodies.len(), 4);
    for body in &bodies {
        let answer = worker.post("/api/v1/alerts", body.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    worker.report().await;
    worker.report().await;
    let incidents = worker.get("/api/v1/incidents").await.json();
    let incidents = incidents["incidents"].as_array().expect("a list");
    assert_eq!(incidents.len(), 2);
    assert!(
        incidents.iter().all(|incident| incident["state"] == "resolved"),
        "{incidents:?}"
    );
    let quoted = incidents
        .iter()
        .find(|incident| incident["kind"] == "Quote\"d name")
        .expect("its name in one line");
    assert_eq!(quoted["signals"], 1);
    assert!(worker.no_more_reports());
}

#[tokio::test]
async fn the_fake_takes_every_recorded_gemini_request() {
    let gemini = FakeGemini::answering(|_| answer("{}")).await;
    let mut taken = 0;
    for capture in captures() {
        let path = capture["path"].as_str().unwrap_or("");
        // The other clients of the file: Alertmanager above, openai below.
        if !path.contains("/models/") {
            continue;
        }
        let headers: Vec<(String, String)> = capture["headers"]
            .as_object()
            .expect("headers")
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned()))
            .collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let url = format!("{}{path}", gemini.url());
        let answer = send(Method::POST, &url, &headers, capture["body"].to_string().into()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        taken += 1;
    }
    assert_eq!(taken, 7);
}

#[tokio::test]
async fn the_fake_takes_the_recorded_openai_request() {
    let server = FakeOpenAi::answering(|_| completion("{}", "stop")).await;
    let mut captures = captures().into_iter();
    let capture = captures.find(|capture| capture["path"] == "/v1/chat/completions");
    let mut body = capture.expect("one")["body"].clone();
    // Key and model are those of the recording.
    body["model"] = openai::MODEL.into();
    let key = format!("Bearer {}", openai::API_KEY);
    let headers = [
        ("authorization", key.as_str()),
        ("content-type", "application/json"),
    ];
    let url = format!("{}/chat/completions", server.url());
    let answer = send(Method::POST, &url, &headers, body.to_string().into()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}
