//! The timer of HTTP/1.1 heads, which costs a request next to nothing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// The timer of one connection. hyper asks for a new sleep before each head and drops it when the head has come: set
/// and taken back in tokio's timer wheel, that costs as much as parsing the head. Here all of them share one entry in
/// the wheel. It stays where it is while deadlines move on, and moves up to the latest one when it has run out.
#[derive(Clone, Debug, Default)]
pub(super) struct LazyTimer(Arc<Entry>);

/// The entry in the wheel: never later than the deadline of a sleep that is polled.
type Entry = Mutex<Option<Pin<Box<tokio::time::Sleep>>>>;

impl Timer for LazyTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(LazySleep {
            deadline,
            entry: Arc::clone(&self.0),
        })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

struct LazySleep {
    deadline: Instant,
    entry: Arc<Entry>,
}

impl Sleep for LazySleep {}

impl Future for LazySleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(self.deadline);
        // One task polls a connection: nobody else holds the lock.
        let mut entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        let sleep = entry.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_sleep_ends_at_its_own_deadline_whatever_came_before() {
        let (timer, start) = (LazyTimer::default(), tokio::time::Instant::now());
        let after = |seconds| start.into_std() + Duration::from_secs(seconds);
        // Polled and dropped, as when a head comes in time; a later one, one that nobody waits for, an earlier one.
        let unfinished = tokio::time::timeout(Duration::from_secs(1), timer.sleep_until(after(60))).await;
        assert!(unfinished.is_err());
        for seconds in [90, 91, 300] {
            drop(timer.sleep_until(after(1_000)));
            timer.sleep_until(after(seconds)).await;
            assert_eq!(start.elapsed(), Duration::from_secs(seconds));
        }
        let unfinished = tokio::time::timeout(Duration::from_secs(1), timer.sleep_until(after(900))).await;
        assert!(unfinished.is_err());
        timer.sleep(Duration::from_secs(10)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(311));
        timer.sleep_until(after(5)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(311));
    }
}
