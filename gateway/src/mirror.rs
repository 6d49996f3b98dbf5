//! Copies of requests, whose answers no client sees.
//!
//! A [`Tee`] rides with a request's body and keeps its frames, which are counted references; when the whole body has been sent on, the
//! copy goes to the mirror from a task of its own. Whatever is over the budget is dropped and counted: a mirror never
//! delays or fails a request. With `compare`, a [`Capture`] keeps the client's answer, and [`compare`] looks at both.

mod capture;
mod compare;
mod task;
mod tee;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::request::Parts;

use crate::call::Family;
use crate::config::MirrorSpec;
use crate::endpoint::Endpoints;
use crate::metrics::MirrorMetrics;

pub(crate) use capture::{Capture, Captured};
pub(crate) use tee::Tee;

/// Where a route's copies go, and what they may cost.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) spec: MirrorSpec,
    pub(crate) endpoints: Endpoints,
    pub(crate) state: Arc<MirrorState>,
}

/// What a mirror remembers, kept when routes change: copies that are on their way count against the budget that it has
/// from then on.
#[derive(Debug)]
pub(crate) struct MirrorState {
    metrics: MirrorMetrics,
    turn: AtomicU64,
    in_flight: AtomicUsize,
    bytes: AtomicU64,
}

impl MirrorState {
    pub(crate) fn new(metrics: MirrorMetrics) -> Self {
        Self {
            metrics,
            turn: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Mirror {
    pub(crate) fn new(spec: MirrorSpec, endpoints: Endpoints, state: Arc<MirrorState>) -> Self {
        Self {
            spec,
            endpoints,
            state,
        }
    }

    /// Whether it is this request's turn to be copied: every one of `1 / share`, evenly.
    fn is_turn(&self) -> bool {
        let share = u64::from(self.spec.share.millionths());
        let before = self.state.turn.fetch_add(share, Ordering::Relaxed) % 1_000_000;
        before + share >= 1_000_000
    }

    /// Begins a copy of a request if it is its turn and the budget allows it. `head` is asked for only then.
    pub(crate) fn begin(
        self: &Arc<Self>,
        family: Family,
        timeout: Duration,
        expected_bytes: u64,
        head: impl FnOnce() -> Parts,
    ) -> Option<(Box<Tee>, Option<Capture>)> {
        if !self.is_turn() {
            return None;
        }
        let Some(slot) = Slot::take(self) else {
            self.state.metrics.dropped_in_flight.inc();
            return None;
        };
        if expected_bytes > self.spec.max_bytes.0 {
            self.state.metrics.dropped_bytes.inc();
            return None;
        }
        let slot = Arc::new(slot);
        let (capture, answer) = if self.spec.compare {
            let (capture, answer) = capture::pair(family, Arc::clone(&slot));
            (Some(capture), Some(answer))
        } else {
            (None, None)
        };
        let copy = task::Copy {
            slot,
            head: head(),
            family,
            timeout,
            answer,
        };
        Some((Box::new(Tee::new(copy)), capture))
    }
}

/// The place of one copy in the budget, with the bytes that it holds; given back when it is dropped.
#[derive(Debug)]
struct Slot {
    mirror: Arc<Mirror>,
    bytes: AtomicU64,
}

impl Slot {
    fn take(mirror: &Arc<Mirror>) -> Option<Self> {
        let slot = Self {
            mirror: Arc::clone(mirror),
            bytes: AtomicU64::new(0),
        };
        // Dropped again when it is one too many.
        let before = mirror.state.in_flight.fetch_add(1, Ordering::Relaxed);
        (before < mirror.spec.max_in_flight.get()).then_some(slot)
    }

    fn metrics(&self) -> &MirrorMetrics {
        &self.mirror.state.metrics
    }

    /// Whether the budget has room for this many bytes more; if so, they are held.
    fn hold(&self, bytes: usize) -> bool {
        let (bytes, limit) = (bytes as u64, self.mirror.spec.max_bytes.0);
        let all = &self.mirror.state.bytes;
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > limit {
            all.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let held = *self.bytes.get_mut();
        self.mirror.state.bytes.fetch_sub(held, Ordering::Relaxed);
        self.mirror.state.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
