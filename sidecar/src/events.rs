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

pub(crate) use delivery::{Delivery, endpoint};
pub(crate) use event::Source;
pub(crate) use outbox::Outbox;

use crate::models::Model;
use crate::observer::Change;

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
    pub(crate) fn change(&self, model: &Model, change: Change) {
        if let Some(outbox) = &self.outbox {
            let episode = outbox.episode(
                &model.name,
                &change.profile,
                change.state,
                change.started_at_unix_ms,
            );
            outbox.put(self.source.event(model, change, episode));
        }
    }
}
