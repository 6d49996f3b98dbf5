//! The Gemini API: `generateContent` with structured output, over REST.
//!
//! HTTP 200 is not an answer yet: no candidates, a blocked prompt, a candidate without text, a cut or filtered one are
//! failures with names. 429 is obeyed: the advised wait when it fits, a pause for everybody when the day's quota is gone.

mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ProviderError;
use super::prompt::SYSTEM;
use crate::config::GeminiConfig;
use crate::http::{HttpClient, HttpError, join};
use crate::metrics::{Metrics, ProviderOutcome};
use wire::{Reply, Throttle};

/// Tries of one request.
const MAX_ATTEMPTS: u32 = 4;
/// Largest answer: far above what the output limit allows.
const MAX_BYTES: usize = 4 << 20;
/// Output tokens, thoughts included; a report needs about 2,000.
const MAX_OUTPUT_TOKENS: u32 = 16_384;
/// How long nobody asks after a quota per day is gone, or the key or model was refused.
const PAUSE: Duration = Duration::from_mins(15);

/// A client of the API. Cloned freely; every clone obeys the same pause.
#[derive(Clone, Debug)]
pub(crate) struct Gemini {
    config: GeminiConfig,
    http: HttpClient,
    metrics: Metrics,
    paused: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Gemini {
    pub(crate) fn new(config: GeminiConfig, http: HttpClient, metrics: Metrics) -> Self {
        Self {
            config,
            http,
            metrics,
            paused: Arc::default(),
        }
    }

    /// Name of the model that is asked.
    pub(crate) fn model(&self) -> &str {
        &self.config.model
    }

    /// When an answer is no longer waited for.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.config.timeout
    }

