//! Questions about what is measured, such as "What's the p95 latency of model churn?".
//!
//! An answer is always one of a fixed set of queries (`catalog`) with checked values in its places: neither a person's text
//! nor a model's ever becomes part of an expression. Code reads the question; where it cannot, a language model may pick
//! from the same set, and its pick is checked in the same way. The answer shows the query.

mod answer;
mod catalog;
mod pick;
mod read;

use std::time::Duration;

use crate::prometheus::Prometheus;
use crate::provider::Model;
use crate::redact::Redactor;
use crate::signal::now;
use crate::text::sanitise;

pub(crate) use answer::Answer;
pub(crate) use catalog::Query;

/// Longest question, in characters.
const MAX_QUESTION: usize = 500;

/// What a question can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Models that have been measured.
    pub(crate) models: Vec<String>,
    /// Their versions.
    pub(crate) versions: Vec<String>,
}

/// A question as it was understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) query: Query,
    /// One of [`Known::models`]; all of them without.
    pub(crate) model: Option<String>,
    /// One of [`Known::versions`].
    pub(crate) version: Option<String>,
    /// In `(0, 1)`, for latencies.
    pub(crate) quantile: f64,
    /// Over which time rates and shares are.
    pub(crate) window: Duration,
    /// How long ago that time ended.
    pub(crate) ago: Duration,
}

impl Choice {
    /// Over the last five minutes, of every version.
    pub(crate) fn now(query: Query, model: Option<&str>, quantile: f64) -> Self {
        Self {
            query,
            model: model.map(str::to_owned),
            version: None,
            quantile,
            window: read::WINDOW,
            ago: Duration::ZERO,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    #[error("the question is empty; for example: What is the p95 latency of model churn?")]
    Empty,
    #[error("the question is longer than {MAX_QUESTION} characters")]
    TooLong,
    #[error("no measurement matches the question; what can be asked for: {0}")]
    NotUnderstood(String),
    #[error("the question could mean {0}; name one of them")]
    Ambiguous(String),
    #[error("there is no {what} `{name}` in Prometheus; there are: {known}")]
    Unknown {
        what: &'static str,
        name: String,
        known: String,
    },
    #[error("a language model was asked what is meant: {0}")]
    NotPicked(String),
    #[error("Prometheus: {0}")]
    Prometheus(String),
}

/// Answers questions. Cloned freely.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) prometheus: Prometheus,
    /// Picks where code cannot.
    pub(crate) model: Option<Model>,
    pub(crate) redactor: Redactor,
}

/// What can be named, as Prometheus has it now.
///
/// # Errors
/// [`AskError::Prometheus`].
pub(crate) async fn known(prometheus: &Prometheus) -> Result<Known, AskError> {
    let values = async |label| {
        prometheus
            .label_values(label, "plumbline_request_duration_seconds_count")
            .await
            .map_err(|error| AskError::Prometheus(error.to_string()))
    };
    Ok(Known {
        models: values("model").await?,
        versions: values("version").await?,
    })
}

/// A measurement that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Measurement {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Of all models over five minutes; of latencies the 95th percentile.
    pub(crate) query: String,
}

/// Everything that can be asked for.
pub(crate) fn measurements() -> Vec<Measurement> {
    let each = Query::ALL.iter().map(|query| Measurement {
        name: query.name(),
        title: query.title(),
        query: Choice::now(*query, None, read::QUANTILE).expression(),
    });
    each.collect()
}

impl Asker {
    /// Reads `question` and answers it.
    ///
    /// # Errors
    /// [`AskError`]; each says what to do instead.
    pub(crate) async fn answer(&self, question: &str) -> Result<Answer, AskError> {
        let known = known(&self.prometheus).await?;
        let choice = match (read::read(question, &known), &self.model) {
            (Err(AskError::NotUnderstood(_) | AskError::Ambiguous(_)), Some(model)) => {
                let question = self.redactor.begin([]).text(&sanitise(question));
                pick::pick(model, &question, &known).await?
            }
            (read, _) => read?,
        };
        run(&self.prometheus, &choice).await
    }
}

/// Asks Prometheus what was understood.
///
/// # Errors
/// [`AskError::Prometheus`].
pub(crate) async fn run(prometheus: &Prometheus, choice: &Choice) -> Result<Answer, AskError> {
    let (expression, at) = (choice.expression(), now() - choice.ago.as_millis() as i64);
    let series = prometheus
        .instant(&expression, at)
        .await
        .map_err(|error| AskError::Prometheus(error.to_string()))?;
    Ok(Answer::new(choice, expression, at, &series))
}
