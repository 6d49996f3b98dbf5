//! The models that the sidecar knows by name and version: from profiles, and from answers of the model server.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::metrics::{Metrics, ModelMetrics};
use crate::observer::{Analysis, Standing};

/// Models without a profile that get series of their own; requests for further ones count as [`OTHER`].
const MAX_ADMITTED: usize = 16;

/// Models whose reference is learned at a time, as each takes memory.
const MAX_LEARNING: usize = 4;

/// The `model` label of requests whose model has no series of its own.
const OTHER: &str = "other";

/// The `version` label where neither a profile nor the request tells one.
const UNKNOWN_VERSION: &str = "unknown";

/// One version of a model: its series and, with a profile, its analysis.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) metrics: ModelMetrics,
    /// Replaced whole: by a new profile, one that has been learned, one with a restored state. What was replaced is left empty, for those
    /// who waited for it meanwhile.
    analysis: ArcSwapOption<Mutex<Option<Analysis>>>,
    /// Rows that a reference is learned from; none when it is not.
    learning: Mutex<Option<u64>>,
    /// The same as a flag, which every request reads.
    is_learning: AtomicBool,
}

impl Model {
    /// Whether rows are compared with something.
    pub(crate) fn is_analysed(&self) -> bool {
        self.analysis.load().is_some()
    }

    /// Whether rows are read: to compare them, or to learn what to compare with.
    pub(crate) fn is_observed(&self) -> bool {
        self.is_analysed() || self.is_learning.load(Ordering::Relaxed)
    }

    /// Rows that the model's reference has been learned from so far; none when it is not learned.
    pub(crate) fn learning(&self) -> Option<u64> {
        *self.learning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how far the learning is; none ends it.
    pub(crate) fn set_learning(&self, rows: Option<u64>) {
        *self.learning.lock().unwrap_or_else(PoisonError::into_inner) = rows;
        self.is_learning.store(rows.is_some(), Ordering::Relaxed);
    }

    /// Calls `act` with the comparison, if there is one, for one user at a time: the observer, now and then the admin port.
    ///
    /// A panic in the observer is caught and must not end the analysis: counts of one row may be off by it.
    pub(crate) fn with_analysis<T>(&self, act: impl FnOnce(&mut Analysis) -> T) -> Option<T> {
        loop {
            let analysis = self.analysis.load_full()?;
            let mut analysis = analysis.lock().unwrap_or_else(PoisonError::into_inner);
            // Empty: the next is in its place already.
            if let Some(analysis) = analysis.as_mut() {
                return Some(act(analysis));
            }
        }
    }

    /// Compares with `analysis` from the next exchange on. The one before no longer says anything; returns how it stood.
    pub(crate) fn set_analysis(&self, analysis: Option<Analysis>) -> Option<Standing> {
        let next = analysis.map(|analysis| Arc::new(Mutex::new(Some(analysis))));
        let before = self.analysis.swap(next);
        self.set_learning(None);
        let before = before?.lock().unwrap_or_else(PoisonError::into_inner).take();
        before.map(Analysis::retire)
    }
}

/// Every model with series of its own. Read without a lock.
#[derive(Debug)]
pub(crate) struct Models {
    known: ArcSwap<HashMap<String, Versions>>,
    other: Arc<Model>,
    metrics: Metrics,
    admitting: Mutex<Admitting>,
    /// Whether references are learned.
    learn: bool,
}

/// What is admitted.
#[derive(Debug, Default)]
struct Admitting {
    admitted: usize,
    /// Models whose profile is there and bad: what they should be compared with is known, and must not be made up.
    not_learned: HashSet<String>,
}

/// The versions of one model.
#[derive(Clone, Debug, Default)]
struct Versions {
    /// Of requests that leave the version to the server: the one with a profile, or the one that tells no version.
    default: Option<Arc<Model>>,
    all: Vec<Arc<Model>>,
}

impl Versions {
    fn find(&self, version: Option<&str>) -> Option<&Arc<Model>> {
        let Some(version) = version else {
            return self.default.as_ref();
        };
        let named = self.all.iter().find(|model| model.version == version);
        // A profile that tells no version is for all of them.
        named.or_else(|| {
            self.default
                .as_ref()
                .filter(|model| is_unversioned(&model.version) && model.is_analysed())
        })
    }
}

fn is_unversioned(version: &str) -> bool {
    version.is_empty() || version == UNKNOWN_VERSION
}

impl Models {
    /// No models yet; whether references are learned where there are none.
    pub(crate) fn new(metrics: &Metrics, learn: bool) -> Self {
        Self {
            known: ArcSwap::default(),
            other: Arc::new(plain(metrics, OTHER, UNKNOWN_VERSION)),
            metrics: metrics.clone(),
            admitting: Mutex::default(),
            learn,
        }
    }

    /// Compares rows of this model with `analysis` from now on; of this version and of the ones that no request names. Returns how the
    /// comparisons stood that it takes the place of.
    pub(crate) fn set_analysis(&self, name: &str, version: &str, analysis: Analysis) -> Vec<Standing> {
        let _one_writer = self.admitting.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.profile_loaded(name, true);
        let known = self.known.load().get(name).cloned().unwrap_or_default();
        let own = known.all.iter().find(|model| model.version == version);
        let model = own.map_or_else(|| Arc::new(plain(&self.metrics, name, version)), Arc::clone);
        let is_given = !analysis.is_learned();
        let mut replaced: Vec<Standing> = model.set_analysis(Some(analysis)).into_iter().collect();
        // A model has one profile, and what was learned has no use beside it. What is learned takes no profile's place.
        for other in known.all.iter().filter(|other| other.version != version) {
            if is_given
                || other.learning().is_some()
                || other.with_analysis(|analysis| analysis.is_learned()) == Some(true)
            {
                replaced.extend(other.set_analysis(None));
            }
        }
        self.insert(&model, true);
        replaced
    }

