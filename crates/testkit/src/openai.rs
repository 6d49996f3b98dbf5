//! A server with OpenAI's chat completions on loopback, port 0: it checks requests as the service does and answers what
//! the test says. Source: OpenAI's API reference, "Create chat completion", and what servers after it leave out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::predictor::{FakePredictor, Received, Reply};

/// The key that [`FakeOpenAi`] takes.
pub const API_KEY: &str = "stub-openai-key";
/// The only model that it has.
pub const MODEL: &str = "local-model";

/// The fake server; it ends when dropped.
#[derive(Debug)]
pub struct FakeOpenAi {
    server: FakePredictor,
    knows_schemas: Arc<AtomicBool>,
}

impl FakeOpenAi {
    /// Answers every accepted request for a completion with what `script` says of its body.
    pub async fn answering(script: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Self {
        let knows_schemas = Arc::new(AtomicBool::new(true));
        let knows = Arc::clone(&knows_schemas);
        let serve = move |request: &Received| serve(request, knows.load(Ordering::SeqCst), &script);
        Self {
            server: FakePredictor::answering(serve).await,
            knows_schemas,
        }
    }

    /// Refuses `json_schema` from now on, as servers do that only know `json_object`.
    pub fn forget_schemas(&self) {
        self.knows_schemas.store(false, Ordering::SeqCst);
    }

    /// `http://127.0.0.1:<port>/v1`
    pub fn url(&self) -> String {
        format!("{}/v1", self.server.url())
    }

    /// Bodies of the requests for completions so far, refused ones included.
    pub fn asked(&self) -> Vec<Value> {
        let requests = self.server.received_by_now();
        let bodies = requests.iter().filter(|request| request.method == Method::POST);
        bodies
            .filter_map(|request| serde_json::from_slice(&request.body).ok())
            .collect()
    }
}

fn serve(request: &Received, knows_schemas: bool, script: &impl Fn(&Value) -> Reply) -> Reply {
    if request.header("authorization") != format!("Bearer {API_KEY}") {
        return error(401, "invalid_api_key", "Incorrect API key provided.");
    }
    match (&request.method, request.path()) {
        (&Method::GET, "/v1/models") => {
            let list = json!({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "us"}]});
            Reply::json(list.to_string())
        }
        (&Method::POST, "/v1/chat/completions") => {
            let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
                return error(
                    400,
                    "invalid_json",
                    "We could not parse the JSON body of your request.",
                );
            };
            if let Err(message) = check(&body, knows_schemas) {
                return error(400, "invalid_request", &message);
            }
            if body["model"] != MODEL {
                return error(404, "model_not_found", "The model does not exist.");
            }
            script(&body)
        }
        _ => error(404, "unknown_url", "Unknown request URL."),
    }
}

fn check(body: &Value, knows_schemas: bool) -> Result<(), String> {
    const FIELDS: [&str; 11] = [
        "model",
        "messages",
        "temperature",
        "top_p",
        "seed",
        "max_tokens",
        "max_completion_tokens",
        "response_format",
        "stream",
        "n",
        "stop",
    ];
    let object = body.as_object().ok_or("an object is expected")?;
    if let Some(name) = object.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(format!("Unrecognized request argument supplied: {name}"));
    }
    let messages = body["messages"]
        .as_array()
        .filter(|messages| !messages.is_empty());
    for message in messages.ok_or("'messages' must not be empty")? {
        let role = message["role"].as_str().unwrap_or("");
        if !["system", "developer", "user", "assistant"].contains(&role) {
            return Err(format!("'{role}' is not one of the roles"));
        }
        if !message["content"].is_string() {
            return Err("'content' must be a string".to_owned());
        }
    }
    let format = &body["response_format"];
    match format["type"].as_str() {
        None if format.is_null() => Ok(()),
        Some("text" | "json_object") => Ok(()),
        Some("json_schema") if !knows_schemas => {
            Err("response_format json_schema is not supported".to_owned())
        }
        Some("json_schema") => {
            let named = &format["json_schema"];
            if named["name"].is_string() && named["schema"].is_object() {
                Ok(())
            } else {
                Err("Missing required parameter: 'response_format.json_schema.name'".to_owned())
            }
        }
        _ => Err("'response_format.type' must be text, json_object or json_schema".to_owned()),
    }
}

/// 200 with one choice that has this text and ended for this reason.
pub fn completion(text: &str, reason: &str) -> Reply {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": null},
            "logprobs": null,
            "finish_reason": reason,
        }],
        "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20},
    });
    Reply::json(body.to_string())
}

/// An error as the service writes it.
pub fn error(status: u16, code: &str, message: &str) -> Reply {
    let body =
        json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": code}});
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Reply::json(body.to_string()).with_status(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_refuses_what_the_service_refuses() {
        let good = json!({"model": MODEL, "messages": [{"role": "user", "content": "x"}]});
        assert_eq!(check(&good, true), Ok(()));
        for (change, expected) in [
            (json!({"prompt": "x"}), "Unrecognized request argument"),
            (json!({"messages": []}), "must not be empty"),
            (
                json!({"messages": [{"role": "robot", "content": "x"}]}),
                "'robot'",
            ),
            (json!({"response_format": {"type": "xml"}}), "must be text"),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}),
                "json_schema.name",
            ),
        ] {
            let mut body = good.clone();
            for (name, value) in change.as_object().expect("fields") {
                body[name] = value.clone();
            }
            let error = check(&body, true).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        let mut schema = good;
        schema["response_format"] =
            json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}});
        assert_eq!(check(&schema, true), Ok(()));
        assert!(check(&schema, false).is_err());
    }
}
