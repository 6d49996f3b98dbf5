//! Chat completions as OpenAI has them, and after it vLLM, llama.cpp, LM Studio and many more.
//!
//! The document is asked for by its schema; a server that knows no schemas is asked for any JSON object, with the schema
//! in the text.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::{Failure, Throttle, exchange, retry_after, secret_header};
use super::model::{Answer, Ask};
use super::{MAX_OUTPUT_TOKENS, ProviderError, TEMPERATURE};
use crate::config::OpenAiEngine;
use crate::http::{HttpClient, join};
use crate::text::{one_line, sanitise};

/// A client of one server.
#[derive(Clone, Debug)]
pub(super) struct OpenAi {
    engine: OpenAiEngine,
    model: String,
    http: HttpClient,
    /// The server has refused a schema.
    knows_no_schema: Arc<AtomicBool>,
}

#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    total_tokens: Option<u64>,
}

impl OpenAi {
    pub(super) fn new(engine: OpenAiEngine, model: String, http: HttpClient) -> Self {
        Self {
            engine,
            model,
            http,
            knows_no_schema: Arc::default(),
        }
    }

    /// Whether the server lists the model.
    pub(super) async fn check(&self, left: Duration) -> Result<(), Failure> {
        let answer = exchange(
            &self.http,
            self.request("/models", Request::get)?,
            String::new(),
            left,
        )
        .await?;
        if !answer.status.is_success() {
            let mut failure = failure(answer.status, &answer.headers, &answer.body);
            // A server without this list may still know the model.
            failure.fatal &= answer.status != StatusCode::NOT_FOUND;
            return Err(failure);
        }
        let list: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let Some(models) = list["data"].as_array() else {
            return Err(ProviderError::Unavailable("not a list of models".to_owned()).into());
        };
        if models.iter().any(|model| model["id"] == self.model.as_str()) {
            return Ok(());
        }
        Err(Failure::fatal(format!("the server has no model {}", self.model)))
    }

