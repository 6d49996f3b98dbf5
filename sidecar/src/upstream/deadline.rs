//! Deadlines of answers, which cost an exchange next to nothing.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// Timers that are used again. Set and taken back for each exchange in tokio's timer wheel, a timer costs as much as
/// parsing a head. Here its entry stays where it is while deadlines move on, and moves up to the latest one when it has
/// run out.
#[derive(Debug, Default)]
pub(super) struct Timers(Mutex<Vec<Pin<Box<Sleep>>>>);

impl Timers {
    /// A timer for one exchange.
    pub(super) fn take(&self) -> Timer<'_> {
        Timer {
            entry: self.lock().pop(),
            timers: self,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Pin<Box<Sleep>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A timer in use; it goes back when dropped.
#[derive(Debug)]
pub(super) struct Timer<'a> {
    entry: Option<Pin<Box<Sleep>>>,
    timers: &'a Timers,
}

impl Timer<'_> {
    /// Ready once `deadline` has passed.
    pub(super) fn poll_until(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let new = || Box::pin(tokio::time::sleep_until(deadline));
        let entry = self.entry.get_or_insert_with(new);
        if entry.deadline() > deadline {
            entry.as_mut().reset(deadline);
        }
        loop {
            ready!(entry.as_mut().poll(context));
            if entry.deadline() >= deadline {
                return Poll::Ready(());
            }
            entry.as_mut().reset(deadline);
        }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.timers.lock().push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_ends_at_its_own_deadline_whatever_it_was_used_for_before() {
        let (timers, start) = (Timers::default(), Instant::now());
        for seconds in [60, 90, 300, 301] {
            // Polled once and given back, as when an answer comes in time.
            let far = start + Duration::from_secs(1_000);
            let polled = std::future::poll_fn(|context| Poll::Ready(timers.take().poll_until(far, context)));
            assert!(polled.await.is_pending());
            let mut timer = timers.take();
            let deadline = start + Duration::from_secs(seconds);
            std::future::poll_fn(|context| timer.poll_until(deadline, context)).await;
            assert_eq!(start.elapsed(), Duration::from_secs(seconds));
        }
        assert_eq!(timers.lock().len(), 1, "one timer served all of them");
    }
}
