//! How many requests a revision gets at once: found by measuring, with a short queue before the refusal.

mod gradient;
mod permits;

use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::metrics::RevisionMetrics;
use gradient::{Gradient, Window};
use permits::Permits;

pub(crate) use gradient::Bounds;

/// The limit before the first window. Source: Netflix's gradient2 limit (`initialLimit`).
const INITIAL_LIMIT: usize = 20;
/// A window is closed after this time, once it has this many good answers.
const WINDOW: Duration = Duration::from_millis(100);
const MIN_ANSWERS: u64 = 10;
/// The longest that a request waits for a permit, and how long when the queue has not been empty for that time: a queue
/// that stands only adds latency. Source: `CoDel` as Facebook has it (Maurer 2015, *Fail at Scale*): 100 ms, 5 ms.
const MAX_WAIT: Duration = Duration::from_millis(100);
const WAIT_IN_STANDING_QUEUE: Duration = Duration::from_millis(5);

/// The adaptive limit of one revision.
#[derive(Debug)]
pub(crate) struct Limiter {
    permits: Permits,
    freed: Notify,
    /// Since when the queue has not been empty, in nanoseconds after `born`; 0 while it is.
    standing_since: AtomicU64,
    window: OpenWindow,
    /// Bits of the `f64`s of [`Gradient`].
    limit: AtomicU64,
    unloaded: AtomicU64,
    born: Instant,
    shown: IntGauge,
    shed: IntCounter,
}

/// What has been seen of the window so far. Answers that come while it is closed may fall on either side.
#[derive(Debug, Default)]
struct OpenWindow {
    began: AtomicU64,
    nanoseconds: AtomicU64,
    good: AtomicU64,
    full: AtomicU64,
    peak: AtomicUsize,
}

/// A refusal, and the limit that was the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) limit: usize,
}

impl Limiter {
    pub(crate) fn new(metrics: &RevisionMetrics, shed: IntCounter) -> Self {
        Self {
            permits: Permits::new(INITIAL_LIMIT),
            freed: Notify::new(),
            standing_since: AtomicU64::new(0),
            window: OpenWindow::default(),
            limit: AtomicU64::new((INITIAL_LIMIT as f64).to_bits()),
            unloaded: AtomicU64::new(0),
            born: Instant::now(),
            shown: metrics.concurrency_limit.clone(),
            shed,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.permits.limit()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.permits.in_flight()
    }

    /// A permit, at once or after a short wait. Dropping the future gives up the place in the queue.
    ///
    /// # Errors
    /// [`Full`]: no room in time, or none in the queue.
    pub(crate) async fn acquire(self: &Arc<Self>, bounds: Bounds) -> Result<Permit, Full> {
        let limit = self.permits.limit();
        if limit != limit.clamp(bounds.min, bounds.max) {
            // The settings have changed.
            self.set_limit((limit as f64).clamp(bounds.min as f64, bounds.max as f64));
        }
        // Nobody overtakes those that wait.
        if self.permits.waiting() == 0 && self.permits.try_acquire() {
            return Ok(self.permit());
        }
        let acquired = self.wait(Instant::now()).await;
        if !acquired {
            self.shed.inc();
            return Err(Full {
                limit: self.permits.limit(),
            });
        }
        Ok(self.permit())
    }

    /// Waits in the queue, which is as long as the limit: more than that would not get their turn in time.
    async fn wait(&self, now: Instant) -> bool {
        if !self.permits.start_waiting(self.permits.limit()) {
            return false;
        }
        let place = Place(self);
        let until = now + self.patience(now);
        let acquired = async {
            loop {
                let freed = self.freed.notified();
                let mut freed = std::pin::pin!(freed);
                freed.as_mut().enable();
                if self.permits.try_acquire() {
                    return;
                }
                freed.await;
            }
        };
        let acquired = timeout_at(until, acquired).await.is_ok();
        drop(place);
        acquired
    }

    /// How long a request that begins to wait now may wait.
    fn patience(&self, now: Instant) -> Duration {
        let now = (now - self.born).as_nanos() as u64;
        match self.standing_since.load(Ordering::Relaxed) {
            0 => {
                self.standing_since.store(now.max(1), Ordering::Relaxed);
                MAX_WAIT
            }
            since if now.saturating_sub(since) > MAX_WAIT.as_nanos() as u64 => WAIT_IN_STANDING_QUEUE,
            _ => MAX_WAIT,
        }
    }

    fn permit(self: &Arc<Self>) -> Permit {
        Permit(Arc::clone(self))
    }

    /// A request that had a permit was answered well after `took`.
    pub(crate) fn answered(&self, took: Duration, now: Instant, bounds: Bounds) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.window.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        self.window.good.fetch_add(1, Ordering::Relaxed);
        let in_flight = self.permits.in_flight();
        if in_flight > self.window.peak.load(Ordering::Relaxed) {
            self.window.peak.store(in_flight, Ordering::Relaxed);
        }
        self.close_window(now, bounds);
    }

