//! Ollama's own API on loopback, port 0. Like the real one it reads no more of a prompt than its context has room for,
//! and says so only in a count. Source: Ollama's `docs/api.md`.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::predictor::{FakePredictor, Received, Reply};

/// The only model that it has.
pub const MODEL: &str = "small-model";
/// Its context when a request asks for none.
const DEFAULT_CONTEXT: usize = 4_096;

/// The fake server; it ends when dropped.
#[derive(Debug)]
pub struct FakeOllama(FakePredictor);

impl FakeOllama {
    /// Answers every accepted chat with the text that `script` says of its body.
    pub async fn answering(script: impl Fn(&Value) -> String + Send + Sync + 'static) -> Self {
        Self(FakePredictor::answering(move |request| serve(request, &script)).await)
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// Bodies of the chats so far.
    pub fn asked(&self) -> Vec<Value> {
        let requests = self.0.received_by_now();
        let chats = requests.iter().filter(|request| request.path() == "/api/chat");
        chats
            .filter_map(|request| serde_json::from_slice(&request.body).ok())
            .collect()
    }
}

fn serve(request: &Received, script: &impl Fn(&Value) -> String) -> Reply {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return error(StatusCode::BAD_REQUEST, "invalid JSON");
    };
    if request.method != Method::POST || !["/api/chat", "/api/show"].contains(&request.path()) {
        return Reply::status(StatusCode::NOT_FOUND);
    }
    if body["model"] != MODEL {
        let name = body["model"].as_str().unwrap_or("");
        return error(StatusCode::NOT_FOUND, &format!("model '{name}' not found"));
    }
    if request.path() == "/api/show" {
        return Reply::json(
            json!({"details": {"family": "small"}, "capabilities": ["completion"]}).to_string(),
        );
    }
    let format = &body["format"];
    if !(format.is_null() || format == "json" || format.is_object()) {
        return error(StatusCode::BAD_REQUEST, "invalid format");
    }
    if body["stream"] != false {
        return error(StatusCode::BAD_REQUEST, "this fake does not stream");
    }
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let size: usize = messages
        .iter()
        .filter_map(|message| message["content"].as_str())
        .map(|text| text.len().div_ceil(4))
        .sum();
    let context = body["options"]["num_ctx"]
        .as_u64()
        .map_or(DEFAULT_CONTEXT, |size| size as usize);
    let reply = json!({
        "model": MODEL, "created_at": "2026-11-29T10:00:00Z", "done": true, "done_reason": "stop",
        "message": {"role": "assistant", "content": script(&body)},
        "total_duration": 1, "load_duration": 1, "prompt_eval_duration": 1, "eval_duration": 1,
        "prompt_eval_count": size.min(context), "eval_count": 10,
    });
    Reply::json(reply.to_string())
}

fn error(status: StatusCode, message: &str) -> Reply {
    Reply::json(json!({"error": message}).to_string()).with_status(status)
}
