//! Who turns evidence into findings: a language model, or code.

mod failure;
mod gemini;
mod gemini_cli;
mod ledger;
mod model;
pub(crate) mod offline;
mod ollama;
mod openai;
pub(crate) mod prompt;
mod vertex;

use std::time::Duration;

pub(crate) use model::Model;

use crate::evidence::Context;
use crate::report::validate::Expected;
use crate::report::{Subject, Urgency};

/// Output tokens, thoughts included; a report needs about 2,000.
const MAX_OUTPUT_TOKENS: u64 = 16_384;
/// Little randomness: findings are wanted, not ideas.
const TEMPERATURE: f64 = 0.2;

/// What is to be analysed.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) subject: Subject,
    pub(crate) urgency: Urgency,
    pub(crate) context: Context,
}

impl Case {
    /// Drift and pipelines have findings of their own; everything else is an incident.
    pub(crate) fn expected(&self) -> Expected {
        if self.subject.kind == crate::signal::DRIFT {
            Expected::Drift
        } else if self.subject.kind == crate::signal::PIPELINE {
            Expected::Triage
        } else {
            Expected::Incident
        }
    }
}

/// Why a provider gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProviderError {
    #[error("the answer was refused: {0}")]
    Refused(String),
    #[error("the prompt was blocked: {0}")]
    Blocked(String),
    #[error("the answer was empty or cut off: {0}")]
    Empty(String),
    #[error("the budget is used: {0}")]
    Budget(String),
    #[error("rate limited: {0}")]
    RateLimited(String),
    #[error("not asked for another {0:?}: {1}")]
    Paused(Duration, String),
    #[error("the service failed: {0}")]
    Unavailable(String),
    #[error("the request was rejected: {0}")]
    Rejected(String),
    #[error("not reached: {0}")]
    Transport(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl ProviderError {
    /// Whether it says that the service is not there, rather than what it makes of this request.
    const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Transport(_) | Self::Timeout(_))
    }
}
