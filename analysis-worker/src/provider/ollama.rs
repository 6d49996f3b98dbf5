//! Ollama's own API, for it alone can be told how long the context is: the compatible one cuts long prompts silently.

use std::time::Duration;

use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::{Failure, exchange};
use super::model::{Answer, Ask};
use super::{ProviderError, TEMPERATURE};
use crate::config::OllamaEngine;
use crate::http::{HttpClient, join};
use crate::text::{one_line, sanitise, tokens};

/// Tokens of the context that are left for the answer.
const ANSWER: usize = 4_096;
/// A prompt of which less than this share of our estimate was read has been cut.
const LEAST_READ: f64 = 0.5;

/// A client of one server.
#[derive(Clone, Debug)]
pub(super) struct Ollama {
    engine: OllamaEngine,
    model: String,
    http: HttpClient,
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    message: Message,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Message {
    #[serde(default)]
    content: String,
}

impl Ollama {
    pub(super) fn new(engine: OllamaEngine, model: String, http: HttpClient) -> Self {
        Self { engine, model, http }
    }

    /// Whether the server has the model.
    pub(super) async fn check(&self, left: Duration) -> Result<(), Failure> {
        self.call("/api/show", &json!({"model": self.model}), left)
            .await
            .map(|_| ())
    }

    pub(super) async fn attempt(&self, ask: &Ask<'_>, left: Duration) -> Result<Answer, Failure> {
        let context = self.engine.context as usize;
        let size = tokens(ask.system) + tokens(ask.prompt);
        if size + ANSWER > context {
            return Err(ProviderError::Rejected(format!(
                "the prompt has about {size} tokens, and {ANSWER} are kept for the answer: more than ollama_context = {context}"
            ))
            .into());
        }
        let body = json!({
            "model": self.model,
            "messages": [{"role": "system", "content": ask.system}, {"role": "user", "content": ask.prompt}],
            "stream": false,
            "format": ask.schema,
            "options": {"temperature": TEMPERATURE, "num_ctx": context, "num_predict": ANSWER},
        });
        read(&self.call("/api/chat", &body, left).await?, size)
    }

    async fn call(&self, path: &str, body: &Value, left: Duration) -> Result<Vec<u8>, Failure> {
        let uri = join(&self.engine.base_url, path).map_err(|error| Failure::fatal(error.to_string()))?;
        let answer = exchange(&self.http, Request::post(uri), body.to_string(), left).await?;
        if answer.status.is_success() {
            return Ok(answer.body.to_vec());
        }
        let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let message = document["error"].as_str().unwrap_or("no message");
        let text = format!(
            "status {}: {}",
            answer.status.as_u16(),
            one_line(&sanitise(message), 200)
        );
        Err(match answer.status {
            StatusCode::NOT_FOUND => Failure::fatal(text),
            StatusCode::TOO_MANY_REQUESTS => ProviderError::RateLimited(text).into(),
            status if status.is_server_error() => ProviderError::Unavailable(text).into(),
            _ => ProviderError::Rejected(text).into(),
        })
    }
}

/// Reads an answer to a prompt of about `size` tokens.
fn read(body: &[u8], size: usize) -> Result<Answer, Failure> {
    let reply: Reply = serde_json::from_slice(body)
        .map_err(|error| ProviderError::Unavailable(one_line(&format!("not a reply: {error}"), 200)))?;
    if let Some(count) = reply.prompt_eval_count
        && (count as f64) < size as f64 * LEAST_READ
    {
        return Err(ProviderError::Empty(format!(
            "the prompt was cut: {count} tokens of about {size} were read"
        ))
        .into());
    }
    if reply.done_reason.as_deref() == Some("length") {
        return Err(Failure::cut("cut at the output limit (length)"));
    }
    if reply.message.content.trim().is_empty() {
        return Err(ProviderError::Empty("no text".to_owned()).into());
    }
    Ok(Answer {
        text: reply.message.content,
        tokens: reply
            .prompt_eval_count
            .zip(reply.eval_count)
            .map(|(prompt, answer)| prompt + answer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_was_cut_is_no_answer() {
        let reply = |read: u64, reason: &str, text: &str| {
            let reply = json!({"message": {"role": "assistant", "content": text}, "done": true,
                "done_reason": reason, "prompt_eval_count": read, "eval_count": 7});
            super::read(reply.to_string().as_bytes(), 1_000)
        };
        let answer = reply(1_200, "stop", "{}").expect("an answer");
        assert_eq!((answer.text.as_str(), answer.tokens), ("{}", Some(1_207)));
        for (result, expected) in [
            (reply(400, "stop", "{}"), "the prompt was cut"),
            (reply(1_200, "length", "{"), "output limit"),
            (reply(1_200, "stop", " "), "no text"),
        ] {
            let failure = result.expect_err(expected);
            assert!(failure.error.to_string().contains(expected), "{failure:?}");
        }
    }
}
