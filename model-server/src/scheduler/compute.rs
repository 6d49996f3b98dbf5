//! Threads for runs that are too long for the network threads.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::in_place::Watch;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and their queue, which holds no more jobs than there are sessions: each job has one.
/// The threads end when this is dropped and the queue is empty.
pub(crate) struct ComputeThreads {
    queue: Arc<Queue>,
    count: usize,
    /// What runs elsewhere: on network threads.
    watch: Arc<Watch>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl ComputeThreads {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// The operating system's, when it has no thread to give.
    pub(crate) fn start(count: NonZeroUsize) -> std::io::Result<ComputeThreads> {
        let threads = ComputeThreads {
            queue: Arc::default(),
            count: count.get(),
            watch: Arc::default(),
        };
        for index in 0..count.get() {
            let queue = Arc::clone(&threads.queue);
            let thread = std::thread::Builder::new().name(format!("compute-{index}"));
            thread.spawn(move || queue.work())?;
        }
        let watch = Arc::clone(&threads.watch);
        let thread = std::thread::Builder::new().name("watch".to_owned());
        thread.spawn(move || watch.watch())?;
        Ok(threads)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The runs of all models that hold a network thread instead.
    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Queues `job`.
    pub(crate) fn spawn(&self, job: Job) {
        self.queue.lock().jobs.push_back(job);
        self.queue.changed.notify_one();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs run outside the lock, so that no panic can leave the queue half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // Runs catch their own panics; this one keeps the thread if anything around them fails.
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a job of a compute thread panicked");
                }
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Drop for ComputeThreads {
    fn drop(&mut self) {
        // Not waited for: an idle thread ends at once, and a run that outlasted the drain must not hold the process.
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        self.watch.finish();
    }
}
