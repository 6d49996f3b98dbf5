//! Tells the analysis-worker about drift: at least once, without ever holding up the observer.
//!
//! The observer raises a change; it becomes a CloudEvent in the [`Outbox`] (on disk first, when there is a spool
//! directory), and a task of its own delivers it, however long the worker is away.

mod delivery;
mod event;
mod outbox;

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
            outbox.put(self.source.event(model, change));
        }
    }
}
