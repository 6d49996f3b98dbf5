//! What requests see of the repository: one immutable state, swapped whole.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use plumbline_inference_protocol::{ModelRef, ProtocolError};

use super::policy::VersionPolicy;
use crate::model::Model;

/// One state of the repository. A request reads one and keeps its model to the end.
#[derive(Default)]
pub(super) struct Snapshot {
    pub(super) models: HashMap<String, Arc<Entry>>,
    /// Whether the first look at the files is still to come: until then no name is known to be wrong.
    pub(super) is_first: bool,
}

/// A model that is known.
#[derive(Default)]
pub(super) struct Entry {
    /// Ascending; the last is the default.
    pub(super) served: Vec<(u64, Served)>,
    /// What is known of versions that are not served.
    pub(super) absent: Vec<(u64, Absence)>,
    /// What is wrong with the model as a whole, if it should be served.
    pub(super) problem: Option<String>,
    /// Its part of the index.
    pub(super) index: Vec<IndexEntry>,
}

/// One served version and what the metadata says about it.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) model: Arc<Model>,
    /// Body of `GET /v2/models/{m}`.
    pub(crate) metadata: Bytes,
    /// Every served version of this model, as the metadata lists them.
    pub(crate) versions: Arc<[String]>,
    /// Which versions are served.
    pub(crate) policy: Arc<VersionPolicy>,
}

/// Why a version is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    Loading,
    Failed(String),
    /// Unloaded, or never asked for.
    Unloaded,
}

/// A line of the repository's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) name: String,
    /// `None` for a model of which no version was tried yet.
    pub(crate) version: Option<String>,
    pub(crate) state: ModelState,
    /// Why it is in that state, or why its newest files are not served; empty if there is nothing to say.
    pub(crate) reason: String,
}

/// The states of the `model_repository` extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelState {
    Unknown,
    Ready,
    Unavailable,
    Loading,
    Unloading,
}

impl ModelState {
    /// As the index spells it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            ModelState::Unknown => "UNKNOWN",
            ModelState::Ready => "READY",
            ModelState::Unavailable => "UNAVAILABLE",
            ModelState::Loading => "LOADING",
            ModelState::Unloading => "UNLOADING",
        }
    }
}

impl Snapshot {
    /// The model that a request names; without a version, its newest.
    pub(super) fn find(&self, reference: &ModelRef) -> Result<&Served, ProtocolError> {
        let Some(entry) = self.models.get(&reference.name) else {
            return Err(if self.is_first {
                not_ready(reference, "the server has not looked for its models yet")
            } else {
                unknown_model(reference)
            });
        };
        let Some(version) = &reference.version else {
            let newest = entry.served.last();
            return newest
                .map(|(_, served)| served)
                .ok_or_else(|| entry.absence(reference));
        };
        let number: Option<u64> = version.parse().ok();
        if let Some((_, served)) = entry.served.iter().find(|(served, _)| Some(*served) == number) {
            return Ok(served);
        }
        let absent = entry.absent.iter().find(|(absent, _)| Some(*absent) == number);
        Err(match absent {
            Some((_, Absence::Loading)) => not_ready(reference, &format!("version {version} is loading")),
            Some((_, Absence::Failed(reason))) => not_ready(reference, reason),
            Some((_, Absence::Unloaded)) | None => ProtocolError::UnknownVersion {
                model: reference.name.as_str().into(),
                version: version.as_str().into(),
            },
        })
    }
}

impl Entry {
    /// Why no version of the model is served.
    fn absence(&self, reference: &ModelRef) -> ProtocolError {
        let absent = || self.absent.iter().map(|(_, absence)| absence);
        if absent().any(|absence| *absence == Absence::Loading) {
            return not_ready(reference, "it is loading");
        }
        let failure = absent().find_map(|absence| match absence {
            Absence::Failed(reason) => Some(reason),
            Absence::Loading | Absence::Unloaded => None,
        });
        match failure.or(self.problem.as_ref()) {
            Some(reason) => not_ready(reference, reason),
            None => unknown_model(reference),
        }
    }
}

fn not_ready(reference: &ModelRef, reason: &str) -> ProtocolError {
    ProtocolError::ModelNotReady {
        model: reference.name.as_str().into(),
        reason: reason.into(),
    }
}

fn unknown_model(reference: &ModelRef) -> ProtocolError {
    ProtocolError::UnknownModel {
        model: reference.name.as_str().into(),
    }
}

impl Served {
    /// A model among its versions.
    pub(super) fn new(model: &Arc<Model>, versions: &Arc<[String]>, policy: &Arc<VersionPolicy>) -> Served {
        Served {
            model: Arc::clone(model),
            metadata: metadata(model, versions),
            versions: Arc::clone(versions),
            policy: Arc::clone(policy),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn find(snapshot: &Snapshot, version: Option<&str>) -> (u16, String) {
        let reference = ModelRef {
            name: "churn".to_owned(),
            version: version.map(str::to_owned),
        };
        let error = snapshot.find(&reference).err().expect("nothing is served");
        (error.http_status().as_u16(), error.to_string())
    }

    fn snapshot(absent: Vec<(u64, Absence)>) -> Snapshot {
        let entry = Entry {
            absent,
            ..Entry::default()
        };
        Snapshot {
            models: [("churn".to_owned(), Arc::new(entry))].into(),
            is_first: false,
        }
    }

    #[test]
    fn what_is_not_served_is_unknown_or_not_ready() {
        let first = Snapshot {
            is_first: true,
            ..Snapshot::default()
        };
        assert_eq!(find(&first, None).0, 503);
        assert_eq!(find(&Snapshot::default(), None).0, 404);
        let loading = snapshot(vec![(1, Absence::Unloaded), (2, Absence::Loading)]);
        assert_eq!(
            find(&loading, None),
            (503, "model `churn` is not ready: it is loading".to_owned())
        );
        assert_eq!(find(&loading, Some("2")).0, 503);
        assert_eq!(find(&loading, Some("1")).0, 404);
        assert_eq!(find(&loading, Some("x")).0, 404);
        let failed = snapshot(vec![(2, Absence::Failed("the file is empty".to_owned()))]);
        assert_eq!(
            find(&failed, None),
            (503, "model `churn` is not ready: the file is empty".to_owned())
        );
        assert_eq!(find(&snapshot(vec![(2, Absence::Unloaded)]), None).0, 404);
    }
}
