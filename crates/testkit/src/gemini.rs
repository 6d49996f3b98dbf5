//! A stand-in for the Gemini API on loopback, port 0: it checks requests as the service does and answers what the test
//! says, when it says.
//!
//! It refuses what the service refuses (unknown fields, roles, both schema or thinking fields, a wrong key), so that a
//! client that passes here sends what the service takes. What it cannot show: tokenisation, latency, quality.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::predictor::{FakePredictor, Received, Reply};

/// The key that [`FakeGemini`] takes.
pub const API_KEY: &str = "stub-key";

/// One accepted `generateContent` request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Name of the model in the path.
    pub model: String,
    /// Its body.
    pub body: Value,
    /// The request as it arrived.
    pub request: Received,
}

impl Asked {
    /// The text parts of the contents, joined.
    pub fn prompt(&self) -> String {
        texts(&self.body["contents"][0])
    }

    /// The system text.
    pub fn system(&self) -> String {
        texts(&self.body["systemInstruction"])
    }

    /// The schema of the structured output.
    pub fn schema(&self) -> &Value {
        &self.body["generationConfig"]["responseJsonSchema"]
    }

    fn read(request: &Received) -> Option<Self> {
        let (model, _) = operation(request.path())?;
        Some(Self {
            model: model.to_owned(),
            body: serde_json::from_slice(&request.body).ok()?,
            request: request.clone(),
        })
    }
}

