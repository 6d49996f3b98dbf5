//! The models that are served. Only this module loads them; everyone else holds a snapshot.

mod discover;
mod load;
mod model_toml;
mod signature;
mod warm_up;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use plumbline_inference_protocol::{ModelRef, ProtocolError};

use crate::model::Model;

pub use self::discover::DiscoverError;
pub use self::load::LoadProblem;
pub(crate) use self::load::{Checked, Loader, check_file, load_all};
pub use self::model_toml::ModelTomlError;
pub use self::signature::Unservable;
pub(crate) use self::signature::problems_of;

/// The models that are served now, swapped whole.
pub(crate) struct Repository(ArcSwap<Snapshot>);

/// One state of the repository. A request reads one and keeps its model to the end.
#[derive(Default)]
pub(crate) struct Snapshot(HashMap<String, Versions>);

/// The served versions of a model.
struct Versions {
    /// Ascending; the last is the default.
    served: Vec<(u64, Served)>,
}

/// One served version and what the metadata says about it.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) model: Arc<Model>,
    /// Body of `GET /v2/models/{m}`.
    pub(crate) metadata: Bytes,
    /// Every version of this model, as the metadata lists them.
    pub(crate) versions: Arc<[String]>,
}

impl Repository {
    /// A repository that serves `models`.
    pub(crate) fn new(models: Vec<(u64, Model)>) -> Repository {
        Repository(ArcSwap::from_pointee(Snapshot::new(models)))
    }

    /// The model that a request names; without a version, its newest.
    ///
    /// # Errors
    /// [`ProtocolError::UnknownModel`], [`ProtocolError::UnknownVersion`].
    pub(crate) fn find(&self, reference: &ModelRef) -> Result<Served, ProtocolError> {
        self.0.load().find(reference).cloned()
    }

    /// Names of all models, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.load().0.keys().cloned().collect();
        names.sort_unstable();
        names
    }
}

impl Snapshot {
    fn new(models: Vec<(u64, Model)>) -> Snapshot {
        let mut by_name: HashMap<String, Vec<(u64, Arc<Model>)>> = HashMap::new();
        for (version, model) in models {
            model.metrics.set_ready(true);
            by_name
                .entry(model.name.clone())
                .or_default()
                .push((version, Arc::new(model)));
        }
        let versions = |mut models: Vec<(u64, Arc<Model>)>| {
            models.sort_unstable_by_key(|(version, _)| *version);
            let versions: Arc<[String]> = models.iter().map(|(version, _)| version.to_string()).collect();
            let served = |(version, model): (u64, Arc<Model>)| {
                let metadata = metadata(&model, &versions);
                (
                    version,
                    Served {
                        model,
                        metadata,
                        versions: Arc::clone(&versions),
                    },
                )
            };
            Versions {
                served: models.into_iter().map(served).collect(),
            }
        };
        Snapshot(
            by_name
                .into_iter()
                .map(|(name, models)| (name, versions(models)))
                .collect(),
        )
    }

    fn find(&self, reference: &ModelRef) -> Result<&Served, ProtocolError> {
        let unknown = || ProtocolError::UnknownModel {
            model: reference.name.as_str().into(),
        };
        let versions = self.0.get(&reference.name).ok_or_else(unknown)?;
        let found = match &reference.version {
            None => versions.served.last(),
            Some(version) => {
                let number: Option<u64> = version.parse().ok();
                versions.served.iter().find(|(served, _)| Some(*served) == number)
            }
        };
        found
            .map(|(_, served)| served)
            .ok_or_else(|| ProtocolError::UnknownVersion {
                model: reference.name.as_str().into(),
                version: reference.version.as_deref().unwrap_or_default().into(),
            })
    }
}

/// The metadata's body: the protocol's members, and class labels as `properties` where there are any.
fn metadata(model: &Model, versions: &[String]) -> Bytes {
    let body = model.metadata(versions.to_vec()).to_json();
    let properties: serde_json::Map<String, serde_json::Value> = model
        .properties()
        .map(|(name, labels)| (name, labels.into()))
        .collect();
    match serde_json::from_slice(&body) {
        Ok(serde_json::Value::Object(mut object)) if !properties.is_empty() => {
            object.insert("properties".to_owned(), properties.into());
            serde_json::Value::Object(object).to_string().into()
        }
        _ => body,
    }
}

/// A model that cannot be served, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}", Place(.name.as_deref(), .place))]
pub struct LoadError {
    /// Its name, where there is one.
    pub(crate) name: Option<String>,
    /// The file or directory.
    pub(crate) place: PathBuf,
    /// What is wrong.
    #[source]
    pub(crate) problem: LoadProblem,
}

struct Place<'a>(Option<&'a str>, &'a Path);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place(Some(name), place) => write!(f, "model `{name}` ({})", place.display()),
            Place(None, place) => write!(f, "no model at {}", place.display()),
        }
    }
}

/// Every model that cannot be served; nothing is served then.
#[derive(Debug, thiserror::Error)]
pub struct LoadErrors(pub(crate) Vec<LoadError>);

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 { "model" } else { "models" };
        write!(f, "{} {noun} cannot be served", self.0.len())?;
        self.0
            .iter()
            .try_for_each(|error| write!(f, "\n  {error}: {}", error.problem))
    }
}
