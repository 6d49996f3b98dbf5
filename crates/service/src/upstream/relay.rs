//! Wakes the task that drives a connection, except for what that task does itself.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A connection's wake-ups on their way to whoever drives it at the time.
///
/// Who takes a piece of an answer wakes the connection, so that it reads the next one. Where the same task takes and
/// drives, that is a poll of everything above it, to no purpose when the answer has ended.
#[derive(Debug)]
pub(super) struct Relay {
    driver: Mutex<Waker>,
    state: AtomicU8,
}

const OPEN: u8 = 0;
const MUTED: u8 = 1;
/// Muted, and somebody has woken it since.
const MISSED: u8 = 2;

impl Relay {
    /// Nobody drives yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            driver: Mutex::new(Waker::noop().clone()),
            state: AtomicU8::new(OPEN),
        })
    }

    /// From now on wake-ups are for the task of `context`.
    pub(super) fn lead_to(&self, context: &Context<'_>) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        driver.clone_from(context.waker());
    }

    /// Does `take`, which has no need of the wake-ups that come meanwhile, its own and others', when it says that the
    /// connection is needed no more.
    pub(super) fn without_wake_ups<T>(self: &Arc<Self>, take: impl FnOnce() -> (Poll<T>, bool)) -> Poll<T> {
        self.state.store(MUTED, Ordering::Release);
        let (taken, is_last) = take();
        let missed = self.state.swap(OPEN, Ordering::AcqRel) == MISSED;
        if missed && !is_last {
            self.wake_by_ref();
        }
        taken
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let muted = self
            .state
            .compare_exchange(MUTED, MISSED, Ordering::AcqRel, Ordering::Acquire);
        if muted == Err(OPEN) {
            let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone();
            driver.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_wake_up_is_lost_only_where_the_connection_is_needed_no_more() {
        let (relay, task) = (Relay::new(), Arc::new(Counted::default()));
        let woken = || task.0.swap(0, Ordering::Relaxed);
        relay.wake_by_ref();
        assert_eq!(woken(), 0, "nobody drives");
        relay.lead_to(&Context::from_waker(&Waker::from(Arc::clone(&task))));
        relay.wake_by_ref();
        assert_eq!(woken(), 1);
        for (is_last, expected) in [(false, 1), (true, 0)] {
            let taken = relay.without_wake_ups(|| {
                relay.wake_by_ref();
                relay.wake_by_ref();
                assert_eq!(woken(), 0, "not yet");
                (Poll::Ready(()), is_last)
            });
            assert_eq!((taken, woken()), (Poll::Ready(()), expected));
            assert!(
                relay
                    .without_wake_ups(|| (Poll::<()>::Pending, is_last))
                    .is_pending()
            );
            assert_eq!(woken(), 0, "nobody has woken it");
            relay.wake_by_ref();
            assert_eq!(woken(), 1);
        }
    }
}