    /// Identities of the profiles that rows of this model are compared with.
    pub(crate) fn profiles(&self, name: &str) -> Vec<String> {
        let known = self.known.load();
        let versions = known.get(name).into_iter().flat_map(|versions| &versions.all);
        versions
            .filter_map(|model| model.with_analysis(|analysis| analysis.profile().to_owned()))
            .collect()
    }

    /// Learns no reference for this model: it has a bad one.
    pub(crate) fn do_not_learn(&self, name: &str) {
        let mut admitting = self.admitting.lock().unwrap_or_else(PoisonError::into_inner);
        admitting.not_learned.insert(name.to_owned());
    }

    /// The model `name`, in the version that the request names, if it does. Both come from clients, so that only one that
    /// the model server has `answered` for gets series of its own, and only a bounded number of them.
    pub(crate) fn find(&self, name: &str, version: Option<&str>, answered: bool) -> Arc<Model> {
        if let Some(model) = self.known(name, version) {
            return model;
        }
        if answered && !name.is_empty() {
            self.admit(name, version)
        } else {
            self.other()
        }
    }

    /// The model, if it has series of its own already.
    pub(crate) fn known(&self, name: &str, version: Option<&str>) -> Option<Arc<Model>> {
        self.known.load().get(name)?.find(version).cloned()
    }

    /// Stands for all models without series of their own.
    pub(crate) fn other(&self) -> Arc<Model> {
        Arc::clone(&self.other)
    }

    /// Whether rows of any model are read.
    pub(crate) fn any_observed(&self) -> bool {
        let known = self.known.load();
        let mut all = known.values().flat_map(|versions| &versions.all);
        all.any(|model| model.is_observed())
    }

    /// The models known now.
    pub(crate) fn all(&self) -> Vec<Arc<Model>> {
        let known = self.known.load();
        known
            .values()
            .flat_map(|versions| &versions.all)
            .cloned()
            .collect()
    }

    fn admit(&self, name: &str, version: Option<&str>) -> Arc<Model> {
        let mut admitting = self.admitting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = self.known(name, version) {
            return model;
        }
        if admitting.admitted >= MAX_ADMITTED {
            return self.other();
        }
        admitting.admitted += 1;
        let label = version.unwrap_or(UNKNOWN_VERSION);
        let learning = self
            .all()
            .iter()
            .filter(|model| model.learning().is_some())
            .count();
        let learn = self.learn && learning < MAX_LEARNING && !admitting.not_learned.contains(name);
        tracing::info!(
            model.name = name,
            model.version = label,
            is_learned = learn,
            "the model has no reference profile"
        );
        if !self.known.load().contains_key(name) {
            self.metrics.profile_loaded(name, false);
        }
        let model = Arc::new(plain(&self.metrics, name, label));
        model.set_learning(learn.then_some(0));
        self.insert(&model, version.is_none());
        model
    }

    /// Makes `model` known; the caller is the one writer.
    fn insert(&self, model: &Arc<Model>, default: bool) {
        let mut known = HashMap::clone(&self.known.load());
        let versions = known.entry(model.name.clone()).or_default();
        versions.all.retain(|other| other.version != model.version);
        versions.all.push(Arc::clone(model));
        if default {
            versions.default = Some(Arc::clone(model));
        }
        self.known.store(Arc::new(known));
    }
}

fn plain(metrics: &Metrics, name: &str, version: &str) -> Model {
    Model {
        metrics: metrics.model(name, version),
        name: name.to_owned(),
        version: version.to_owned(),
        analysis: ArcSwapOption::empty(),
        learning: Mutex::new(None),
        is_learning: AtomicBool::new(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Models {
        let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
        Models::new(&metrics, false)
    }

    #[test]
    fn clients_cannot_make_series_without_bound() {
        let models = models();
        assert_eq!(models.find("churn", None, false).name, OTHER);
        assert_eq!(models.find("churn", None, true).name, "churn");
        assert_eq!(models.find("churn", None, false).name, "churn");
        for number in 0..100 {
            models.find(&format!("model-{number}"), None, true);
            models.find("churn", Some(&number.to_string()), true);
        }
        assert_eq!(models.all().len(), MAX_ADMITTED);
        assert_eq!(models.find("", None, true).name, OTHER);
    }

    #[test]
    fn a_version_that_a_request_names_is_a_model_of_its_own() {
        let models = models();
        let first = models.find("churn", Some("2"), true);
        assert_eq!((first.name.as_str(), first.version.as_str()), ("churn", "2"));
        let default = models.find("churn", None, true);
        assert_eq!(default.version, UNKNOWN_VERSION);
        assert!(Arc::ptr_eq(&models.find("churn", Some("2"), false), &first));
        assert!(Arc::ptr_eq(&models.find("churn", None, false), &default));
        assert_eq!(models.find("churn", Some("3"), false).name, OTHER);
    }
}
