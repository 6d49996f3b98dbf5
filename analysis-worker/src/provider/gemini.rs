//! The Gemini API: `generateContent` with structured output, over REST; the same of Vertex AI.
//!
//! HTTP 200 is not an answer yet: no candidates, a blocked prompt, a candidate without text, a cut or filtered one are
//! failures with names. 429 is obeyed: the advised wait when it fits, a pause for everybody when the day's quota is gone.

mod wire;

use std::time::Duration;

use http::Request;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::failure::{Failure, exchange, secret_header};
use super::model::{Answer, Ask};
use super::vertex::Tokens;
use super::{MAX_OUTPUT_TOKENS, ProviderError, TEMPERATURE};
use crate::config::{GeminiEngine, VertexEngine};
use crate::http::{HttpClient, join};
use wire::Reply;

/// A client of the API.
#[derive(Clone, Debug)]
pub(super) struct Gemini {
    base_url: http::Uri,
    /// Before `:generateContent`.
    path: String,
    /// Where the model is described.
    described: String,
    model: String,
    access: Access,
    http: HttpClient,
}

#[derive(Clone, Debug)]
enum Access {
    Key(crate::config::Secret),
    Token(Box<Tokens>),
}

impl Gemini {
    pub(super) fn with_key(engine: GeminiEngine, model: String, http: HttpClient) -> Self {
        let path = format!("/v1beta/models/{model}");
        Self {
            base_url: engine.base_url,
            described: path.clone(),
            path,
            model,
            access: Access::Key(engine.api_key),
            http,
        }
    }

    pub(super) fn of_vertex(engine: VertexEngine, model: String, http: HttpClient) -> Self {
        let place = format!("projects/{}/locations/{}", engine.project, engine.location);
        Self {
            base_url: engine.base_url.clone(),
            path: format!("/v1/{place}/publishers/google/models/{model}"),
            described: format!("/v1/publishers/google/models/{model}"),
            model,
            access: Access::Token(Box::new(Tokens::new(engine, http.clone()))),
            http,
        }
    }

    /// Whether the API knows the model.
    pub(super) async fn check(&self, left: Duration) -> Result<(), Failure> {
        let uri = join(&self.base_url, &self.described).map_err(|error| rejected(&error))?;
        let request = self.authorized(Request::get(uri), left).await?;
        let answer = exchange(&self.http, request, String::new(), left).await?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(wire::failure(answer.status, &answer.headers, &answer.body))
        }
    }

    pub(super) async fn attempt(&self, ask: &Ask<'_>, left: Duration) -> Result<Answer, Failure> {
        let uri = join(&self.base_url, &format!("{}:generateContent", self.path))
            .map_err(|error| rejected(&error))?;
        // The server stops when nobody waits any more.
        let request = Request::post(uri).header("x-server-timeout", left.as_secs().max(1));
        let request = self.authorized(request, left).await?;
        let answer = exchange(&self.http, request, self.body(ask).to_string(), left).await?;
        if answer.status.is_success() {
            Reply::parse(&answer.body).and_then(Reply::into_answer)
        } else {
            Err(wire::failure(answer.status, &answer.headers, &answer.body))
        }
    }

    async fn authorized(
        &self,
        request: http::request::Builder,
        left: Duration,
    ) -> Result<http::request::Builder, Failure> {
        Ok(match &self.access {
            Access::Key(key) => request.header("x-goog-api-key", secret_header(key.reveal())?),
            Access::Token(tokens) => {
                let token = tokens.get(left).await?;
                request.header(AUTHORIZATION, secret_header(&format!("Bearer {token}"))?)
            }
        })
    }

    fn body(&self, ask: &Ask<'_>) -> Value {
        let mut generation = json!({
            "temperature": TEMPERATURE,
            "maxOutputTokens": MAX_OUTPUT_TOKENS,
            "responseMimeType": "application/json",
            "responseJsonSchema": ask.schema,
        });
        if ask.least_thinking {
            // The two families spell it differently and refuse the other's spelling.
            generation["thinkingConfig"] = if self.model.starts_with("gemini-2") {
                json!({"thinkingBudget": 512})
            } else {
                json!({"thinkingLevel": "LOW"})
            };
        }
        json!({
            "systemInstruction": {"parts": [{"text": ask.system}]},
            "contents": [{"role": "user", "parts": [{"text": ask.prompt}]}],
            "generationConfig": generation,
        })
    }
}

fn rejected(error: &crate::http::HttpError) -> Failure {
    ProviderError::Rejected(error.to_string()).into()
}
