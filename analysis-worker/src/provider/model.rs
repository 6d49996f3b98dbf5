//! A language model that is asked: whatever engine runs it, the same budget, retries, pauses and memory.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::failure::{Failure, Throttle};
use super::gemini::Gemini;
use super::gemini_cli::GeminiCli;
use super::ledger::Ledger;
use super::ollama::Ollama;
use super::openai::OpenAi;
use super::prompt::Prompt;
use super::{MAX_OUTPUT_TOKENS, ProviderError};
use crate::config::{Config, Engine, ModelConfig, ProviderConfig};
use crate::http::HttpClient;
use crate::metrics::{Metrics, ProviderOutcome};
use crate::redact::Redactor;
use crate::signal::digest;
use crate::store::Store;
use crate::text::tokens;

/// Tries of one request.
const MAX_ATTEMPTS: u32 = 4;
/// How long nobody asks after the key or model was refused: time for somebody to change it.
const FAULT_PAUSE: Duration = Duration::from_mins(15);
/// Time for the check at start.
const CHECK: Duration = Duration::from_secs(20);

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) system: &'a str,
    pub(super) prompt: &'a str,
    /// Of the JSON document that is wanted.
    pub(super) schema: &'a Value,
    /// An answer was cut while the model thought.
    pub(super) least_thinking: bool,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) text: String,
    /// Prompt and answer together, where the engine counts them.
    pub(super) tokens: Option<u64>,
}

/// How a model is reached.
#[derive(Clone, Debug)]
enum Endpoint {
    Gemini(Box<Gemini>),
    GeminiCli(GeminiCli),
    OpenAi(Box<OpenAi>),
    Ollama(Box<Ollama>),
}

/// Cloned freely; every clone obeys the same budget and pauses.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    config: ModelConfig,
    endpoint: Endpoint,
    ledger: Ledger,
    store: Option<Store>,
    redactor: Redactor,
    metrics: Metrics,
}

impl Model {
    /// The one that the settings name; none when everything is offline.
    pub(crate) fn configured(
        config: &ProviderConfig,
        http: HttpClient,
        store: Option<Store>,
        redactor: Redactor,
        metrics: Metrics,
    ) -> Option<Self> {
        match config {
            ProviderConfig::Offline => None,
            ProviderConfig::Model(model) => {
                Some(Self::new((**model).clone(), http, store, redactor, metrics))
            }
        }
    }

    /// The same for a command that does one thing and ends.
    pub(crate) fn for_command(config: &Config) -> Option<Self> {
        let redactor = Redactor::new(&config.secrets(), config.redact_addresses);
        let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
        Self::configured(&config.provider, HttpClient::new(), None, redactor, metrics)
    }

    fn new(
        config: ModelConfig,
        http: HttpClient,
        store: Option<Store>,
        redactor: Redactor,
        metrics: Metrics,
    ) -> Self {
        let name = config.model.clone();
        let endpoint = match &config.engine {
            Engine::Gemini(engine) => {
                Endpoint::Gemini(Box::new(Gemini::with_key(engine.clone(), name, http)))
            }
            Engine::Vertex(engine) => {
                Endpoint::Gemini(Box::new(Gemini::of_vertex(engine.clone(), name, http)))
            }
            Engine::GeminiCli(engine) => Endpoint::GeminiCli(GeminiCli::new(engine.clone(), name)),
            Engine::OpenAiCompatible(engine) => {
                Endpoint::OpenAi(Box::new(OpenAi::new(engine.clone(), name, http)))
            }
            Engine::Ollama(engine) => Endpoint::Ollama(Box::new(Ollama::new(engine.clone(), name, http))),
        };
        Self {
            ledger: Ledger::new(config.limits, store.clone()),
            config,
            endpoint,
            store,
            redactor,
            metrics,
        }
    }

