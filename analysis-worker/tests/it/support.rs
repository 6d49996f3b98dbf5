//! A worker in this process, and a client for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use plumbline_analysis_worker::{
    App, Config, Engine, FinishedReport, GeminiEngine, Limits, ModelConfig, PART, ProviderConfig, Report,
    Secret,
};
use plumbline_service::Process;
use plumbline_testkit::gemini::{API_KEY, FakeGemini};
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Far beyond what anything here takes: only there so that a failure is a message and not a hang.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct TestWorker {
    pub(crate) url: String,
    pub(crate) store: PathBuf,
    process: Process,
    reports: broadcast::Receiver<Arc<FinishedReport>>,
    serving: tokio::task::JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl TestWorker {
    /// Starts one with a store of its own.
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), change).await
    }

    /// Starts one on the store that an earlier one has left.
    pub(crate) async fn start_in(folder: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let store = folder.path().join("worker.db");
        let mut config = Config::on_loopback(store.clone());
        change(&mut config);
        let process = Process::start(PART, &config.common, Value::Null).expect("an admin port");
        let app = App::bind(config, &process).await.expect("bound");
        let (url, reports) = (format!("http://{}", app.address()), app.reports());
        let serving = tokio::spawn(async move { app.serve().await.expect("served") });
        Self {
            url,
            store,
            process,
            reports,
            serving,
            folder,
        }
    }

    /// Starts one that asks `gemini`.
    pub(crate) async fn asking(gemini: &FakeGemini) -> Self {
        let provider = provider(gemini, Duration::from_secs(30));
        Self::start(|config| config.provider = provider).await
    }

    /// The next report.
    pub(crate) async fn report(&mut self) -> Arc<FinishedReport> {
        let report = tokio::time::timeout(PATIENCE, self.reports.recv()).await;
        report.expect("in time").expect("a report")
    }

    pub(crate) fn no_more_reports(&mut self) -> bool {
        self.reports.try_recv().is_err()
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Method::POST, path, &[("content-type", "application/json")], body)
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        send(method, &format!("{}{path}", self.url), headers, body.into()).await
    }

    /// Posts one alert and returns the id of its incident.
    pub(crate) async fn alert(&self, labels: &Value, annotations: &Value) -> String {
        let answer = self
            .post("/api/v1/alerts", alert(labels, annotations).to_string())
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()["incidents"][0]
            .as_str()
            .expect("an incident")
            .to_owned()
    }

    pub(crate) fn metrics(&self) -> String {
        String::from_utf8(self.process.metrics().render()).expect("text")
    }

    /// Ends it and gives the folder of its store.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.process.shutdown().begin_now();
        self.serving.await.expect("drained");
        self.folder
    }
}

pub(crate) fn provider(gemini: &FakeGemini, timeout: Duration) -> ProviderConfig {
    let engine = Engine::Gemini(GeminiEngine {
        base_url: gemini.url().parse().expect("a URL"),
        api_key: Secret::new(API_KEY),
    });
    model(engine, "gemini-3.5-flash", timeout)
}

/// A model with the limits of the defaults.
pub(crate) fn model(engine: Engine, name: &str, timeout: Duration) -> ProviderConfig {
    ProviderConfig::Model(Box::new(ModelConfig {
        engine,
        model: name.to_owned(),
        timeout,
        limits: Limits::default(),
    }))
}

pub(crate) fn alert(labels: &Value, annotations: &Value) -> Value {
    json!({
        "version": "4", "status": "firing", "receiver": "w", "groupKey": "{}:{}", "truncatedAlerts": 0,
        "alerts": [{
            "status": "firing", "labels": labels, "annotations": annotations,
            "startsAt": "2026-11-22T22:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
        }],
    })
}

pub(crate) fn drift_event() -> Value {
    serde_json::from_str(include_str!("../golden/drift-detected.json")).expect("JSON")
}

/// An answer to an alert that validation leaves as it is; quotes the label that every test alert has.
pub(crate) fn good_answer() -> Value {
    json!({
        "summary": "The scorer fails.",
        "root_causes": [{
            "hypothesis": "the model file is damaged",
            "confidence": 0.7,
            "evidence": [{"id": "E1", "quote": "label alertname:"}],
            "remediation": {"action": "go back one version", "risk": "low"},
        }],
    })
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("JSON, not {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn report(&self) -> Report {
        serde_json::from_slice(&self.body).expect("a report")
    }
}

pub(crate) async fn send(method: Method, url: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).expect("a request");
    let response = client.request(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    Answer {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.expect("a body").to_bytes(),
    }
}
