//! Tells the analysis-worker about drift: at least once, without ever holding up the observer.
//!
//! The observer raises a change; it becomes a CloudEvent in the [`Outbox`]. A task delivers it, however long the worker is
//! away, and a thread keeps what waits on disk, when there is a spool directory: neither waits for the other.

mod delivery;
mod episodes;
mod event;
mod outbox;
mod spool;

use std::sync::Arc;

use plumbline_drift::report::{DriftEvent, EndReason, State};

pub(crate) use delivery::Delivery;
use episodes::Episode;
pub(crate) use event::Source;
pub(crate) use outbox::Outbox;

use crate::observer::{Change, Standing, now_unix_ms};

/// What the observer does with a change of state.
#[derive(Debug)]
pub(crate) struct Raise {
    source: Source,
    /// None when nobody is to be told.
    outbox: Option<Arc<Outbox>>,
}

impl Raise {
    pub(crate) fn new(source: Source, outbox: Option<Arc<Outbox>>) -> Self {
        Self { source, outbox }
    }

    /// Puts the change into the outbox; waits for nobody.
    pub(crate) fn change(&self, change: Change) {
        let Some(outbox) = &self.outbox else { return };
        let Change {
            state,
            started_at_unix_ms,
            standing,
        } = change;
        let at_unix_ms = standing.report.window.closed_at_unix_ms;
        let (model, profile) = (&standing.report.model, &standing.profile);
        let episode = outbox.episodes(|episodes| match state {
            State::Drift => Some(episodes.begin(model, profile, started_at_unix_ms)),
            State::Recovered | State::Stable | State::Warning => episodes.end(model, profile),
        });
        if let Some(episode) = episode {
            outbox.put(
                self.source
                    .event(data(episode, state, None, at_unix_ms, standing)),
            );
        }
    }

    /// Ends the episodes of a model that were found with other profiles than those that are compared with now, `in_use`: nothing else
    /// would. `now` is the comparison that has just begun, `before` are those that it replaces, as far as they are known.
    pub(crate) fn replaced(&self, in_use: &[String], now: &Standing, before: &[Standing]) {
        let Some(outbox) = &self.outbox else { return };
        let model = &now.report.model;
        for profile in outbox.episodes(|episodes| episodes.open_with(model)) {
            if in_use.contains(&profile) {
                continue;
            }
            let Some(episode) = outbox.episodes(|episodes| episodes.end(model, &profile)) else {
                continue;
            };
            tracing::info!(
                model.name = model,
                episode = episode.id,
                "an episode ends: its reference was replaced"
            );
            let known = before.iter().find(|standing| standing.profile == profile);
            let reason = Some(EndReason::ReferenceReplaced);
            let standing = known.unwrap_or(now).clone();
            let event = data(episode, State::Recovered, reason, now_unix_ms(), standing);
            outbox.put(self.source.event(event));
        }
    }
}

fn data(
    episode: Episode,
    state: State,
    reason: Option<EndReason>,
    at_unix_ms: i64,
    standing: Standing,
) -> DriftEvent {
    let Standing { rows, report, .. } = standing;
    DriftEvent {
        model: report.model.clone(),
        version: report.version.clone(),
        episode: episode.id,
        state,
        reason,
        started_at_unix_ms: episode.started_at_unix_ms,
        at_unix_ms,
        rows,
        report,
    }
}
