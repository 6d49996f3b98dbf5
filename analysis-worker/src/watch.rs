//! Looks for workflow runs whose webhooks did not come. GitHub sends each once: what it told while the worker was down, or
//! could not commit, is found here.
//!
//! The newest run of each workflow and branch decides: red ones are taken as their webhooks would have been, green ones
//! end what was red before. What is known already changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::github::{GitHub, Repository, Run};
use crate::intake::github::{Delivery, of_run};
use crate::metrics::{Intake, Metrics, Received};
use crate::redact::Redactor;
use crate::signal::{now, rfc3339};
use crate::store::{Accepted, Store, StoreError};

/// How often it looks after the start.
const EVERY: Duration = Duration::from_mins(10);
/// How far back.
const LOOKBACK: Duration = Duration::from_hours(24);

/// Looks for runs.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) github: GitHub,
    pub(crate) repositories: Vec<Repository>,
    pub(crate) store: Store,
    pub(crate) redactor: Redactor,
    pub(crate) metrics: Metrics,
    pub(crate) wake: Arc<Notify>,
}

impl Watch {
    /// Looks at once, and then again and again until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        if self.repositories.is_empty() {
            return;
        }
        loop {
            for repository in &self.repositories {
                let looked = tokio::select! {
                    looked = self.look(repository) => looked,
                    () = stop.cancelled() => return,
                };
                if let Err(error) = looked {
                    tracing::warn!(repository = %repository, error, "runs cannot be looked for");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn look(&self, repository: &Repository) -> Result<(), String> {
        let github = |error: crate::github::Error| error.to_string();
        let default_branch = self.github.default_branch(repository).await.map_err(github)?;
        let since = rfc3339(now() - i64::try_from(LOOKBACK.as_millis()).unwrap_or(0));
        let told = self
            .github
            .completed_runs(repository, &since)
            .await
            .map_err(github)?;
        let mut redaction = self.redactor.begin([]);
        let mut runs: Vec<Run> = Vec::with_capacity(told.len());
        for mut run in told {
            redaction.json(&mut run);
            runs.push(Run::deserialize(run).map_err(|error| error.to_string())?);
        }
        self.metrics.redacted(redaction.count());
        // RFC 3339 in UTC, as GitHub writes it, sorts by its text.
        runs.sort_by(|a, b| b.started_at().cmp(a.started_at()));
        let mut decided = BTreeSet::new();
        for run in &runs {
            let delivery = of_run(repository, &default_branch, run, "looked for");
            let accepted = match delivery.map_err(|error| error.to_string())? {
                Delivery::Failed(signal) if decided.insert(signal.incident.digest.clone()) => {
                    self.store.accept(vec![*signal]).await
                }
                Delivery::Green { incident, at } if decided.insert(incident.digest.clone()) => {
                    self.store.recover(incident.digest, at).await
                }
                _ => continue,
            };
            self.note(accepted)?;
        }
        Ok(())
    }

    fn note(&self, accepted: Result<Accepted, StoreError>) -> Result<(), String> {
        let accepted = accepted.map_err(|error| plumbline_service::error_chain(&error))?;
        self.metrics.received(Intake::GitHub, Received::New, accepted.new);
        self.metrics
            .received(Intake::GitHub, Received::Duplicate, accepted.duplicates);
        if accepted.jobs > 0 {
            self.wake.notify_one();
        }
        for incident in &accepted.incidents {
            tracing::debug!(incident.id = incident, "a red run was looked for");
        }
        for incident in &accepted.resolved {
            tracing::info!(incident.id = incident, "incident resolved");
        }
        Ok(())
    }
}
