//! The queue between the request path and the observer, bounded in items and in bytes.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;

use super::Exchange;

/// Exchanges that have been answered and wait to be observed.
///
/// Offering takes a lock for as long as a push takes and never waits for the observer, which takes everything at once.
/// The observer is woken only when it sleeps; after a batch it first rests for a moment, so that a busy sidecar does not
/// pay for a wake-up per request.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    max_items: usize,
    max_bytes: usize,
    items: IntGauge,
    bytes: IntGauge,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Exchange>,
    bytes: usize,
    observer_sleeps: bool,
    closed: bool,
}

/// What the observer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Some exchanges, or the time is up.
    Batch,
    /// Nothing is left and nothing will come.
    Closed,
}

impl Queue {
    pub(crate) fn new(max_items: usize, max_bytes: usize, items: IntGauge, bytes: IntGauge) -> Self {
        let (state, arrived) = (Mutex::default(), Condvar::new());
        Self {
            state,
            arrived,
            max_items,
            max_bytes,
            items,
            bytes,
        }
    }

    /// Leaves `exchange` for the observer.
    ///
    /// # Errors
    /// The exchange itself, when there is no room for it or the queue is closed.
    #[expect(
        clippy::result_large_err,
        reason = "moved once, and boxing would cost an allocation per request"
    )]
    pub(crate) fn offer(&self, exchange: Exchange) -> Result<(), Exchange> {
        let size = exchange.bytes();
        let mut state = self.lock();
        let full = state.waiting.len() >= self.max_items || state.bytes + size > self.max_bytes;
        if full || state.closed {
            return Err(exchange);
        }
        state.bytes += size;
        state.waiting.push(exchange);
        let wake = std::mem::take(&mut state.observer_sleeps);
        self.show(&state);
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Moves everything that waits into `batch`, which must be empty; sleeps up to `patience` when nothing does.
    pub(super) fn take(&self, batch: &mut Vec<Exchange>, patience: Duration) -> Taken {
        let mut state = self.lock();
        if state.waiting.is_empty() && !state.closed {
            state.observer_sleeps = true;
            let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
            state = self
                .arrived
                .wait_timeout_while(state, patience, idle)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.observer_sleeps = false;
        }
        std::mem::swap(&mut state.waiting, batch);
        state.bytes = 0;
        self.show(&state);
        if batch.is_empty() && state.closed {
            Taken::Closed
        } else {
            Taken::Batch
        }
    }

    /// Refuses new exchanges; the ones that wait are still taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    fn show(&self, state: &State) {
        self.items.set(state.waiting.len() as i64);
        self.bytes.set(state.bytes as i64);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing between a lock and its release can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::observer::tests::exchange;

    const NO_PATIENCE: Duration = Duration::ZERO;

    fn queue(max_items: usize, max_bytes: usize) -> Queue {
        let gauge = |name| IntGauge::new(name, "for the test").expect("a valid gauge");
        Queue::new(max_items, max_bytes, gauge("items"), gauge("bytes"))
    }

    fn of_bytes(bytes: usize) -> Exchange {
        exchange(Bytes::from(vec![0; bytes]), Bytes::new())
    }

    #[test]
    fn both_bounds_hold_and_taking_makes_room() {
        let queue = queue(2, 100);
        assert!(queue.offer(of_bytes(60)).is_ok());
        assert!(queue.offer(of_bytes(60)).is_err(), "bytes");
        assert!(queue.offer(of_bytes(40)).is_ok());
        assert!(queue.offer(of_bytes(0)).is_err(), "items");
        assert_eq!((queue.items.get(), queue.bytes.get()), (2, 100));
        let mut batch = Vec::new();
        assert_eq!(queue.take(&mut batch, NO_PATIENCE), Taken::Batch);
        assert_eq!(batch.len(), 2);
        assert!(queue.offer(of_bytes(100)).is_ok());
    }

    #[test]
    fn a_closed_queue_refuses_but_gives_what_it_has() {
        let queue = queue(10, 100);
        assert!(queue.offer(of_bytes(1)).is_ok());
        queue.close();
        assert!(queue.offer(of_bytes(1)).is_err());
        let mut batch = Vec::new();
        assert_eq!(queue.take(&mut batch, NO_PATIENCE), Taken::Batch);
        assert_eq!(batch.len(), 1);
        batch.clear();
        assert_eq!(queue.take(&mut batch, Duration::MAX), Taken::Closed);
    }

    #[test]
    fn a_sleeping_observer_is_woken() {
        let queue = Arc::new(queue(10, 100));
        let observer = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                let mut batch = Vec::new();
                // Long enough to fail the test by its time limit, should nobody wake it.
                queue.take(&mut batch, Duration::from_hours(1));
                batch.len()
            }
        });
        assert!(queue.offer(of_bytes(1)).is_ok());
        assert_eq!(observer.join().expect("no panic"), 1);
    }
}
