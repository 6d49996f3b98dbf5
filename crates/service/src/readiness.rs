//! Readiness as tokens: a part is ready when nobody holds one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Why a process is not ready; shared by the admin port and by whoever must wait for something.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    reasons: BTreeMap<u64, String>,
    draining: bool,
}

impl Readiness {
    /// Keeps the process unready until the token is dropped. `reason` is what `/readyz` prints.
    #[must_use = "the process is ready as soon as the token is dropped"]
    pub fn wait_for(&self, reason: impl Into<String>) -> ReadinessToken {
        let mut waiting = self.lock();
        let key = waiting.next;
        waiting.next += 1;
        waiting.reasons.insert(key, reason.into());
        drop(waiting);
        self.0.changed.send_replace(());
        ReadinessToken {
            key,
            readiness: self.clone(),
        }
    }

    /// Not ready from here on: endpoints must stop sending before the listener closes.
    pub(crate) fn drain(&self) {
        self.lock().draining = true;
        self.0.changed.send_replace(());
    }

    /// Whether requests should be sent here.
    pub fn is_ready(&self) -> bool {
        let waiting = self.lock();
        !waiting.draining && waiting.reasons.is_empty()
    }

    /// Changes whenever a wait begins or ends, so that others can be told.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// What is being waited for, in the order in which the waits began; empty when ready.
    pub fn pending(&self) -> Vec<String> {
        let waiting = self.lock();
        let draining = waiting.draining.then(|| "draining".to_owned());
        draining
            .into_iter()
            .chain(waiting.reasons.values().cloned())
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // A panic elsewhere cannot leave a map insert half done; keep answering probes.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thing that a process waits for before it is ready.
#[derive(Debug)]
pub struct ReadinessToken {
    key: u64,
    readiness: Readiness,
}

impl ReadinessToken {
    /// Replaces the reason, as when loading goes from one step to the next.
    pub fn update(&self, reason: impl Into<String>) {
        self.readiness.lock().reasons.insert(self.key, reason.into());
    }
}

impl Drop for ReadinessToken {
    fn drop(&mut self) {
        self.readiness.lock().reasons.remove(&self.key);
        self.readiness.0.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_token_is_dropped() {
        let readiness = Readiness::default();
        let model = readiness.wait_for("model `churn` is loading");
        let routes = readiness.wait_for("first route sync");
        assert_eq!(
            readiness.pending(),
            ["model `churn` is loading", "first route sync"]
        );
        model.update("model `churn` is warming up");
        assert_eq!(readiness.pending()[0], "model `churn` is warming up");
        drop(model);
        assert!(!readiness.is_ready());
        drop(routes);
        assert!(readiness.is_ready());
    }

    #[tokio::test]
    async fn a_change_is_told_to_whoever_watches() {
        let readiness = Readiness::default();
        let mut watch = readiness.watch();
        let token = readiness.wait_for("model");
        watch.changed().await.expect("a change");
        token.update("another reason");
        assert!(!watch.has_changed().expect("open"));
        drop(token);
        watch.changed().await.expect("a change");
        readiness.drain();
        watch.changed().await.expect("a change");
    }

    #[test]
    fn draining_is_final() {
        let readiness = Readiness::default();
        readiness.drain();
        drop(readiness.wait_for("late"));
        assert_eq!(readiness.pending(), ["draining"]);
    }
}
