//! Canaries that have lost their traffic, until a person gives it back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use plumbline_drift::report::CanaryEvent;
use plumbline_service::write_whole;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Revisions that can be stopped at a time. Names of revisions come from whoever configures them.
const MAX_STOPS: usize = 10_000;

/// Which canary: the model's name and the revision's.
pub(crate) type Canary = (Box<str>, Box<str>);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    stopped: Mutex<BTreeMap<Canary, Stop>>,
    /// Where they are kept across restarts.
    file: Option<PathBuf>,
    /// Told when there may be one that the worker has not heard of.
    pub(super) untold: Notify,
}

/// A canary that was stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) event: CanaryEvent,
    /// Whether the worker knows.
    pub(super) told: bool,
}

impl Stops {
    /// Those that a file holds, and later ones; without a file they end with the process.
    ///
    /// # Errors
    /// The file is there and cannot be read: what it says must not be lost.
    pub(crate) fn open(file: Option<PathBuf>) -> anyhow::Result<Self> {
        let stops = file.as_deref().map(read).transpose()?.unwrap_or_default();
        let stopped = stops.into_iter().map(|stop| (stop.canary(), stop)).collect();
        Ok(Self {
            stopped: Mutex::new(stopped),
            file,
            untold: Notify::new(),
        })
    }

    /// Stops a canary; false when it is stopped already.
    pub(super) fn add(&self, event: CanaryEvent) -> bool {
        let stop = Stop { event, told: false };
        let is_new = self.change(|stopped| {
            let room = stopped.len() < MAX_STOPS && !stopped.contains_key(&stop.canary());
            room.then(|| stopped.insert(stop.canary(), stop)).is_some()
        });
        self.untold.notify_one();
        is_new
    }

    /// Forgets the stop of a canary; false when there is none.
    pub(crate) fn remove(&self, model: &str, revision: &str) -> bool {
        self.change(|stopped| stopped.remove(&(model.into(), revision.into())).is_some())
    }

    /// The worker knows of this stop.
    pub(super) fn told(&self, stop: &Stop) {
        self.change(|stopped| match stopped.get_mut(&stop.canary()) {
            Some(known) if known.event == stop.event => {
                known.told = true;
                true
            }
            _ => false,
        });
    }

    /// A stop that the worker has not heard of.
    pub(super) fn next_untold(&self) -> Option<Stop> {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.values().find(|stop| !stop.told).cloned()
    }

    /// All as they are now.
    pub(crate) fn all(&self) -> BTreeMap<Canary, Stop> {
        self.stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes them and keeps the change, if there is one. One that cannot be kept counts until the process ends.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<Canary, Stop>) -> bool) -> bool {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut stopped);
        if let Some(file) = self.file.as_deref().filter(|_| changed) {
            let stops: Vec<&Stop> = stopped.values().collect();
            let json = serde_json::to_vec(&stops).expect("every map key is a text");
            if let Err(error) = write_whole(file, &json) {
                tracing::error!(file = %file.display(), %error, "stopped canaries cannot be kept across restarts");
            }
        }
        changed
    }
}

impl Stop {
    fn canary(&self) -> Canary {
        let CanaryEvent { model, canary, .. } = &self.event;
        (model.as_str().into(), canary.revision.as_str().into())
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<Stop>> {
    use anyhow::Context as _;

    let json = match std::fs::read(file) {
        Ok(json) => json,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    serde_json::from_slice(&json).with_context(|| {
        format!(
            "{}: expected stopped canaries; remove it to let all have traffic",
            file.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use plumbline_drift::report::{CanaryCause, RevisionSeen};

    use super::*;

    fn event(revision: &str) -> CanaryEvent {
        let seen = |revision: &str| RevisionSeen {
            revision: revision.to_owned(),
            answers: 40,
            failed: 0.5,
            p95_ms: Some(12.5),
            drift: None,
        };
        CanaryEvent {
            model: "churn".to_owned(),
            object: None,
            canary: seen(revision),
            stable: seen("stable"),
            cause: CanaryCause::Errors,
            at_unix_ms: 1_769_860_800_000,
            log10_evidence: Some(3.5),
        }
    }

    #[test]
    fn a_stop_outlives_the_process_until_it_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("stops.json");
        let open = || Stops::open(Some(file.clone())).expect("stops");
        let stops = open();
        assert!(stops.add(event("canary")) && !stops.add(event("canary")));
        assert!(stops.add(event("next")));
        let untold = open().next_untold().expect("one to tell");
        assert_eq!(untold.event, event("canary"));
        stops.told(&untold);
        assert_eq!(open().next_untold().expect("the other").event, event("next"));
        assert!(stops.remove("churn", "next") && !stops.remove("churn", "next"));
        let kept = open();
        assert_eq!((kept.all().len(), kept.next_untold()), (1, None));
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_told_and_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("stops.json");
        std::fs::write(&file, "[{}]").expect("written");
        let problem = Stops::open(Some(file)).expect_err("refused").to_string();
        assert!(problem.contains("expected stopped canaries"), "{problem}");
    }
}