    /// A request that had a permit was refused by an endpoint that is full.
    pub(crate) fn refused(&self, now: Instant, bounds: Bounds) {
        self.window.full.fetch_add(1, Ordering::Relaxed);
        self.close_window(now, bounds);
    }

    fn close_window(&self, now: Instant, bounds: Bounds) {
        let window = &self.window;
        let now = (now - self.born).as_nanos() as u64;
        let began = window.began.load(Ordering::Relaxed);
        let (good, full) = (
            window.good.load(Ordering::Relaxed),
            window.full.load(Ordering::Relaxed),
        );
        if now.saturating_sub(began) < WINDOW.as_nanos() as u64 || good + full < MIN_ANSWERS {
            return;
        }
        // Whoever moves the beginning closes the window.
        let mine = window
            .began
            .compare_exchange(began, now, Ordering::Relaxed, Ordering::Relaxed);
        if mine.is_err() {
            return;
        }
        let good = window.good.swap(0, Ordering::Relaxed);
        let full = window.full.swap(0, Ordering::Relaxed);
        let nanoseconds = window.nanoseconds.swap(0, Ordering::Relaxed);
        let peak = window.peak.swap(0, Ordering::Relaxed);
        let unloaded = f64::from_bits(self.unloaded.load(Ordering::Relaxed));
        let before = Gradient {
            limit: f64::from_bits(self.limit.load(Ordering::Relaxed)),
            unloaded: (unloaded > 0.0).then_some(unloaded),
        };
        let latency = match nanoseconds.checked_div(good) {
            Some(mean) => Duration::from_nanos(mean),
            // Refusals only: they say nothing of latency.
            None => Duration::from_secs_f64(unloaded),
        };
        let seen = Window {
            latency,
            peak,
            answers: good + full,
            full,
        };
        let after = before.after(&seen, bounds);
        let unloaded = if good == 0 {
            unloaded
        } else {
            after.unloaded.unwrap_or(unloaded)
        };
        self.unloaded.store(unloaded.to_bits(), Ordering::Relaxed);
        self.set_limit(after.limit);
    }

    fn set_limit(&self, limit: f64) {
        self.limit.store(limit.to_bits(), Ordering::Relaxed);
        let limit = (limit.round() as usize).max(1);
        self.shown.set(limit as i64);
        if self.permits.set_limit(limit) {
            self.freed.notify_one();
        }
    }
}

/// A place in the queue, until dropped.
struct Place<'a>(&'a Limiter);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.0.permits.stop_waiting() {
            self.0.freed.notify_one();
        }
        if self.0.permits.waiting() == 0 {
            self.0.standing_since.store(0, Ordering::Relaxed);
        }
    }
}

/// One request in flight, until dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Limiter>);

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.permits.release() {
            self.0.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
