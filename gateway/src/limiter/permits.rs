//! Counts of an adaptive limit: what is in flight, what waits.
//!
//! This file is also compiled into `tests/loom_permits.rs`, where loom's atomics take the place of the standard ones.

use super::atomic::{AtomicUsize, Ordering, fence};

/// Never more than the limit in flight, except for what was there when the limit fell. Nobody waits while there is
/// room: who gives a permit back wakes someone whenever someone waits, and who waits looks again after it is counted
/// as waiting.
#[derive(Debug)]
pub(crate) struct Permits {
    limit: AtomicUsize,
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
}

impl Permits {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            in_flight: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes a permit if there is room.
    pub(crate) fn try_acquire(&self) -> bool {
        let limit = self.limit();
        let take = |in_flight: usize| (in_flight < limit).then_some(in_flight + 1);
        self.in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, take)
            .is_ok()
    }

    /// Gives a permit back. True when one of those that wait has to be woken.
    pub(crate) fn release(&self) -> bool {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.somebody_may_go()
    }

    /// Sets the limit. True when one of those that wait has to be woken; it wakes the next if there is room for more.
    pub(crate) fn set_limit(&self, limit: usize) -> bool {
        self.limit.store(limit, Ordering::Relaxed);
        self.somebody_may_go()
    }

    /// Begins to wait, if no more than `most` do. [`Self::stop_waiting`] has to follow, and [`Self::try_acquire`]
    /// before the first wait.
    pub(crate) fn start_waiting(&self, most: usize) -> bool {
        let enter = |waiting: usize| (waiting < most).then_some(waiting + 1);
        let entered = self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, enter)
            .is_ok();
        // Pairs with the fence of `somebody_may_go`: of a waiter and a releaser, one sees the other.
        fence(Ordering::SeqCst);
        entered
    }

    /// Ends to wait, with a permit or without. True when the next one has to be woken.
    pub(crate) fn stop_waiting(&self) -> bool {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        self.somebody_may_go()
    }

    fn somebody_may_go(&self) -> bool {
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::Relaxed) > 0 && self.in_flight.load(Ordering::Relaxed) < self.limit()
    }
}