    pub(super) async fn attempt(&self, ask: &Ask<'_>, left: Duration) -> Result<Answer, Failure> {
        if !self.knows_no_schema.load(Ordering::Relaxed) {
            match self.once(ask, Format::Schema, left).await {
                // The only thing that differs is the format, so it is what is wrong if the other one works.
                Err((StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY, refused)) => {
                    let answer = self.once(ask, Format::Object, left).await.map_err(|_| refused)?;
                    tracing::info!(
                        model = self.model,
                        "the server takes no schema; it is asked for any JSON object"
                    );
                    self.knows_no_schema.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                answered => return answered.map_err(|(_, failure)| failure),
            }
        }
        self.once(ask, Format::Object, left)
            .await
            .map_err(|(_, failure)| failure)
    }

    async fn once(
        &self,
        ask: &Ask<'_>,
        format: Format,
        left: Duration,
    ) -> Result<Answer, (StatusCode, Failure)> {
        let unsent = |failure| (StatusCode::OK, failure);
        let request = self.request("/chat/completions", Request::post).map_err(unsent)?;
        let body = self.body(ask, format).to_string();
        let answer = exchange(&self.http, request, body, left).await.map_err(unsent)?;
        if answer.status.is_success() {
            read(&answer.body).map_err(unsent)
        } else {
            Err((
                answer.status,
                failure(answer.status, &answer.headers, &answer.body),
            ))
        }
    }

    fn request(
        &self,
        path: &str,
        method: impl Fn(http::Uri) -> http::request::Builder,
    ) -> Result<http::request::Builder, Failure> {
        let uri = join(&self.engine.base_url, path).map_err(|error| Failure::fatal(error.to_string()))?;
        let request = method(uri);
        Ok(match &self.engine.api_key {
            Some(key) => {
                let key = secret_header(&format!("Bearer {}", key.reveal()))?;
                request.header(AUTHORIZATION, key)
            }
            None => request,
        })
    }

    fn body(&self, ask: &Ask<'_>, format: Format) -> Value {
        let (system, format) = match format {
            Format::Schema => (
                ask.system.to_owned(),
                // Not strict: strict schemas have no optional fields.
                json!({"type": "json_schema", "json_schema": {"name": "findings", "schema": ask.schema, "strict": false}}),
            ),
            Format::Object => (with_schema(ask), json!({"type": "json_object"})),
        };
        json!({
            "model": self.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": ask.prompt}],
            "temperature": TEMPERATURE,
            "max_tokens": MAX_OUTPUT_TOKENS,
            "response_format": format,
        })
    }
}

#[derive(Clone, Copy)]
enum Format {
    Schema,
    Object,
}

/// The system text with the schema, for engines that take none.
pub(super) fn with_schema(ask: &Ask<'_>) -> String {
    format!("{}\n\nThe schema of the document:\n{}\n", ask.system, ask.schema)
}

fn read(body: &[u8]) -> Result<Answer, Failure> {
    let completion: Completion = serde_json::from_slice(body)
        .map_err(|error| ProviderError::Unavailable(one_line(&format!("not a completion: {error}"), 200)))?;
    let Some(choice) = completion.choices.into_iter().next() else {
        return Err(ProviderError::Empty("no choices".to_owned()).into());
    };
    if let Some(refusal) = choice.message.refusal {
        return Err(ProviderError::Blocked(one_line(&sanitise(&refusal), 160)).into());
    }
    let text = choice.message.content.unwrap_or_default();
    match choice.finish_reason.as_deref().unwrap_or("stop") {
        "stop" if text.trim().is_empty() => Err(ProviderError::Empty("no text".to_owned()).into()),
        "stop" => Ok(Answer {
            text,
            tokens: completion.usage.and_then(|usage| usage.total_tokens),
        }),
        "length" => Err(Failure::cut("cut at the output limit (length)")),
        "content_filter" => Err(ProviderError::Blocked("content_filter".to_owned()).into()),
        other => {
            let other = one_line(&sanitise(other), 60);
            Err(ProviderError::Empty(format!("finish reason {other}")).into())
        }
    }
}

/// Reads an error: `{"error": {"message", "type", "code"}}`, or whatever a gateway wrote.
fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &document["error"];
    let message = error["message"]
        .as_str()
        .or_else(|| error.as_str())
        .unwrap_or("no message");
    let text = format!(
        "status {}: {}",
        status.as_u16(),
        one_line(&sanitise(message), 200)
    );
    match status.as_u16() {
        429 => Failure {
            throttle: if error["code"] == "insufficient_quota" || error["type"] == "insufficient_quota" {
                Some(Throttle::Day)
            } else {
                retry_after(headers).map(Throttle::after)
            },
            ..ProviderError::RateLimited(text).into()
        },
        408 | 500..=599 => ProviderError::Unavailable(text).into(),
        401 | 403 | 404 => Failure::fatal(text),
        _ => ProviderError::Rejected(text).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failures_of_http_200_have_names() {
        for (choices, expected, cut) in [
            (json!([]), "no choices", false),
            (
                json!([{"message": {"content": null}, "finish_reason": "stop"}]),
                "no text",
                false,
            ),
            (
                json!([{"message": {"content": "{"}, "finish_reason": "length"}]),
                "length",
                true,
            ),
            (
                json!([{"message": {"content": "{}"}, "finish_reason": "content_filter"}]),
                "blocked",
                false,
            ),
            (
                json!([{"message": {"refusal": "I cannot"}, "finish_reason": "stop"}]),
                "I cannot",
                false,
            ),
            (
                json!([{"message": {"content": "{}"}, "finish_reason": "tool_calls"}]),
                "tool_calls",
                false,
            ),
        ] {
            let failure = read(json!({"choices": choices}).to_string().as_bytes()).expect_err(expected);
            assert!(failure.error.to_string().contains(expected), "{failure:?}");
            assert_eq!(failure.cut, cut);
        }
    }

    #[test]
    fn a_spent_account_is_not_asked_again_today() {
        let read = |body: Value| {
            failure(
                StatusCode::TOO_MANY_REQUESTS,
                &HeaderMap::from_iter([(http::header::RETRY_AFTER, "7".parse().expect("a value"))]),
                body.to_string().as_bytes(),
            )
            .throttle
        };
        assert_eq!(
            read(json!({"error": {"code": "insufficient_quota"}})),
            Some(Throttle::Day)
        );
        assert_eq!(
            read(json!({"error": {"code": "rate_limit_exceeded"}})),
            Some(Throttle::Wait(Duration::from_secs(7)))
        );
    }
}