    /// Name of the provider, as reports and settings have it.
    pub(crate) fn provider(&self) -> &'static str {
        self.config.engine.name()
    }

    /// Name of the model that is asked.
    pub(crate) fn name(&self) -> &str {
        &self.config.model
    }

    /// When an answer is no longer waited for.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.config.timeout
    }

    /// Tells everybody that the answer was refused by validation; counted apart from the request itself.
    pub(crate) fn refused(&self) {
        self.metrics.provider(ProviderOutcome::Refused, Duration::ZERO);
    }

    /// Asks whether there is such a model. When there is not, that is said once, and nobody asks it for a while.
    pub(crate) async fn check(&self) {
        let checked = match &self.endpoint {
            Endpoint::Gemini(gemini) => gemini.check(CHECK).await,
            Endpoint::GeminiCli(cli) => cli.check(CHECK).await,
            Endpoint::OpenAi(openai) => openai.check(CHECK).await,
            Endpoint::Ollama(ollama) => ollama.check(CHECK).await,
        };
        match checked {
            Ok(()) => tracing::info!(
                provider = self.provider(),
                model = self.name(),
                "the provider knows the model"
            ),
            Err(failure) if failure.fatal => {
                let error = format!(
                    "{}: a fault of the configuration; reports are made offline until it is changed",
                    self.told(&failure.error)
                );
                self.ledger.pause(FAULT_PAUSE, error).await;
            }
            Err(failure) => {
                tracing::warn!(
                    provider = self.provider(),
                    model = self.name(),
                    error = self.told(&failure.error),
                    "whether the provider knows the model cannot be told"
                );
            }
        }
    }

    /// Asks for one document of `schema` and returns its text without secrets, from memory where the same was asked before. Retries
    /// until `deadline`. `spent` grows by the tokens that are used, as the provider counts them; an answer from memory uses none.
    ///
    /// # Errors
    /// [`ProviderError`]; the caller falls back.
    pub(crate) async fn ask(
        &self,
        prompt: &Prompt,
        schema: &Value,
        deadline: Instant,
        spent: &mut u64,
    ) -> Result<String, ProviderError> {
        let key = digest(&[
            self.provider(),
            self.name(),
            &prompt.question,
            &schema.to_string(),
        ]);
        if let Some(answer) = self.remembered(&key).await {
            self.metrics.provider(ProviderOutcome::Cached, Duration::ZERO);
            return Ok(answer);
        }
        let size = (tokens(prompt.system) + tokens(&prompt.text) + tokens(&schema.to_string())) as u64;
        let mut least_thinking = false;
        let mut attempt = 1;
        loop {
            let reserved = self.ledger.reserve(size + MAX_OUTPUT_TOKENS).await;
            let reserved = reserved.inspect_err(|error| {
                let outcome = match error {
                    ProviderError::Paused(..) => ProviderOutcome::Paused,
                    _ => ProviderOutcome::Budget,
                };
                self.metrics.provider(outcome, Duration::ZERO);
            })?;
            let ask = Ask {
                system: prompt.system,
                prompt: &prompt.text,
                schema,
                least_thinking,
            };
            let started = Instant::now();
            let result = self.attempt(&ask, deadline).await;
            let used = match &result {
                Ok(answer) => answer.tokens.unwrap_or(size + tokens(&answer.text) as u64),
                Err(failure) => match &failure.error {
                    // Nothing was read of it.
                    ProviderError::RateLimited(_)
                    | ProviderError::Unavailable(_)
                    | ProviderError::Rejected(_) => 0,
                    _ => size,
                },
            };
            self.ledger.settle(reserved, used).await;
            self.metrics.provider_tokens(used);
            *spent += used;
            let (outcome, next) = self.judge(&result, attempt).await;
            self.metrics.provider(outcome, started.elapsed());
            let error = match result {
                Ok(answer) => {
                    self.ledger.worked().await;
                    // What comes back is text from outside, too.
                    let answer = self.redactor.begin([prompt.text.as_str()]).text(&answer.text);
                    self.remember(key, &answer).await;
                    return Ok(answer);
                }
                Err(failure) => failure.error,
            };
            tracing::warn!(
                provider = self.provider(),
                attempt,
                error = self.told(&error),
                "no answer from the provider"
            );
            let wait = match next {
                Next::GiveUp => None,
                Next::LessThinking => {
                    least_thinking = true;
                    Some(Duration::ZERO)
                }
                Next::After(wait) => Some(wait).filter(|wait| Instant::now() + *wait < deadline),
            };
            let Some(wait) = wait else {
                if error.is_outage() {
                    self.ledger.failed(self.told(&error)).await;
                }
                return Err(error);
            };
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// An error as it may be logged and kept: services repeat keys.
    fn told(&self, error: &ProviderError) -> String {
        self.redactor.begin([]).text(&error.to_string())
    }

    async fn attempt(&self, ask: &Ask<'_>, deadline: Instant) -> Result<Answer, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        match &self.endpoint {
            Endpoint::Gemini(gemini) => gemini.attempt(ask, left).await,
            Endpoint::GeminiCli(cli) => cli.attempt(ask, left).await,
            Endpoint::OpenAi(openai) => openai.attempt(ask, left).await,
            Endpoint::Ollama(ollama) => ollama.attempt(ask, left).await,
        }
    }

    /// What an attempt counts as, and what comes next.
    async fn judge(&self, result: &Result<Answer, Failure>, attempt: u32) -> (ProviderOutcome, Next) {
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
        let reason = || self.told(&failure.error);
        match &failure.error {
            ProviderError::RateLimited(_) => {
                let next = match failure.throttle {
                    Some(Throttle::Wait(wait)) => again(jittered(wait)),
                    Some(Throttle::Pause(wait)) => {
                        self.ledger.pause(wait, reason()).await;
                        Next::GiveUp
                    }
                    Some(Throttle::Day) => {
                        self.ledger.pause_until_renewal(reason()).await;
                        Next::GiveUp
                    }
                    None => again(backoff(attempt)),
                };
                (ProviderOutcome::RateLimited, next)
            }
            ProviderError::Unavailable(_) => (ProviderOutcome::Unavailable, again(backoff(attempt))),
            ProviderError::Transport(_) => (ProviderOutcome::Transport, again(backoff(attempt))),
            ProviderError::Timeout(_) => (ProviderOutcome::Timeout, Next::GiveUp),
            ProviderError::Rejected(_) => {
                if failure.fatal {
                    self.ledger.pause(FAULT_PAUSE, reason()).await;
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
            ProviderError::Budget(_) => (ProviderOutcome::Budget, Next::GiveUp),
        }
    }

    async fn remembered(&self, key: &str) -> Option<String> {
        let answer = self.store.as_ref()?.answer(key).await;
        answer.inspect_err(forgotten).ok()?
    }

    async fn remember(&self, key: String, answer: &str) {
        if let Some(store) = &self.store {
            let kept = store.keep_answer(key, answer.to_owned()).await;
            let _told = kept.inspect_err(forgotten);
        }
    }
}

fn forgotten(error: &crate::store::StoreError) {
    tracing::debug!(error = %plumbline_service::error_chain(error), "answers cannot be remembered");
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
