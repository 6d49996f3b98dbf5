//! Ground truth that comes after the answer, joined with what the model said by request id and row.
//!
//! The observer [keeps](Feedback::keep) the predictions of each request that has an id in a bounded [`store`]. Whoever
//! learns what was right posts it to the [`endpoint`]; a label that finds its prediction goes to the performance of the
//! model, and the answer tells what became of the others. A [`journal`] keeps on disk what the store holds, for the next process.

mod endpoint;
mod journal;
mod labels;
mod performance;
mod store;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Semaphore;

pub(crate) use endpoint::{RESERVED, Reply, answer};
pub(crate) use performance::Performance;
pub(crate) use store::Predictions;

use crate::metrics::{FeedbackMetrics, StateMetrics};
use crate::models::Model;
use journal::Journal;
use labels::Label;
use store::{Miss, Store};

/// Labels that are told one by one; of others the number is.
const MAX_TOLD: usize = 100;

/// Feedback requests that are read and joined at a time.
const INTAKE: usize = 4;

/// What became of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It found its prediction.
    Joined,
    /// Its row had its label before.
    Duplicate,
    /// Its prediction had been dropped.
    Late,
    /// There was no such request, or one without predictions.
    Unknown,
    /// No prediction can ever have it.
    Invalid,
}

impl Outcome {
    pub(crate) const ALL: [Self; 5] = [
        Self::Joined,
        Self::Duplicate,
        Self::Late,
        Self::Unknown,
        Self::Invalid,
    ];

    /// The value of the `outcome` label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        }
    }
}

/// The answer to a feedback request: how many labels of each kind, and the first that were not joined.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Told {
    joined: u64,
    duplicate: u64,
    late: u64,
    unknown: u64,
    invalid: u64,
    problems: Vec<Problem>,
}

/// A label that was not joined.
#[derive(Debug, Serialize)]
struct Problem {
    /// Its place among the labels of the request, from 0.
    index: usize,
    id: String,
    row: u32,
    outcome: Outcome,
    reason: String,
}

impl Told {
    fn count(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Joined => &mut self.joined,
            Outcome::Duplicate => &mut self.duplicate,
            Outcome::Late => &mut self.late,
            Outcome::Unknown => &mut self.unknown,
            Outcome::Invalid => &mut self.invalid,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Feedback {
    /// Requests whose bodies are read.
    intake: Semaphore,
    /// None when feedback is off.
    store: Option<Mutex<Store>>,
    /// None when predictions are in memory only. Locked before the store.
    journal: Option<Mutex<Journal>>,
    metrics: FeedbackMetrics,
}

/// Why a label is not joined.
type NotJoined = (Outcome, String);

impl Feedback {
    /// Keeps predictions for `ttl`, `max_bytes` of them at most; none for 0 bytes.
    pub(crate) fn new(ttl: Duration, max_bytes: usize, metrics: FeedbackMetrics) -> Self {
        Self {
            intake: Semaphore::new(INTAKE),
            store: (max_bytes > 0).then(|| Mutex::new(Store::new(ttl, max_bytes, metrics.clone()))),
            journal: None,
            metrics,
        }
    }

    /// Goes on with the predictions that earlier processes have left in `directory`, and leaves them there for later ones.
    ///
    /// # Errors
    /// The system's, when the directory cannot be created or read.
    pub(crate) fn kept_in(mut self, directory: PathBuf, metrics: StateMetrics) -> std::io::Result<Self> {
        if let Some(store) = &mut self.store {
            let store = store.get_mut().unwrap_or_else(PoisonError::into_inner);
            let journal = Journal::open(directory, store, metrics)?;
            store.note_changes();
            self.journal = Some(Mutex::new(journal));
        }
        Ok(self)
    }

    /// Writes what has changed. Waits for the disk, without holding up who keeps predictions or joins labels.
    pub(crate) fn save(&self) {
        if let (Some(journal), Some(store)) = (&self.journal, &self.store) {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            journal.keep(store);
        }
    }

    /// Whether predictions are kept at all.
    pub(crate) fn is_on(&self) -> bool {
        self.store.is_some()
    }

    /// Keeps the predictions of request `id` of `model` until their labels come.
    pub(crate) fn keep(&self, model: &str, id: &str, predictions: Predictions) {
        if let Some(mut store) = self.store() {
            store.put(model, id, predictions, Instant::now());
        }
    }

    /// Joins one label with its prediction, which goes to the performance of its model.
    fn join(&self, models: &[Arc<Model>], label: &Label) -> Result<(), NotJoined> {
        let invalid = |reason: &str| (Outcome::Invalid, reason.to_owned());
        let model = Self::model(models, label).map_err(|reason| invalid(&reason))?;
        let joined = model.with_analysis(|analysis| {
            let performance = analysis.performance().ok_or_else(|| {
                invalid("the performance of this model is not followed: it is no classifier")
            })?;
            // A class that cannot be is told before its prediction is used up.
            let truth = performance
                .class(&label.truth.0)
                .map_err(|reason| invalid(&reason))?;
            let row = usize::try_from(label.row).unwrap_or(usize::MAX);
            let mut store = self.store().ok_or_else(|| invalid("feedback is off"))?;
            let taken = store.take(&model.name, &label.id, row, Instant::now());
            let prediction = taken.map_err(|miss| match miss {
                Miss::Unknown => (Outcome::Unknown, "no prediction with this id is known".to_owned()),
                Miss::Late => (
                    Outcome::Late,
                    "its prediction is no longer kept (feedback_ttl, feedback_bytes)".to_owned(),
                ),
                Miss::Duplicate => (Outcome::Duplicate, "the row has its label".to_owned()),
                Miss::NoRow { rows } => invalid(&format!("the request had {rows} rows, counted from 0")),
            })?;
            if performance.label(&prediction, truth) {
                analysis.touch();
                Ok(())
            } else {
                Err(invalid("the model told no class for this row"))
            }
        });
        joined.unwrap_or_else(|| Err(invalid(&format!("model `{}` is not observed", model.name))))
    }

    /// The model that a label is for.
    fn model<'a>(models: &'a [Arc<Model>], label: &Label) -> Result<&'a Arc<Model>, String> {
        let mut observed = models.iter().filter(|model| model.is_analysed());
        if let Some(name) = &label.model {
            return observed
                .find(|model| model.name == *name)
                .ok_or_else(|| format!("no model `{name}` is observed"));
        }
        match (observed.next(), observed.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err("no model is observed".to_owned()),
            (Some(_), Some(_)) => Err("several models are observed: name one as `model`".to_owned()),
        }
    }

    /// Counts what became of labels, for the answer.
    fn tell(&self, labels: &[Label], results: Vec<(usize, Result<(), NotJoined>)>) -> Told {
        let mut told = Told::default();
        for (index, result) in results {
            let outcome = result
                .as_ref()
                .map_or_else(|(outcome, _)| *outcome, |()| Outcome::Joined);
            self.metrics.label(outcome);
            *told.count(outcome) += 1;
            let Err((outcome, reason)) = result else { continue };
            if told.problems.len() < MAX_TOLD {
                told.problems.push(Problem {
                    index,
                    id: labels[index].id.clone(),
                    row: labels[index].row,
                    outcome,
                    reason,
                });
            }
        }
        told
    }

    fn store(&self) -> Option<MutexGuard<'_, Store>> {
        let store = self.store.as_ref()?;
        Some(store.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
