//! Closes the loop: what was done about an incident is followed until its signal recovers or does not.
//!
//! An intervention is a person's, told at the API or the page, or one that the worker sees by itself: a retraining that it
//! dispatched, another version of the model. Measures are taken when it is done and, by the same queries, when it is judged.
//! What came of it is evidence for the next incident of the kind.

mod judge;
mod measure;
pub(crate) mod past;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Label, Metrics, label};
use crate::report::Report;
use crate::signal::now;
use crate::store::{Intervention, Store, StoreError, Watched};

use judge::Judgement;
pub(crate) use measure::{Measurer, Measures};

/// How often what is watched is looked at.
const LOOK: Duration = Duration::from_secs(30);
/// Incidents and interventions of one look.
const MAX_ROWS: u32 = 200;

label! {
    /// What was done about an incident.
    InterventionKind {
        /// The model was trained again.
        Retrain = "retrain",
        /// Another version was put into use.
        Rollout = "rollout",
        /// The previous version was put into use.
        Rollback = "rollback",
        /// Anything else that a person did.
        Fix = "fix",
        /// Nothing: it went by itself.
        None = "none",
    }
}

label! {
    /// What came of it.
    FollowOutcome {
        /// The signal has not ended yet.
        Watching = "watching",
        /// The signal ended, and stayed away.
        Recovered = "recovered",
        /// It did not end in time, or something else had to be done.
        Persisted = "persisted",
    }
}

impl InterventionKind {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.label() == text)
    }

    /// The kind that `text` names, for people.
    pub(crate) fn title_of(text: &str) -> &str {
        match Self::parse(text) {
            Some(Self::Retrain) => "retrained",
            Some(Self::Rollout) => "new version",
            Some(Self::Rollback) => "rolled back",
            Some(Self::Fix) => "fixed",
            Some(Self::None) => "nothing was done",
            None => text,
        }
    }
}

/// What a person says that was done; the body of `POST /api/v1/incidents/{id}/interventions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    /// `retrain`, `rollout`, `rollback` or `fix`.
    pub(crate) kind: String,
    /// Who did it.
    pub(crate) actor: String,
    /// In a sentence.
    #[serde(default)]
    pub(crate) note: String,
    /// RFC 3339; now without.
    #[serde(default)]
    pub(crate) at: Option<String>,
}

/// How long incidents are followed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// A signal that has been away for this long counts as recovered.
    pub(crate) settle: Duration,
    /// An intervention whose signal still fires after this has not helped.
    pub(crate) give_up: Duration,
}

/// Follows what was done.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) store: Store,
    pub(crate) measurer: Arc<Measurer>,
    pub(crate) metrics: Metrics,
    pub(crate) patience: Patience,
}

impl Follower {
    /// Looks until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let every = LOOK.min(self.patience.settle.max(Duration::from_millis(100)));
        while !stop.is_cancelled() {
            if let Err(error) = self.look().await {
                tracing::warn!(error = %plumbline_service::error_chain(&error), "what was done cannot be followed");
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        self.see_retrainings().await?;
        self.see_new_versions().await?;
        for watched in self.store.watched(MAX_ROWS).await? {
            if let Some(judgement) = judge::judge(&watched, self.patience, now()) {
                self.judged(&watched, judgement).await?;
            }
        }
        let quiet_since = now() - self.patience.settle.as_millis() as i64;
        for incident in self.store.ended_alone(quiet_since, MAX_ROWS).await? {
            let measures = self.measurer.measure(incident.model.as_deref()).await;
            let intervention = Intervention {
                incident: incident.id,
                kind: InterventionKind::None.label(),
                actor: "nobody".to_owned(),
                note: String::new(),
                at: incident.resolved_at,
                before: String::new(),
            };
            if let Some(id) = self.store.intervene(intervention).await? {
                let after = measures.values.to_json();
                self.store
                    .conclude_intervention(id, FollowOutcome::Recovered.label(), after)
                    .await?;
                self.metrics
                    .followed(InterventionKind::None, FollowOutcome::Recovered);
            }
        }
        Ok(())
    }

    async fn judged(&self, watched: &Watched, judgement: Judgement) -> Result<(), StoreError> {
        let measures = self.measurer.measure(watched.model.as_deref()).await;
        let outcome = judgement.outcome();
        self.store
            .conclude_intervention(watched.id, outcome.label(), measures.values.to_json())
            .await?;
        let kind = InterventionKind::parse(&watched.kind).unwrap_or(InterventionKind::Fix);
        self.metrics.followed(kind, outcome);
        tracing::info!(
            incident.id = watched.incident,
            intervention = watched.kind,
            outcome = outcome.label(),
            "an intervention was judged"
        );
        Ok(())
    }

    /// What policy or a person let the outbox start.
    async fn see_retrainings(&self) -> Result<(), StoreError> {
        for (incident, at, actor) in self.store.new_retrainings(MAX_ROWS).await? {
            let drift = serde_json::from_str::<Report>(&incident.report)
                .ok()
                .and_then(|report| report.drift);
            let intervention = Intervention {
                incident: incident.id,
                kind: InterventionKind::Retrain.label(),
                actor,
                note: "dispatched by the worker".to_owned(),
                at,
                before: drift.map_or_else(String::new, |drift| Measures::of_report(&drift).to_json()),
            };
            if self.store.intervene(intervention).await?.is_some() {
                self.metrics
                    .followed(InterventionKind::Retrain, FollowOutcome::Watching);
            }
        }
        Ok(())
    }

    /// A model that drifted in one version and is served in another has been rolled out, whoever did it.
    async fn see_new_versions(&self) -> Result<(), StoreError> {
        for open in self.store.open_with_report(MAX_ROWS).await? {
            let Ok(report) = serde_json::from_str::<Report>(&open.report) else {
                continue;
            };
            let Some(drift) = report.drift else { continue };
            let measures = self.measurer.measure(open.model.as_deref()).await;
            let Some(version) = measures
                .version
                .as_ref()
                .filter(|version| **version != drift.version)
            else {
                continue;
            };
            let intervention = Intervention {
                incident: open.id,
                kind: InterventionKind::Rollout.label(),
                actor: "seen by the worker".to_owned(),
                note: format!("version {} → {version}", drift.version),
                at: now(),
                before: Measures::of_report(&drift).to_json(),
            };
            if self.store.intervene(intervention).await?.is_some() {
                self.metrics
                    .followed(InterventionKind::Rollout, FollowOutcome::Watching);
            }
        }
        Ok(())
    }
}
