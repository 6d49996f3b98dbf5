//! One request on its way through the scheduler: what it asks for, and where its client waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use plumbline_inference_protocol::Tensor;

use super::{Deadline, Done, Refusal, Stop};

/// What comes of a request.
pub(super) type Answer = Result<Done, Refusal>;

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) inputs: Vec<Tensor>,
    /// Positions of the outputs that it wants.
    pub(super) outputs: Vec<usize>,
    pub(super) rows: usize,
    /// Size class of a row; see [`super::Costs`].
    pub(super) class: usize,
    /// Whether its rows may share an execution with those of others, and be split.
    pub(super) joins: bool,
    pub(super) deadline: Option<Deadline>,
    pub(super) arrived: Instant,
}

impl Job {
    /// Whether the rows of both can be one execution: the same tensors but for their number of rows.
    pub(super) fn goes_with(&self, other: &Job) -> bool {
        let alike = |(one, other): (&Tensor, &Tensor)| {
            one.shape().dimensions().get(1..) == other.shape().dimensions().get(1..)
                && one.datatype() == other.datatype()
                && one.name() == other.name()
        };
        self.joins
            && other.joins
            && self.outputs == other.outputs
            && self.inputs.len() == other.inputs.len()
            && self.inputs.iter().zip(&other.inputs).all(alike)
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline.at)
    }
}

/// A job and where its client waits; a client that runs its job itself does not wait.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) job: Job,
    pub(super) slot: Option<Arc<Slot>>,
}

impl Entry {
    /// Hands the answer over; one that nobody waits for is dropped.
    pub(super) fn answer(self, answer: Answer) {
        if let Some(slot) = self.slot {
            slot.put(answer);
        }
    }

    /// Whether somebody still waits for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.slot.as_ref().is_none_or(|slot| !slot.lock().is_gone)
    }
}

/// Where a client waits for its answer.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    answer: Option<Answer>,
    waker: Option<Waker>,
    /// Set when the job leaves the queue for a compute thread.
    execution: Option<Arc<Execution>>,
    is_gone: bool,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic happens under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, answer: Answer) {
        let waker = {
            let mut inner = self.lock();
            if inner.is_gone {
                return;
            }
            inner.answer = Some(answer);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Answer> {
        let mut inner = self.lock();
        if let Some(answer) = inner.answer.take() {
            return Poll::Ready(answer);
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn carried_by(&self, execution: &Arc<Execution>) {
        self.lock().execution = Some(Arc::clone(execution));
    }

    /// The client is gone. An execution that nobody waits for any more is ended.
    pub(super) fn leave(&self) {
        let execution = {
            let mut inner = self.lock();
            inner.is_gone = true;
            inner.answer = None;
            inner.execution.take()
        };
        if let Some(execution) = execution {
            execution.leave();
        }
    }
}

/// A run on a compute thread, and those who wait for it.
#[derive(Debug)]
pub(super) struct Execution {
    waiting: AtomicUsize,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    /// Ends the run that is going on.
    stop: Option<Arc<dyn Stop>>,
    was_stopped: bool,
}

impl Execution {
    pub(super) fn new(waiting: usize) -> Arc<Execution> {
        Arc::new(Execution {
            waiting: AtomicUsize::new(waiting),
            running: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.stop();
        }
    }

    /// As if all had left.
    pub(super) fn end(&self) {
        self.waiting.store(0, Ordering::Release);
        self.stop();
    }

    /// Whether all have left, or it was ended for them.
    pub(super) fn is_ended(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    fn stop(&self) {
        let mut running = self.lock();
        if let Some(stop) = &running.stop {
            stop.stop();
            running.was_stopped = true;
        }
    }

    /// `run`, which `stop` ends when nobody waits any more; `None` if that is so already.
    pub(super) fn run<T>(&self, stop: Arc<dyn Stop>, run: impl FnOnce() -> T) -> Option<T> {
        {
            // The lock orders this with `leave`: it either sees the means to stop, or is seen here.
            let mut running = self.lock();
            if self.is_ended() {
                return None;
            }
            running.stop = Some(stop);
        }
        let outcome = run();
        let mut running = self.lock();
        let stop = running.stop.take();
        if std::mem::take(&mut running.was_stopped)
            && let Some(stop) = stop
        {
            stop.reset();
        }
        Some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[derive(Debug, Default)]
    struct Counted {
        stopped: AtomicU32,
        reset: AtomicU32,
    }

    impl Stop for Counted {
        fn stop(&self) {
            self.stopped.fetch_add(1, Ordering::Relaxed);
        }

        fn reset(&self) {
            self.reset.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_run_is_stopped_when_the_last_client_leaves_and_its_session_is_made_usable_again() {
        let (execution, counted) = (Execution::new(2), Arc::new(Counted::default()));
        let (one, two) = (Slot::default(), Slot::default());
        one.carried_by(&execution);
        two.carried_by(&execution);
        let stopped = || counted.stopped.load(Ordering::Relaxed);
        execution.run(Arc::clone(&counted) as _, || {
            one.leave();
            one.leave();
            assert_eq!(stopped(), 0);
            two.leave();
            assert_eq!(stopped(), 1);
        });
        assert_eq!(counted.reset.load(Ordering::Relaxed), 1);
        // Nobody waits: another run of it does not begin, and what was ended is not ended again.
        assert_eq!(execution.run(Arc::clone(&counted) as _, || ()), None);
        assert_eq!(stopped(), 1);
    }

    #[test]
    fn a_client_that_leaves_after_its_run_stops_nothing() {
        let (execution, counted) = (Execution::new(1), Arc::new(Counted::default()));
        let slot = Slot::default();
        slot.carried_by(&execution);
        assert_eq!(execution.run(Arc::clone(&counted) as _, || 7), Some(7));
        slot.leave();
        assert_eq!(counted.stopped.load(Ordering::Relaxed), 0);
    }
}