    /// Asks for one document of `schema` and returns its text. Retries until `deadline`.
    ///
    /// # Errors
    /// [`ProviderError`]; the caller falls back.
    pub(crate) async fn ask(
        &self,
        prompt: &str,
        schema: &Value,
        deadline: Instant,
    ) -> Result<String, ProviderError> {
        let mut thinking = Thinking::Default;
        let mut attempt = 1;
        loop {
            self.not_paused()?;
            let body = self.body(prompt, schema, thinking);
            let started = Instant::now();
            let result = self.attempt(&body, deadline).await;
            let (outcome, next) = self.judge(&result, attempt);
            self.metrics.provider(outcome, started.elapsed());
            let error = match result {
                Ok(text) => return Ok(text),
                Err(failure) => failure.error,
            };
            tracing::warn!(provider = "gemini", attempt, error = %error, "no answer from the provider");
            let wait = match next {
                Next::GiveUp => return Err(error),
                Next::LessThinking => {
                    thinking = Thinking::Least;
                    Duration::ZERO
                }
                Next::After(wait) => wait,
            };
            if Instant::now() + wait >= deadline {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// Tells everybody that the answer was refused by validation; counted apart from the request itself.
    pub(crate) fn refused(&self) {
        self.metrics.provider(ProviderOutcome::Refused, Duration::ZERO);
    }

    fn body(&self, prompt: &str, schema: &Value, thinking: Thinking) -> Value {
        let mut generation = json!({
            "temperature": 0.2,
            "maxOutputTokens": MAX_OUTPUT_TOKENS,
            "responseMimeType": "application/json",
            "responseJsonSchema": schema,
        });
        if let Thinking::Least = thinking {
            // The two families spell it differently and refuse the other's spelling.
            generation["thinkingConfig"] = if self.config.model.starts_with("gemini-2") {
                json!({"thinkingBudget": 512})
            } else {
                json!({"thinkingLevel": "LOW"})
            };
        }
        json!({
            "systemInstruction": {"parts": [{"text": SYSTEM}]},
            "contents": [{"role": "user", "parts": [{"text": prompt}]}],
            "generationConfig": generation,
        })
    }

    async fn attempt(&self, body: &Value, deadline: Instant) -> Result<String, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        let path = format!("/v1beta/models/{}:generateContent", self.config.model);
        let rejected = |error: String| Failure::from(ProviderError::Rejected(error));
        let uri = join(&self.config.base_url, &path).map_err(|error| rejected(error.to_string()))?;
        let mut key = http::HeaderValue::from_str(&self.config.api_key)
            .map_err(|_| rejected("the key is not a header value".to_owned()))?;
        key.set_sensitive(true);
        let request = Request::post(uri)
            .header("x-goog-api-key", key)
            .header(http::header::CONTENT_TYPE, "application/json")
            // The server stops when nobody waits any more.
            .header("x-server-timeout", left.as_secs().max(1))
            .body(Full::from(body.to_string()))
            .map_err(|error| rejected(error.to_string()))?;
        let answer = self.http.send(request, left, MAX_BYTES).await.map_err(|error| {
            Failure::from(match error {
                HttpError::Timeout(after) => ProviderError::Timeout(after),
                HttpError::TooLarge(_) => ProviderError::Empty(error.to_string()),
                HttpError::Transport(text) => ProviderError::Transport(text),
            })
        })?;
        if answer.status.is_success() {
            return Reply::parse(&answer.body)
                .and_then(Reply::into_text)
                .map_err(|(error, cut)| Failure {
                    error,
                    cut,
                    throttle: None,
                    fatal: false,
                });
        }
        Err(wire::failure(answer.status, &answer.headers, &answer.body))
    }

    /// What an attempt counts as, and what comes next.
    fn judge(&self, result: &Result<String, Failure>, attempt: u32) -> (ProviderOutcome, Next) {
        let Err(failure) = result else {
            return (ProviderOutcome::Answered, Next::GiveUp);
        };
        let again = |wait| {
            if attempt < MAX_ATTEMPTS {
                Next::After(wait)
            } else {
                Next::GiveUp
            }
        };
        match &failure.error {
            ProviderError::RateLimited(text) => match failure.throttle {
                Some(Throttle::Wait(wait)) => (ProviderOutcome::RateLimited, again(jittered(wait))),
                Some(Throttle::Exhausted) => {
                    self.pause(text);
                    (ProviderOutcome::RateLimited, Next::GiveUp)
                }
                None => (ProviderOutcome::RateLimited, again(backoff(attempt))),
            },
            ProviderError::Unavailable(_) => (ProviderOutcome::Unavailable, again(backoff(attempt))),
            ProviderError::Transport(_) => (ProviderOutcome::Transport, again(backoff(attempt))),
            ProviderError::Timeout(_) => (ProviderOutcome::Timeout, Next::GiveUp),
            ProviderError::Rejected(text) => {
                if failure.fatal {
                    self.pause(text);
                }
                (ProviderOutcome::Rejected, Next::GiveUp)
            }
            // Cut while thinking: once more with less of it.
            ProviderError::Empty(_) if failure.cut && attempt == 1 => {
                (ProviderOutcome::Empty, Next::LessThinking)
            }
            ProviderError::Empty(_) | ProviderError::Blocked(_) => (ProviderOutcome::Empty, Next::GiveUp),
            ProviderError::Refused(_) => (ProviderOutcome::Refused, Next::GiveUp),
            ProviderError::Paused(..) => (ProviderOutcome::Paused, Next::GiveUp),
        }
    }

    fn pause(&self, reason: &str) {
        tracing::error!(provider = "gemini", pause = ?PAUSE, error = reason, "the provider is not asked for a while");
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = Some((Instant::now() + PAUSE, reason.to_owned()));
    }

    fn not_paused(&self) -> Result<(), ProviderError> {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        match paused.as_ref() {
            Some((until, reason)) if *until > Instant::now() => {
                self.metrics.provider(ProviderOutcome::Paused, Duration::ZERO);
                Err(ProviderError::Paused(*until - Instant::now(), reason.clone()))
            }
            _ => {
                *paused = None;
                Ok(())
            }
        }
    }
}

/// A failed attempt with what decides about the next.
#[derive(Debug)]
struct Failure {
    error: ProviderError,
    /// The output limit was reached.
    cut: bool,
    throttle: Option<Throttle>,
    /// No later request can succeed either: key, model, permission.
    fatal: bool,
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        Self {
            error,
            cut: false,
            throttle: None,
            fatal: false,
        }
    }
}

#[derive(Clone, Copy)]
enum Thinking {
    Default,
    Least,
}

enum Next {
    GiveUp,
    LessThinking,
    After(Duration),
}

/// 1 s, 2 s, 4 s, each with jitter.
fn backoff(attempt: u32) -> Duration {
    jittered(Duration::from_secs(1 << (attempt - 1).min(5)))
}

/// Never earlier than advised, at most a quarter later.
fn jittered(wait: Duration) -> Duration {
    wait + wait.mul_f64(fastrand::f64() / 4.0)
}
