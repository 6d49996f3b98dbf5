//! What the keeper knows of one model and its versions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::content::Digest;
use super::policy::VersionPolicy;
use super::snapshot::{Absence, Entry, IndexEntry, ModelState, Served};
use super::stamp::Watch;
use crate::model::Model;

/// A model that is known.
#[derive(Default)]
pub(super) struct Record {
    /// Position of the source that it was found in; `None` when its files came with a request.
    pub(super) source: Option<usize>,
    /// Whether it is to be served.
    pub(super) wanted: bool,
    /// Which of its versions are served.
    pub(super) policy: Arc<VersionPolicy>,
    /// Those that were tried.
    pub(super) versions: BTreeMap<u64, Version>,
    /// What is wrong with the model as a whole.
    pub(super) problem: Option<String>,
    /// Looks in a row that did not find it.
    pub(super) missed: u32,
}

/// A version that is served, or was tried.
#[derive(Default)]
pub(super) struct Version {
    pub(super) served: Option<Loaded>,
    pub(super) watch: Watch,
    /// Files that the model's own refers to, as far as they are known.
    pub(super) others: Vec<PathBuf>,
    /// Why its newest content is not served.
    pub(super) failure: Option<Failure>,
    pub(super) is_loading: bool,
    /// Models that are no longer served and still have requests.
    pub(super) draining: usize,
    /// Looks in a row that did not find it.
    pub(super) missed: u32,
}

/// A model with the content that it was made of.
pub(super) struct Loaded {
    pub(super) model: Arc<Model>,
    pub(super) digest: Digest,
}

/// Content that could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// `None` when it could not even be read.
    pub(super) digest: Option<Digest>,
    pub(super) reason: String,
}

impl Record {
    /// Whether requests for it are answered.
    pub(super) fn is_served(&self) -> bool {
        self.versions.values().any(|version| version.served.is_some())
    }

    /// Whether what is served is not what its files, or its settings, ask for.
    pub(super) fn is_behind(&self) -> bool {
        self.problem.is_some() || self.versions.values().any(|version| version.failure.is_some())
    }

    /// The model's default version.
    pub(super) fn newest(&self) -> Option<&Arc<Model>> {
        let mut served = self.versions.values().rev();
        served.find_map(|version| version.served.as_ref().map(|loaded| &loaded.model))
    }

    /// One sentence about why it is not served, if it should be and is not.
    pub(super) fn complaint(&self) -> Option<&str> {
        if !self.wanted || self.is_served() {
            return None;
        }
        let failure = self
            .versions
            .values()
            .rev()
            .find_map(|version| version.failure.as_ref());
        let failure = failure.map(|failure| failure.reason.as_str());
        Some(failure.or(self.problem.as_deref()).unwrap_or("it is loading"))
    }

    /// What requests see of it.
    pub(super) fn entry(&self, name: &str) -> Entry {
        let served = || {
            let version = |(number, version): (&u64, &Version)| {
                let loaded = version.served.as_ref()?;
                Some((*number, Arc::clone(&loaded.model)))
            };
            self.versions.iter().filter_map(version)
        };
        let versions: Arc<[String]> = served().map(|(number, _)| number.to_string()).collect();
        let absent = self.versions.iter().filter_map(|(number, version)| {
            let absence = match version {
                Version { served: Some(_), .. } => return None,
                Version { is_loading: true, .. } => Absence::Loading,
                Version {
                    failure: Some(failure),
                    ..
                } if self.wanted => Absence::Failed(failure.reason.clone()),
                _ => Absence::Unloaded,
            };
            Some((*number, absence))
        });
        Entry {
            absent: absent.collect(),
            problem: self.problem.clone().filter(|_| self.wanted),
            index: self.index(name),
            served: served()
                .map(|(number, model)| (number, Served::new(&model, &versions, &self.policy)))
                .collect(),
        }
    }

    fn index(&self, name: &str) -> Vec<IndexEntry> {
        let line = |version: Option<&u64>, state, reason: &str| IndexEntry {
            name: name.to_owned(),
            version: version.map(u64::to_string),
            state,
            reason: reason.to_owned(),
        };
        let problem = self.problem.as_deref();
        if self.versions.is_empty() {
            let state = if self.wanted {
                ModelState::Unavailable
            } else {
                ModelState::Unknown
            };
            return vec![line(None, state, problem.unwrap_or_default())];
        }
        let version = |(number, version): (&u64, &Version)| {
            let failure = version.failure.as_ref().map(|failure| failure.reason.as_str());
            let reasons: Vec<&str> = problem.into_iter().chain(failure).collect();
            let reason = reasons.join("; ");
            let (state, reason) = match version {
                Version { served: Some(_), .. } if reason.is_empty() => (ModelState::Ready, reason),
                Version { served: Some(_), .. } => (ModelState::Ready, format!("update failed: {reason}")),
                Version { is_loading: true, .. } => (ModelState::Loading, String::new()),
                Version { draining: 1.., .. } => (ModelState::Unloading, String::new()),
                _ if reason.is_empty() => (ModelState::Unavailable, "unloaded".to_owned()),
                _ => (ModelState::Unavailable, reason),
            };
            line(Some(number), state, &reason)
        };
        self.versions.iter().map(version).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(reason: &str) -> Version {
        Version {
            failure: Some(Failure {
                digest: None,
                reason: reason.to_owned(),
            }),
            ..Version::default()
        }
    }

    #[test]
    fn the_index_tells_why_a_version_is_not_served() {
        let mut record = Record {
            wanted: true,
            ..Record::default()
        };
        let told = |record: &Record| {
            let line = |line: &IndexEntry| format!("{:?} {:?} {}", line.version, line.state, line.reason);
            record
                .entry("churn")
                .index
                .iter()
                .map(line)
                .collect::<Vec<_>>()
                .join("\n")
        };
        record.versions.insert(1, Version::default());
        record.versions.insert(2, failing("the file is empty"));
        let loading = Version {
            is_loading: true,
            ..Version::default()
        };
        record.versions.insert(3, loading);
        assert_eq!(
            told(&record),
            "Some(\"1\") Unavailable unloaded\nSome(\"2\") Unavailable the file is empty\nSome(\"3\") Loading "
        );
        assert_eq!(record.complaint(), Some("the file is empty"));
        record.versions.clear();
        record.problem = Some("model.toml: line 1".to_owned());
        assert_eq!(told(&record), "None Unavailable model.toml: line 1");
        record.problem = None;
        record.wanted = false;
        assert_eq!(told(&record), "None Unknown ");
        assert_eq!(record.complaint(), None);
    }
}
