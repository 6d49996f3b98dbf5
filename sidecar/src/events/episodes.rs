//! Names of episodes, which stay the same across restarts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The episodes that this sidecar has told: how many of each model, and which are not over.
///
/// Kept beside the events. A process that starts while an episode is under way gives it the name that it had, however much of the
/// comparison itself was kept, so that the worker takes it for the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Episodes {
    /// Sets the episodes of this sidecar apart from those of the other replicas.
    instance: String,
    models: BTreeMap<String, Told>,
}

/// The episodes of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// How many there were, whatever the profile.
    count: u64,
    /// Those that are not over, by the identity of the profile that they were found with.
    open: BTreeMap<String, Open>,
}

/// An episode that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    /// Its place among the model's episodes, from 1.
    number: u64,
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

    /// The episode of drift that was found in `model` with `profile`: the open one, or else a new one.
    pub(super) fn begin(&mut self, model: &str, profile: &str, started_at_unix_ms: i64) -> Episode {
        let told = self.models.entry(model.to_owned()).or_default();
        let open = *told.open.entry(profile.to_owned()).or_insert_with(|| {
            told.count += 1;
            Open {
                number: told.count,
                started_at_unix_ms,
            }
        });
        self.named(model, profile, open)
    }

    /// Ends the open episode of `model` and `profile`; none when there is none, so that no end is told twice, or of an episode that
    /// nobody was told of.
    pub(super) fn end(&mut self, model: &str, profile: &str) -> Option<Episode> {
        let open = self.models.get_mut(model)?.open.remove(profile)?;
        Some(self.named(model, profile, open))
    }

    /// The profiles with which `model` has open episodes.
    pub(super) fn open_with(&self, model: &str) -> Vec<String> {
        let told = self.models.get(model);
        told.map(|told| told.open.keys().cloned().collect())
            .unwrap_or_default()
    }

    fn named(&self, model: &str, profile: &str, open: Open) -> Episode {
        Episode {
            id: format!("{model}-{profile}-{}-{}", self.instance, open.number),
            started_at_unix_ms: open.started_at_unix_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_keeps_its_name_until_it_is_over() {
        let mut episodes = Episodes::new();
        let detected = episodes.begin("churn", "a1", 7);
        // Another process reads what this one has written, and finds the drift again.
        let text = serde_json::to_string(&episodes).expect("JSON");
        let mut episodes: Episodes = serde_json::from_str(&text).expect("episodes");
        assert_eq!(episodes.begin("churn", "a1", 9), detected);
        assert_eq!(episodes.end("churn", "a1").as_ref(), Some(&detected));
        assert_eq!(episodes.end("churn", "a1"), None, "once");
        let next = episodes.begin("churn", "a1", 20);
        assert_ne!(next.id, detected.id);
        assert_eq!(next.started_at_unix_ms, 20);
    }

    #[test]
    fn models_profiles_and_replicas_have_episodes_of_their_own() {
        let mut episodes = Episodes::new();
        let mut ids = std::collections::BTreeSet::new();
        for (model, profile) in [("churn", "a1"), ("fraud", "a1"), ("churn", "b2")] {
            ids.insert(episodes.begin(model, profile, 0).id);
        }
        ids.insert(Episodes::new().begin("churn", "a1", 0).id);
        assert_eq!(ids.len(), 4, "{ids:?}");
        assert_eq!(episodes.open_with("churn"), ["a1", "b2"]);
        let first = episodes.end("churn", "a1").expect("open");
        assert_eq!(
            episodes.open_with("churn"),
            ["b2"],
            "versions have profiles of their own"
        );
        assert_ne!(episodes.begin("churn", "a1", 0).id, first.id);
    }
}
