//! Makes the effects of the outbox outside: each once, however often this process dies.
//!
//! A lane works alone and in order. What an earlier try may have made is looked for by its key before it is made again;
//! what it made is kept with where it is. A service that is away or wants us to wait gets both.

mod issue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plumbline_service::config::ParseSetting as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::action::{Action, Lane, Occasion, Receipt};
use crate::github::{self, GitHub, Repository};
use crate::metrics::{EffectOutcome, Label as _, Metrics};
use crate::policy::Workflow;
use crate::slack::message::{self, Links};
use crate::slack::{Slack, SlackError};
use crate::store::{Effect, Failure, Fate, MAX_TRIES, Retry, Store, StoreError, Told};
use crate::text::{one_line, sanitise};

/// How often a lane is looked at without being told: for retries that have become due.
const LOOK: Duration = Duration::from_secs(2);
/// Pause after each call: Slack takes one message a second in a channel, and GitHub asks for a second between writes.
const REST: Duration = Duration::from_secs(1);
/// How often approvals expire and the books are read.
const BOOKS: Duration = Duration::from_secs(5);

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

    async fn make(&self, effect: &Effect) -> Result<Receipt, Failure> {
        let told = self.store.told(&effect.incident).await.map_err(|error| Failure {
            error: plumbline_service::error_chain(&error),
            uncertain: effect.uncertain,
            retry: Retry::After(None),
        })?;
        let Some(told) = told else {
            return Err(never("the incident has no report".to_owned()));
        };
        match effect.action {
            Action::SlackMessage => self.slack_message(effect, &told).await,
            Action::SlackUpdate => self.slack_update(effect, &told).await,
            Action::SlackReply => self.slack_reply(effect, &told).await,
            Action::GithubIssue => self.issue(effect, &told).await,
            Action::GithubComment => self.comment(effect, &told).await,
            Action::RetrainDispatch => self.retrain(effect).await,
        }
    }

    async fn slack_message(&self, effect: &Effect, told: &Told) -> Result<Receipt, Failure> {
        let slack = self.slack()?;
        if let Some(ts) = found_message(slack, effect, None).await? {
            return Ok(receipt(&effect.target, ts, None, true));
        }
        let message = message::incident(told, &self.links);
        let ts = slack.post(&effect.target, None, &message, &effect.key).await;
        Ok(receipt(
            &effect.target,
            ts.map_err(|error| of_slack(&error))?,
            None,
            false,
        ))
    }

    async fn slack_reply(&self, effect: &Effect, told: &Told) -> Result<Receipt, Failure> {
        let slack = self.slack()?;
        let thread = thread(told)?;
        if let Some(ts) = found_message(slack, effect, Some(thread)).await? {
            return Ok(receipt(&thread.place, ts, None, true));
        }
        let message = match effect.occasion {
            Occasion::Recovered => message::recovered(told, &self.links),
            Occasion::Report | Occasion::Status => message::revision(&told.report, &self.links),
        };
        let ts = slack
            .post(&thread.place, Some(&thread.reference), &message, &effect.key)
            .await;
        Ok(receipt(
            &thread.place,
            ts.map_err(|error| of_slack(&error))?,
            None,
            false,
        ))
    }

    /// Does the same however often it is done.
    async fn slack_update(&self, _effect: &Effect, told: &Told) -> Result<Receipt, Failure> {
        let slack = self.slack()?;
        let thread = thread(told)?;
        let message = message::incident(told, &self.links);
        slack
            .update(&thread.place, &thread.reference, &message)
            .await
            .map_err(|error| Failure {
                uncertain: false,
                ..of_slack(&error)
            })?;
        Ok(receipt(&thread.place, thread.reference.clone(), None, false))
    }

    async fn issue(&self, effect: &Effect, told: &Told) -> Result<Receipt, Failure> {
        let github = self.github()?;
        let repository = repository(&effect.target)?;
        if effect.uncertain {
            let found = github
                .find_issue(&repository, &issue::marker_of(&effect.key))
                .await;
            if let Some(issue) = found.map_err(|error| not_looked(&error))? {
                return Ok(receipt(
                    &effect.target,
                    issue.number.to_string(),
                    Some(issue.html_url),
                    true,
                ));
            }
        }
        let issue = issue::issue(told, &effect.key, &self.links);
        let issue = github.create_issue(&repository, &issue).await;
        let issue = issue.map_err(|error| of_github(&error))?;
        Ok(receipt(
            &effect.target,
            issue.number.to_string(),
            Some(issue.html_url),
            false,
        ))
    }

    async fn comment(&self, effect: &Effect, told: &Told) -> Result<Receipt, Failure> {
        let github = self.github()?;
        let of = told.issue.as_ref();
        let of = of.ok_or_else(|| never("the incident has no issue".to_owned()))?;
        let repository = repository(&of.place)?;
        let number = of.reference.parse();
        let number =
            number.map_err(|_| never(format!("`{}` is not the number of an issue", of.reference)))?;
        if effect.uncertain {
            let marker = issue::marker_of(&effect.key);
            let found = github.find_comment(&repository, number, &marker).await;
            if let Some(comment) = found.map_err(|error| not_looked(&error))? {
                return Ok(receipt(
                    &of.place,
                    comment.id.to_string(),
                    Some(comment.html_url),
                    true,
                ));
            }
        }
        let body = match effect.occasion {
            Occasion::Recovered => issue::recovered(told, &effect.key),
            Occasion::Report | Occasion::Status => issue::revision(told, &effect.key, &self.links),
        };
        let comment = github.comment(&repository, number, &body).await;
        let comment = comment.map_err(|error| of_github(&error))?;
        Ok(receipt(
            &of.place,
            comment.id.to_string(),
            Some(comment.html_url),
            false,
        ))
    }

    /// The workflow puts `key` into its `run-name`; that is how a run is found again.
    async fn retrain(&self, effect: &Effect) -> Result<Receipt, Failure> {
        let github = self.github()?;
        let workflow = Workflow::parse_setting(&effect.target).map_err(never)?;
        if effect.uncertain {
            let found = github
                .find_dispatched(&workflow.repository, &workflow.file, &effect.key)
                .await;
            if let Some(run) = found.map_err(|error| not_looked(&error))? {
                return Ok(receipt(
                    &effect.target,
                    run.id.to_string(),
                    Some(run.html_url),
                    true,
                ));
            }
        }
        let inputs = BTreeMap::from([
            ("key".to_owned(), effect.key.clone()),
            ("incident".to_owned(), effect.incident.clone()),
            ("model".to_owned(), effect.model.clone().unwrap_or_default()),
        ]);
        github
            .dispatch(&workflow.repository, &workflow.file, &workflow.git_ref, &inputs)
            .await
            .map_err(|error| of_github(&error))?;
        Ok(receipt(&effect.target, String::new(), None, false))
    }

    fn slack(&self) -> Result<&Slack, Failure> {
        self.slack
            .as_ref()
            .ok_or_else(|| never("Slack is not configured any more (slack_token)".to_owned()))
    }

    fn github(&self) -> Result<&GitHub, Failure> {
        self.github
            .as_ref()
            .ok_or_else(|| never("GitHub is not configured any more (github_token)".to_owned()))
    }

    /// Ends requests for approval that nobody decided, and keeps the gauges.
    async fn books(&self, stop: &CancellationToken) {
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
            if let Ok(ledger) = self.store.ledger().await {
                self.metrics.actions.ledger(&ledger);
            }
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

async fn found_message(
    slack: &Slack,
    effect: &Effect,
    thread: Option<&Receipt>,
) -> Result<Option<String>, Failure> {
    if !effect.uncertain {
        return Ok(None);
    }
    let (channel, ts) = match thread {
        Some(thread) => (&thread.place, Some(thread.reference.as_str())),
        None => (&effect.target, None),
    };
    // Slack's clock need not be ours.
    let since = effect.created_at - 60_000;
    slack
        .find(channel, ts, &effect.key, since)
        .await
        .map_err(|error| Failure {
            uncertain: true,
            ..of_slack(&error)
        })
}

fn thread(told: &Told) -> Result<&Receipt, Failure> {
    told.message
        .as_ref()
        .ok_or_else(|| never("the incident has no message".to_owned()))
}

fn repository(text: &str) -> Result<Repository, Failure> {
    Repository::parse(text).ok_or_else(|| never(format!("`{text}` is not a repository")))
}

fn receipt(place: &str, reference: String, url: Option<String>, found: bool) -> Receipt {
    Receipt {
        place: place.to_owned(),
        reference,
        url: url.filter(|url| !url.is_empty()),
        found,
    }
}

fn of_slack(error: &SlackError) -> Failure {
    Failure {
        error: line(&error.to_string()),
        uncertain: error.is_uncertain(),
        retry: retry(error.is_permanent(), error.retry_after()),
    }
}

fn of_github(error: &github::Error) -> Failure {
    let uncertain = match error {
        github::Error::NotReached { .. } | github::Error::Answer { .. } => true,
        github::Error::Refused { status, .. } => status.is_server_error(),
    };
    Failure {
        error: line(&error.to_string()),
        uncertain,
        // What may be there is looked for, whatever the answer was.
        retry: retry(error.is_permanent() && !uncertain, error.retry_after()),
    }
}

/// Whether an effect is there could not be found out.
fn not_looked(error: &github::Error) -> Failure {
    Failure {
        uncertain: true,
        ..of_github(error)
    }
}

fn retry(is_permanent: bool, after: Option<Duration>) -> Retry {
    if is_permanent {
        Retry::Never
    } else {
        Retry::After(after)
    }
}

fn never(error: String) -> Failure {
    Failure {
        error,
        uncertain: false,
        retry: Retry::Never,
    }
}

fn line(text: &str) -> String {
    one_line(&sanitise(text), 300)
}
