//! Names of episodes, which stay the same across restarts.

use std::collections::BTreeMap;

use plumbline_drift::report::State;
use serde::{Deserialize, Serialize};

/// The episodes that this sidecar has told: the last of each model, and whether it is over.
///
/// Kept beside the events. A process that starts while an episode is under way gives it the name that it had, however much of the
/// comparison itself was kept, so that the worker takes it for the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Episodes {
    /// Sets the episodes of this sidecar apart from those of the other replicas.
    instance: String,
    models: BTreeMap<String, Last>,
}

/// The last episode of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    /// Identity of the profile that it was found with.
    profile: String,
    /// Counts the model's episodes from 1, whatever the profile.
    number: u64,
    is_open: bool,
    started_at_unix_ms: i64,
}

/// What an event says about its episode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Episode {
    pub(super) id: String,
    pub(super) started_at_unix_ms: i64,
}

impl Episodes {
    /// Those of a sidecar that has told none.
    pub(super) fn new() -> Self {
        Self {
            instance: format!("{:016x}", fastrand::u64(..)),
            models: BTreeMap::new(),
        }
    }

    /// The episode that a change of `model` to `state` belongs to: the open one of the same profile, or else a new one.
    pub(super) fn tell(
        &mut self,
        model: &str,
        profile: &str,
        state: State,
        started_at_unix_ms: i64,
    ) -> Episode {
        let last = self.models.entry(model.to_owned()).or_default();
        if !last.is_open || last.profile != profile {
            *last = Last {
                profile: profile.to_owned(),
                number: last.number + 1,
                is_open: true,
                started_at_unix_ms,
            };
        }
        last.is_open = state == State::Drift;
        Episode {
            id: format!("{model}-{profile}-{}-{}", self.instance, last.number),
            started_at_unix_ms: last.started_at_unix_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_keeps_its_name_until_it_is_over() {
        let mut episodes = Episodes::new();
        let detected = episodes.tell("churn", "a1", State::Drift, 7);
        // Another process reads what this one has written, and finds the drift again.
        let text = serde_json::to_string(&episodes).expect("JSON");
        let mut episodes: Episodes = serde_json::from_str(&text).expect("episodes");
        assert_eq!(episodes.tell("churn", "a1", State::Drift, 9), detected);
        assert_eq!(episodes.tell("churn", "a1", State::Recovered, 9), detected);
        let next = episodes.tell("churn", "a1", State::Drift, 20);
        assert_ne!(next.id, detected.id);
        assert_eq!(next.started_at_unix_ms, 20);
    }

    #[test]
    fn models_profiles_and_replicas_have_episodes_of_their_own() {
        let mut episodes = Episodes::new();
        let mut ids = std::collections::BTreeSet::new();
        for (model, profile) in [("churn", "a1"), ("fraud", "a1"), ("churn", "b2"), ("churn", "a1")] {
            ids.insert(episodes.tell(model, profile, State::Drift, 0).id);
        }
        ids.insert(Episodes::new().tell("churn", "a1", State::Drift, 0).id);
        assert_eq!(ids.len(), 5, "{ids:?}");
    }
}
