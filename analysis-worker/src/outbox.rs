//! Makes the effects of the outbox outside: each once, however often this process dies.
//!
//! A lane works alone and in order. What an earlier try may have made is looked for by its key before it is made again;
//! what it made is kept with where it is. A service that is away or wants us to wait gets both.

mod issue;
mod make;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::action::{Lane, Receipt};
use crate::github::GitHub;
use crate::metrics::{EffectOutcome, Label as _, Metrics};
use crate::slack::Slack;
use crate::slack::message::Links;
use crate::store::{Effect, Failure, Fate, MAX_TRIES, Retry, Store, StoreError};

/// How often a lane is looked at without being told: for retries that have become due.
const LOOK: Duration = Duration::from_secs(2);
/// Pause after each call: Slack takes one message a second in a channel, and GitHub asks for a second between writes.
const REST: Duration = Duration::from_secs(1);
/// How often approvals expire and effects are counted.
const BOOKS: Duration = Duration::from_secs(5);
/// Looks at the books for one at the ledger, which reads every signal.
const LEDGER_EVERY: u32 = 12;

/// Wakes the lanes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wake(Arc<[Notify; Lane::ALL.len()]>);

impl Wake {
    /// There may be something to do in any lane.
    pub(crate) fn all(&self) {
        self.0.iter().for_each(Notify::notify_one);
    }

    async fn of(&self, lane: Lane) {
        self.0[lane as usize].notified().await;
    }
}

/// Makes effects. Cloned for each lane.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    pub(crate) wake: Wake,
    pub(crate) slack: Option<Slack>,
    pub(crate) github: Option<GitHub>,
    pub(crate) links: Links,
}

impl Outbox {
    /// Works all lanes until `stop`; a call that is under way gets `grace` to end. What has not ended by then is looked for
    /// by the next process.
    pub(crate) async fn run(self, stop: CancellationToken, grace: Duration) {
        tokio::join!(
            self.work(Lane::Slack, &stop, grace),
            self.work(Lane::GithubIssues, &stop, grace),
            self.work(Lane::GithubActions, &stop, grace),
            self.books(&stop),
        );
    }

    async fn work(&self, lane: Lane, stop: &CancellationToken, grace: Duration) {
        while !stop.is_cancelled() {
            let rest = match self.store.claim_effect(lane).await {
                Ok(Some(effect)) => {
                    tokio::select! {
                        rest = self.perform(effect) => rest,
                        () = late(stop, grace) => return,
                    }
                }
                Ok(None) => {
                    tokio::select! {
                        () = self.wake.of(lane) => {}
                        () = tokio::time::sleep(LOOK) => {}
                        () = stop.cancelled() => {}
                    }
                    continue;
                }
                Err(error) => {
                    tracing::error!(lane = lane.label(), error = %plumbline_service::error_chain(&error), "the outbox cannot be read");
                    LOOK
                }
            };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Makes an effect and keeps what came of it. Returns how long the lane rests.
    async fn perform(&self, effect: Effect) -> Duration {
        let (this, of) = (self.clone(), effect.clone());
        // A panic ends this try only.
        let made = match tokio::spawn(async move { this.make(&of).await }).await {
            Ok(made) => made,
            Err(error) => Err(Failure {
                error: format!("the try ended early: {error}"),
                uncertain: true,
                retry: Retry::After(None),
            }),
        };
        let rest = match &made {
            Err(Failure {
                retry: Retry::After(Some(wait)),
                ..
            }) => REST.max(*wait),
            _ => REST,
        };
        if let Err(error) = self.record(&effect, made).await {
            // It stays as it is; the next process looks for it.
            tracing::error!(incident.id = effect.incident, action = effect.action.label(), error = %plumbline_service::error_chain(&error), "what came of an effect cannot be kept");
        }
        rest
    }

    async fn record(&self, effect: &Effect, made: Result<Receipt, Failure>) -> Result<(), StoreError> {
        let (incident, action) = (effect.incident.as_str(), effect.action.label());
        match made {
            Ok(receipt) => {
                let outcome = if receipt.found {
                    EffectOutcome::Found
                } else {
                    EffectOutcome::Made
                };
                self.store.effect_done(effect, receipt).await?;
                self.metrics.actions.effect(effect.action, outcome);
                tracing::info!(
                    incident.id = incident,
                    action,
                    outcome = outcome.label(),
                    "effect made"
                );
            }
            Err(failure) => {
                let error = failure.error.clone();
                match self.store.effect_failed(effect, failure).await? {
                    Fate::Again(wait) => {
                        self.metrics.actions.effect(effect.action, EffectOutcome::Retried);
                        tracing::warn!(
                            incident.id = incident,
                            action,
                            error,
                            attempt = effect.attempt,
                            attempts = MAX_TRIES,
                            ?wait,
                            "an effect is tried again"
                        );
                    }
                    Fate::Dead => {
                        self.metrics.actions.effect(effect.action, EffectOutcome::Dead);
                        tracing::error!(
                            incident.id = incident,
                            action,
                            error,
                            "an effect was given up; the console can retry it"
                        );
                    }
                }
            }
        }
        self.wake.all();
        Ok(())
    }

    /// Ends requests for approval that nobody decided, and keeps the gauges.
    async fn books(&self, stop: &CancellationToken) {
        let mut look = 0;
        while !stop.is_cancelled() {
            match self.store.expire_approvals().await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::info!(count, "requests for approval expired");
                    self.wake.all();
                }
                Err(error) => {
                    tracing::error!(error = %plumbline_service::error_chain(&error), "requests for approval cannot expire");
                }
            }
            if let Ok(counts) = self.store.effect_counts().await {
                self.metrics.actions.effects(&counts);
            }
            if look % LEDGER_EVERY == 0
                && let Ok(ledger) = self.store.ledger().await
            {
                self.metrics.actions.ledger(&ledger);
            }
            look = look.wrapping_add(1);
            tokio::select! {
                () = tokio::time::sleep(BOOKS) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

async fn late(stop: &CancellationToken, grace: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(grace).await;
}
