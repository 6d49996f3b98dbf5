//! The models that the sidecar knows by name: from profiles, and from answers of the model server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::metrics::{Metrics, ModelMetrics};
use crate::observer::Analysis;

/// Models without a profile that get series of their own; requests for further ones count as [`OTHER`].
const MAX_ADMITTED: usize = 16;

/// The `model` label of requests whose model has no series of its own.
const OTHER: &str = "other";

/// The `version` label where no profile tells one.
const UNKNOWN_VERSION: &str = "unknown";

/// One model: its series and, with a profile, its analysis.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) metrics: ModelMetrics,
    analysis: Option<Mutex<Analysis>>,
}

impl Model {
    /// The comparison with the profile, for one user at a time: the observer, now and then the admin port.
    ///
    /// A panic in the observer is caught and must not end the analysis: counts of one row may be off by it.
    pub(crate) fn analysis(&self) -> Option<MutexGuard<'_, Analysis>> {
        self.analysis
            .as_ref()
            .map(|analysis| analysis.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Every model with series of its own. Read without a lock.
#[derive(Debug)]
pub(crate) struct Models {
    known: ArcSwap<HashMap<String, Arc<Model>>>,
    other: Arc<Model>,
    metrics: Metrics,
    admitting: Mutex<usize>,
}

impl Models {
    /// The models with these analyses.
    pub(crate) fn new(metrics: &Metrics, analyses: Vec<(String, String, Analysis)>) -> Self {
        let models = analyses.into_iter().map(|(name, version, analysis)| {
            metrics.profile_loaded(&name, true);
            let model = Model {
                metrics: metrics.model(&name, &version),
                name: name.clone(),
                version,
                analysis: Some(Mutex::new(analysis)),
            };
            (name, Arc::new(model))
        });
        Self {
            known: ArcSwap::from_pointee(models.collect()),
            other: Arc::new(plain(metrics, OTHER)),
            metrics: metrics.clone(),
            admitting: Mutex::new(0),
        }
    }

    /// The model `name`. Names come from clients, so that only one that the model server has `answered` for gets
    /// series of its own, and only a bounded number of them.
    pub(crate) fn find(&self, name: &str, answered: bool) -> Arc<Model> {
        if let Some(model) = self.known.load().get(name) {
            return Arc::clone(model);
        }
        if answered && !name.is_empty() {
            self.admit(name)
        } else {
            self.other()
        }
    }

    /// Stands for all models without series of their own.
    pub(crate) fn other(&self) -> Arc<Model> {
        Arc::clone(&self.other)
    }

    /// The models known now.
    pub(crate) fn all(&self) -> Vec<Arc<Model>> {
        self.known.load().values().cloned().collect()
    }

    fn admit(&self, name: &str) -> Arc<Model> {
        let mut admitted = self.admitting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = self.known.load().get(name) {
            return Arc::clone(model);
        }
        if *admitted >= MAX_ADMITTED {
            return self.other();
        }
        *admitted += 1;
        tracing::info!(
            model.name = name,
            "the model has no reference profile; its rows are not observed"
        );
        self.metrics.profile_loaded(name, false);
        let model = Arc::new(plain(&self.metrics, name));
        let mut known = HashMap::clone(&self.known.load());
        known.insert(name.to_owned(), Arc::clone(&model));
        self.known.store(Arc::new(known));
        model
    }
}

fn plain(metrics: &Metrics, name: &str) -> Model {
    Model {
        metrics: metrics.model(name, UNKNOWN_VERSION),
        name: name.to_owned(),
        version: UNKNOWN_VERSION.to_owned(),
        analysis: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_cannot_make_series_without_bound() {
        let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
        let models = Models::new(&metrics, Vec::new());
        assert_eq!(models.find("churn", false).name, OTHER);
        assert_eq!(models.find("churn", true).name, "churn");
        assert_eq!(models.find("churn", false).name, "churn");
        for number in 0..100 {
            models.find(&format!("model-{number}"), true);
        }
        assert_eq!(models.all().len(), MAX_ADMITTED);
        assert_eq!(models.find("", true).name, OTHER);
    }
}