fn texts(content: &Value) -> String {
    let parts = content["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().filter_map(|part| part["text"].as_str()).collect()
}

/// The fake service; it ends when dropped.
#[derive(Debug)]
pub struct FakeGemini {
    server: FakePredictor,
    /// Whether it knows the models that it is asked about.
    knows_models: Arc<AtomicBool>,
}

impl FakeGemini {
    /// Answers every accepted `generateContent` with what `script` says.
    pub async fn answering(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let knows_models = Arc::new(AtomicBool::new(true));
        let knows = Arc::clone(&knows_models);
        let server = FakePredictor::answering(move |request| serve(request, &knows, &script)).await;
        Self { server, knows_models }
    }

    /// The same, each answer held until [`FakeGemini::release`].
    pub async fn holding(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let knows_models = Arc::new(AtomicBool::new(true));
        let knows = Arc::clone(&knows_models);
        let server = FakePredictor::holding(move |request| serve(request, &knows, &script)).await;
        Self { server, knows_models }
    }

    /// Answers the first request with the first reply, the second with the second; the last one repeats.
    ///
    /// # Panics
    /// Without replies.
    pub async fn in_turn(replies: Vec<Reply>) -> Self {
        assert!(!replies.is_empty(), "at least one reply");
        let next = std::sync::atomic::AtomicUsize::new(0);
        Self::answering(move |_| {
            let turn = next.fetch_add(1, Ordering::SeqCst);
            replies[turn.min(replies.len() - 1)].clone()
        })
        .await
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Has no model of any name any more.
    pub fn forget_models(&self) {
        self.knows_models.store(false, Ordering::SeqCst);
    }

    /// Waits for `count` requests to generate content and returns all so far.
    pub async fn received(&self, count: usize) -> Vec<Asked> {
        let mut requests = count;
        loop {
            let received = self.server.received(requests).await;
            let asked: Vec<Asked> = received.iter().filter_map(Asked::read).collect();
            if asked.len() >= count {
                return asked;
            }
            requests = received.len() + 1;
        }
    }

    /// Waits until it was asked about a model, not for an answer of it.
    pub async fn described(&self) {
        let mut requests = 1;
        loop {
            let received = self.server.received(requests).await;
            if received.iter().any(|request| request.method == Method::GET) {
                return;
            }
            requests = received.len() + 1;
        }
    }

    /// Requests to generate content so far.
    pub fn received_so_far(&self) -> usize {
        self.server
            .received_by_now()
            .iter()
            .filter_map(Asked::read)
            .count()
    }

    /// Lets every held and later answer go.
    pub fn release(&self) {
        self.server.release();
    }

    /// Breaks every connection.
    pub async fn drop_connections(&self) {
        self.server.drop_connections().await;
    }
}

fn serve(request: &Received, knows_models: &AtomicBool, script: &impl Fn(&Asked) -> Reply) -> Reply {
    let description = (request.method == Method::GET)
        .then(|| described(request.path()))
        .flatten();
    let operation = operation(request.path());
    if description.is_none() && operation.is_none() {
        return error(404, "NOT_FOUND", "no such method");
    }
    let vertex = request.path().contains("/publishers/");
    let key_fits = request.header("x-goog-api-key") == API_KEY;
    let token_fits = vertex && request.header("authorization").starts_with("Bearer ");
    if !(key_fits || token_fits) {
        return error(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
        );
    }
    let model = description
        .or(operation.map(|(model, _)| model))
        .unwrap_or_default();
    if !knows_models.load(Ordering::SeqCst) {
        let message = format!("models/{model} is not found for API version v1beta.");
        return error(404, "NOT_FOUND", &message);
    }
    let Some((_, operation)) = operation else {
        let methods = ["generateContent", "countTokens"];
        let description = json!({"name": format!("models/{model}"), "supportedGenerationMethods": methods,
            "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536});
        return Reply::json(description.to_string());
    };
    let Some(asked) = Asked::read(request) else {
        return error(400, "INVALID_ARGUMENT", "Invalid JSON payload received.");
    };
    if let Err(message) = check(&asked.body, operation, vertex) {
        return error(400, "INVALID_ARGUMENT", &message);
    }
    match operation {
        "countTokens" => Reply::json(json!({"totalTokens": asked.prompt().len().div_ceil(4)}).to_string()),
        "streamGenerateContent" => streamed(script(&asked)),
        _ => script(&asked),
    }
}

/// Model of `/v1beta/models/{model}` and of the Vertex AI form of it.
fn described(path: &str) -> Option<&str> {
    let (before, model) = path.rsplit_once("/models/")?;
    let known = ["/v1", "/v1beta", "/v1beta1"]
        .iter()
        .any(|version| before == *version || before == format!("{version}/publishers/google"));
    (known && !model.contains([':', '/'])).then_some(model)
}

/// Model and method of `/v1beta/models/{model}:{method}` and of the Vertex AI form of it.
fn operation(path: &str) -> Option<(&str, &str)> {
    let versions = ["/v1/", "/v1beta/", "/v1beta1/"];
    versions.iter().find(|version| path.starts_with(**version))?;
    let (model, operation) = path.rsplit_once("/models/")?.1.split_once(':')?;
    let known = ["generateContent", "streamGenerateContent", "countTokens"];
    known.contains(&operation).then_some((model, operation))
}

fn check(body: &Value, operation: &str, vertex: bool) -> Result<(), String> {
    let mut top = vec![
        "contents",
        "systemInstruction",
        "generationConfig",
        "safetySettings",
        "tools",
        "toolConfig",
        "cachedContent",
    ];
    if vertex {
        top.push("labels");
    }
    if operation == "countTokens" {
        top.push("generateContentRequest");
    }
    known_only(body, &top, "")?;
    let contents = body["contents"]
        .as_array()
        .filter(|contents| !contents.is_empty());
    for content in contents.ok_or("contents is not specified")? {
        known_only(content, &["role", "parts"], "contents")?;
        if !matches!(content["role"].as_str(), None | Some("user" | "model")) {
            return Err("Please use a valid role: user, model.".to_owned());
        }
        if content["parts"].as_array().is_none_or(Vec::is_empty) {
            return Err("contents.parts must not be empty.".to_owned());
        }
    }
    let generation = &body["generationConfig"];
    if generation.is_null() {
        return Ok(());
    }
    let fields = [
        "temperature",
        "topP",
        "topK",
        "seed",
        "maxOutputTokens",
        "candidateCount",
        "stopSequences",
        "responseMimeType",
        "responseSchema",
        "responseJsonSchema",
        "thinkingConfig",
    ];
    known_only(generation, &fields, "generation_config")?;
    if !generation["responseSchema"].is_null() && !generation["responseJsonSchema"].is_null() {
        return Err("response_schema and response_json_schema cannot both be set.".to_owned());
    }
    let has_schema = !generation["responseSchema"].is_null() || !generation["responseJsonSchema"].is_null();
    if has_schema && generation["responseMimeType"] != "application/json" {
        return Err("a response schema needs response_mime_type application/json.".to_owned());
    }
    let thinking = &generation["thinkingConfig"];
    let has = |names: [&str; 2]| names.iter().any(|name| !thinking[*name].is_null());
    if has(["thinkingBudget", "thinking_budget"]) && has(["thinkingLevel", "thinking_level"]) {
        return Err("You can only set one of thinking budget and thinking level.".to_owned());
    }
    Ok(())
}

fn known_only(value: &Value, fields: &[&str], at: &str) -> Result<(), String> {
    let object = value
        .as_object()
        .ok_or_else(|| format!("Invalid value at '{at}'"))?;
    match object.keys().find(|name| !fields.contains(&name.as_str())) {
        Some(name) => Err(format!("Unknown name \"{name}\" at '{at}': Cannot find field.")),
        None => Ok(()),
    }
}

/// An answer as the one event of a stream; an error stays as it is.
fn streamed(reply: Reply) -> Reply {
    if !reply.is_ok() {
        return reply;
    }
    let event = [b"data: ", &reply.body()[..], b"\r\n\r\n"].concat();
    Reply::status(StatusCode::OK)
        .header("content-type", "text/event-stream")
        .chunk(event)
}

fn answer_body(text: &str, reason: &str) -> Value {
    json!({
        "candidates": [{
            "content": {"role": "model", "parts": [{"text": text}]},
            "finishReason": reason,
            "index": 0,
        }],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 10, "totalTokenCount": 20},
        "modelVersion": "stub",
        "responseId": "stub-1",
    })
}

/// 200 with one candidate that has this text.
pub fn answer(text: &str) -> Reply {
    Reply::json(answer_body(text, "STOP").to_string())
}

/// 200 with one candidate that ended for `reason`, with or without text.
pub fn finished(text: Option<&str>, reason: &str) -> Reply {
    let mut body = answer_body(text.unwrap_or_default(), reason);
    if text.is_none() {
        body["candidates"][0]["content"] = json!({"role": "model"});
    }
    Reply::json(body.to_string())
}

/// 200 without candidates.
pub fn no_candidates() -> Reply {
    Reply::json(json!({"usageMetadata": {"promptTokenCount": 10}}).to_string())
}

/// 200 for a prompt that was blocked.
pub fn blocked(reason: &str) -> Reply {
    Reply::json(json!({"promptFeedback": {"blockReason": reason}}).to_string())
}

/// An error as the service writes it.
pub fn error(code: u16, status: &str, message: &str) -> Reply {
    error_with(code, status, message, &json!([]))
}

/// 429 that advises to come back after `delay`, such as `0.01s`.
pub fn retry_after(delay: &str) -> Reply {
    let info = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]);
    error_with(
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota.",
        &info,
    )
}

/// 429 for the quota of the day.
pub fn quota_of_the_day() -> Reply {
    let failure = json!([
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.01s"},
    ]);
    error_with(
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota.",
        &failure,
    )
}

fn error_with(code: u16, status: &str, message: &str, details: &Value) -> Reply {
    let body = json!({"error": {"code": code, "message": message, "status": status, "details": details}});
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Reply::json(body.to_string()).with_status(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_refuses_what_the_service_refuses() {
        let good = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}]});
        assert_eq!(check(&good, "generateContent", false), Ok(()));
        for (change, expected) in [
            (json!({"prompt": "x"}), "Unknown name \"prompt\""),
            (json!({"labels": {}}), "Unknown name \"labels\""),
            (
                json!({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}),
                "valid role",
            ),
            (json!({"contents": []}), "contents is not specified"),
            (
                json!({"generationConfig": {"responseSchema": {}, "responseJsonSchema": {}}}),
                "cannot both",
            ),
            (
                json!({"generationConfig": {"responseJsonSchema": {}}}),
                "response_mime_type",
            ),
            (
                json!({"generationConfig": {"thinkingConfig": {"thinkingBudget": 1, "thinking_level": "LOW"}}}),
                "only set one",
            ),
        ] {
            let mut body = good.clone();
            for (name, value) in change.as_object().expect("fields") {
                body[name] = value.clone();
            }
            let error = check(&body, "generateContent", false).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_paths_of_all_clients_are_known() {
        assert_eq!(
            operation("/v1beta/models/gemini-x:generateContent"),
            Some(("gemini-x", "generateContent"))
        );
        let vertex = "/v1beta1/projects/p/locations/l/publishers/google/models/gemini-x:countTokens";
        assert_eq!(operation(vertex), Some(("gemini-x", "countTokens")));
        assert_eq!(operation("/v1/chat/completions"), None);
    }
}
