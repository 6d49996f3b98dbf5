//! The queue between the request path and the observer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;

use crate::observation::Observation;

/// Exchanges that have been answered and wait to be observed; their bytes are bounded where they are kept.
///
/// Offering takes a lock for as long as a push takes. It wakes nobody: the observer looks by itself, and takes everything
/// at once.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    max_items: usize,
    items: IntGauge,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Box<Observation>>,
    /// Those that the observer took last.
    taken: usize,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(max_items: usize, items: IntGauge) -> Self {
        Self {
            state: Mutex::default(),
            max_items,
            items,
        }
    }

    /// Leaves `exchange` for the observer.
    ///
    /// # Errors
    /// The exchange itself, when there is no room for it or the queue is closed.
    pub(crate) fn offer(&self, exchange: Box<Observation>) -> Result<(), Box<Observation>> {
        let mut state = self.lock();
        if state.waiting.len() + state.taken >= self.max_items || state.closed {
            return Err(exchange);
        }
        state.waiting.push_back(exchange);
        self.items.set(state.waiting.len() as i64);
        Ok(())
    }

    /// Moves everything that waits into `batch`, which the observer is done with; false when nothing will come any more.
    pub(super) fn take(&self, batch: &mut VecDeque<Box<Observation>>) -> bool {
        let mut state = self.lock();
        std::mem::swap(&mut state.waiting, batch);
        state.taken = batch.len();
        self.items.set(0);
        !(batch.is_empty() && state.closed)
    }

    /// Refuses new exchanges; the ones that wait are still taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between a lock and its release can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::tests::exchange;

    fn queue(max_items: usize) -> Queue {
        Queue::new(
            max_items,
            IntGauge::new("items", "for the test").expect("a valid gauge"),
        )
    }

    #[test]
    fn what_waits_and_what_was_taken_stay_within_the_bound() {
        let queue = queue(2);
        assert!(queue.offer(exchange()).is_ok());
        assert!(queue.offer(exchange()).is_ok());
        assert!(queue.offer(exchange()).is_err());
        let mut batch = VecDeque::new();
        assert_eq!(queue.items.get(), 2);
        assert!(queue.take(&mut batch));
        assert_eq!((batch.len(), queue.items.get()), (2, 0));
        assert!(
            queue.offer(exchange()).is_err(),
            "the observer is not done with them"
        );
        batch.clear();
        assert!(queue.take(&mut batch));
        assert!(queue.offer(exchange()).is_ok());
    }

    #[test]
    fn a_closed_queue_refuses_but_gives_what_it_has() {
        let queue = queue(10);
        assert!(queue.offer(exchange()).is_ok());
        queue.close();
        assert!(queue.offer(exchange()).is_err());
        let mut batch = VecDeque::new();
        assert!(queue.take(&mut batch));
        assert_eq!(batch.len(), 1);
        batch.clear();
        assert!(!queue.take(&mut batch));
    }
}
