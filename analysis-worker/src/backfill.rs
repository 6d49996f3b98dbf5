//! Asks for what the worker was not told.
//!
//! Alertmanager never tells of an alert that fired and was over while nobody listened. So the worker notes every few
//! seconds that it can be told things (`store/backfill.rs`), and after a pause asks Prometheus which alerts fired in it.
//! What it finds goes the way of every alert and is the same as one that Alertmanager tells later.

mod episodes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::http::HttpError;
use crate::intake::alertmanager;
use crate::metrics::{Backfilled, Intake, Metrics, Received};
use crate::prometheus::{AlertRule, Prometheus, millis};
use crate::redact::Redactor;
use crate::signal::{Origin, now, rfc3339};
use crate::store::{Store, StoreError};
use episodes::{Episode, Episodes};

/// Time between two notes that the worker can be told things.
const BEAT: Duration = Duration::from_secs(5);
/// How far before the pause is looked, so that the begin of what fired at its begin is seen.
const MARGIN: i64 = 5 * 60_000;
/// Longest range that one query asks for; the samples of a thousand firing alerts in it stay below the largest answer.
const WINDOW: i64 = 60 * 60_000;
/// Shortest range, when answers are too large.
const SHORTEST: i64 = 60_000;
/// Alerts that go to the store in one transaction.
const AT_ONCE: usize = 200;
/// Longest wait before Prometheus is asked again after a failure.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Why back-filling did not come to its end.
#[derive(Debug, thiserror::Error)]
enum BackfillError {
    #[error("Prometheus: {0}")]
    Prometheus(#[from] HttpError),
    #[error("more than {0} alerts fire at the same time; narrow backfill_matchers")]
    TooMany(usize),
    #[error("an alert of Prometheus cannot be read: {0}")]
    Malformed(#[from] crate::intake::Malformed),
    #[error("the store could not commit")]
    Store(#[from] StoreError),
}

/// Follows the worker's own pauses and fills them.
pub(crate) struct Backfill {
    pub(crate) store: Store,
    /// Nobody to ask without it.
    pub(crate) prometheus: Option<Prometheus>,
    /// How far back is asked; zero asks nobody.
    pub(crate) longest: Duration,
    /// Matchers of the alerts that Alertmanager sends here, as PromQL has them.
    pub(crate) matchers: String,
    pub(crate) redactor: Redactor,
    pub(crate) metrics: Metrics,
    pub(crate) wake: Arc<Notify>,
}

impl Backfill {
    /// Runs until `stop`; what is broken off then is asked for again after the next start.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let _stopped = stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&self) {
        // A start is a pause, however short; so is an alert that the store could not take.
        let (mut missed, mut refused) = (true, self.metrics.refused_by_store());
        let (mut ask_at, mut wait) = (Instant::now(), BEAT);
        loop {
            let refused_now = self.metrics.refused_by_store();
            missed |= refused_now > refused;
            match self.store.beat(missed).await {
                Ok(since) => {
                    (missed, refused) = (false, refused_now);
                    let gap = since.map_or(0, |since| (now() - since).max(0));
                    self.metrics.gap(Duration::from_millis(gap.unsigned_abs()));
                    if let Some(since) = since
                        && Instant::now() >= ask_at
                    {
                        wait = if self.fill(since).await {
                            BEAT
                        } else {
                            (wait * 2).min(LONGEST_WAIT)
                        };
                        ask_at = Instant::now() + wait;
                    }
                }
                // The next beat that succeeds sees how long it took.
                Err(error) => {
                    tracing::debug!(error = %plumbline_service::error_chain(&error), "the heartbeat cannot be noted");
                }
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Fills the pause that began at `since`; false when it has to be tried again.
    async fn fill(&self, since: i64) -> bool {
        let outcome = match &self.prometheus {
            _ if self.longest.is_zero() => Ok(Backfilled::Off),
            None => Ok(Backfilled::Off),
            Some(prometheus) => self.ask(prometheus, since).await.map(|()| Backfilled::Done),
        };
        let outcome = match outcome {
            Ok(outcome) => self
                .store
                .caught_up(since)
                .await
                .map(|()| outcome)
                .map_err(BackfillError::from),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(outcome) => {
                if let Backfilled::Off = outcome {
                    tracing::warn!(
                        since = rfc3339(since),
                        "alerts that fired and were over while the worker could not be told are lost: set prometheus and backfill"
                    );
                }
                self.metrics.backfill(outcome);
                self.metrics.gap(Duration::ZERO);
                true
            }
            Err(error) => {
                tracing::warn!(
                    since = rfc3339(since),
                    error = %plumbline_service::error_chain(&error),
                    "alerts that were missed cannot be asked for; trying again"
                );
                self.metrics.backfill(Backfilled::Failed);
                false
            }
        }
    }

    async fn ask(&self, prometheus: &Prometheus, since: i64) -> Result<(), BackfillError> {
        let until = now();
        let longest = i64::try_from(self.longest.as_millis()).unwrap_or(i64::MAX / 4);
        let from = since.max(until - longest);
        if from > since {
            tracing::warn!(
                since = rfc3339(since),
                asked_since = rfc3339(from),
                "the pause is longer than backfill: alerts before that are lost"
            );
        }
        // Servers that speak PromQL need not have rules; then nothing is known of intervals and annotations.
        let rules = prometheus.alert_rules().await.unwrap_or_default();
        let episodes = self.episodes(prometheus, &rules, from - MARGIN, until).await?;
        let missed: Vec<Episode> = episodes
            .into_iter()
            .filter(|episode| episode.ended_at.is_none_or(|ended| ended >= from))
            .collect();
        let (mut new, mut known) = (0, 0);
        for some in missed.chunks(AT_ONCE) {
            let alerts: Vec<_> = some.iter().map(|episode| alert(episode, &rules)).collect();
            let taken = alertmanager::read(json!({"alerts": alerts}).to_string().as_bytes(), &self.redactor)?;
            let mut signals = taken.signals;
            for signal in &mut signals {
                signal.origin = Origin::Backfilled;
            }
            let accepted = self.store.accept(signals).await?;
            self.metrics.redacted(taken.redactions);
            self.metrics
                .received(Intake::Backfill, Received::New, accepted.new);
            let duplicates = some.len() as u64 - accepted.new;
            self.metrics
                .received(Intake::Backfill, Received::Duplicate, duplicates);
            (new, known) = (new + accepted.new, known + duplicates);
            if accepted.jobs > 0 {
                self.wake.notify_one();
            }
        }
        tracing::info!(
            since = rfc3339(from),
            new,
            known,
            "alerts of the worker's pause were asked for"
        );
        Ok(())
    }

    /// Every time an alert fired in the range, oldest first.
    async fn episodes(
        &self,
        prometheus: &Prometheus,
        rules: &[AlertRule],
        from: i64,
        until: i64,
    ) -> Result<Vec<Episode>, BackfillError> {
        let separator = if self.matchers.is_empty() { "" } else { "," };
        let selector = format!("ALERTS{{alertstate=\"firing\"{separator}{}}}", self.matchers);
        let intervals: BTreeMap<String, Duration> = rules
            .iter()
            .map(|rule| (rule.name.clone(), rule.interval))
            .collect();
        let mut episodes = Episodes::new(intervals);
        let (mut at, mut window) = (from, WINDOW);
        while at < until {
            let end = (at + window).min(until);
            // The samples themselves, so that an alert begins when it began and not at the next step.
            let query = format!("{selector}[{}ms]", end - at);
            match prometheus.instant(&query, end).await {
                Ok(series) => {
                    for series in series {
                        let samples = series.values.iter().map(|(at, _)| millis(*at));
                        episodes.add(series.metric, samples);
                    }
                    if episodes.is_full() {
                        return Err(BackfillError::TooMany(episodes::MAX_SERIES));
                    }
                    at = end;
                }
                Err(HttpError::TooLarge(_)) if window > SHORTEST => window = (window / 2).max(SHORTEST),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(episodes.finish(until))
    }
}

/// An episode as Alertmanager would have told it.
fn alert(episode: &Episode, rules: &[AlertRule]) -> serde_json::Value {
    let name = episode.labels.get("alertname").map_or("", String::as_str);
    let annotations: BTreeMap<&str, String> = rules
        .iter()
        .find(|rule| rule.name == name)
        .into_iter()
        .flat_map(|rule| &rule.annotations)
        .map(|(name, text)| (name.as_str(), episodes::fill_in(text, &episode.labels)))
        .collect();
    let time =
        |at: i64| jiff::Timestamp::from_millisecond(at).map_or_else(|_| String::new(), |at| at.to_string());
    json!({
        "status": if episode.ended_at.is_some() { "resolved" } else { "firing" },
        "labels": episode.labels,
        "annotations": annotations,
        "startsAt": time(episode.started_at),
        "endsAt": episode.ended_at.map_or_else(String::new, time),
    })
}
