//! Who runs when: an idle session runs a request at once; a busy model makes it wait in a bounded queue.
//!
//! A run of tens of microseconds happens in place, on the network thread: handing it over costs as much. A longer
//! one goes to a compute thread, decided by the model's measured cost. A request whose deadline has passed, or
//! whose client is gone, is dropped unrun.

mod compute;
mod cost;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub(crate) use self::compute::ComputeThreads;
pub(crate) use self::cost::Cost;

/// The sessions of one model and those who wait for them.
pub(crate) struct Scheduler<S> {
    shared: Arc<Shared<S>>,
    compute: Arc<ComputeThreads>,
    cost: Cost,
    waiting: AtomicUsize,
    max_waiting: usize,
}

/// Makes a session again after a panic took one along.
type Rebuild<S> = Box<dyn Fn() -> Result<S, String> + Send + Sync>;

struct Shared<S> {
    /// As many as there are free permits; `None` is one that has to be made again before it can run.
    idle: Mutex<Vec<Option<S>>>,
    permits: Arc<Semaphore>,
    rebuild: Rebuild<S>,
}

/// What a request may spend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    /// When it is over.
    pub(crate) at: Instant,
    /// How long it was.
    pub(crate) after: Duration,
}

impl Deadline {
    /// `after` from `start`; `None` for a time that no clock reaches.
    pub(crate) fn new(start: Instant, after: Duration) -> Option<Deadline> {
        Some(Deadline {
            at: start.checked_add(after)?,
            after,
        })
    }

    pub(crate) fn is_past(self) -> bool {
        Instant::now() >= self.at
    }
}

/// A request that was not run, or did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{limit} requests already wait")]
    Overloaded { limit: usize },
    #[error("deadline exceeded")]
    DeadlineExceeded { after: Duration },
    /// The run panicked, or its session cannot be made again; logged here.
    #[error("the run failed")]
    Failed,
}

/// A finished run.
#[derive(Debug)]
pub(crate) struct Done<T> {
    pub(crate) value: T,
    /// Time between the request and its run.
    pub(crate) queued: Duration,
    /// Time of the execution that carried the request.
    pub(crate) computed: Duration,
    /// Rows of that execution, those of other requests included.
    pub(crate) batch_rows: usize,
    /// True for exactly one request of each execution.
    pub(crate) leads: bool,
}

impl<S: Send + 'static> Scheduler<S> {
    /// `sessions` is not empty. `max_waiting` requests may wait when all are busy.
    pub(crate) fn new(
        sessions: Vec<S>,
        cost: Cost,
        max_waiting: usize,
        compute: Arc<ComputeThreads>,
        rebuild: Rebuild<S>,
    ) -> Scheduler<S> {
        let permits = Arc::new(Semaphore::new(sessions.len()));
        let idle = Mutex::new(sessions.into_iter().map(Some).collect());
        let shared = Arc::new(Shared {
            idle,
            permits,
            rebuild,
        });
        Scheduler {
            shared,
            compute,
            cost,
            waiting: AtomicUsize::new(0),
            max_waiting,
        }
    }

    /// What runs cost, as measured so far.
    pub(crate) fn cost(&self) -> &Cost {
        &self.cost
    }

    /// Runs `work` on `rows` rows with a session. Dropping the future leaves the queue; a run that has begun ends
    /// on its own, and its result is dropped.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        rows: usize,
        deadline: Option<Deadline>,
        work: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<Done<T>, Refusal> {
        let arrived = Instant::now();
        let lease = match self.shared.try_lease() {
            Some(lease) => lease,
            None => self.wait(deadline).await?,
        };
        if let Some(deadline) = deadline.filter(|deadline| deadline.is_past()) {
            return Err(Refusal::DeadlineExceeded {
                after: deadline.after,
            });
        }
        let done = if self.cost.is_short(rows) {
            lease.run(rows, arrived, work)?
        } else {
            let (reply, result) = oneshot::channel();
            self.compute.spawn(Box::new(move || {
                // A lease that is dropped goes back: nobody waits for this run any more.
                if reply.is_closed() {
                    return;
                }
                let late = deadline.filter(|deadline| deadline.is_past());
                let done = match late {
                    Some(deadline) => Err(Refusal::DeadlineExceeded {
                        after: deadline.after,
                    }),
                    None => lease.run(rows, arrived, work),
                };
                let _client_gone = reply.send(done);
            }));
            // The sender is dropped unsent only when the threads end, with the process.
            result.await.unwrap_or(Err(Refusal::Failed))?
        };
        self.cost.observe(rows, done.computed);
        Ok(done)
    }

    async fn wait(&self, deadline: Option<Deadline>) -> Result<Lease<S>, Refusal> {
        let limit = self.max_waiting;
        let _place = Place::take(&self.waiting, limit).ok_or(Refusal::Overloaded { limit })?;
        let acquire = Arc::clone(&self.shared.permits).acquire_owned();
        let permit = match deadline {
            None => acquire.await,
            Some(deadline) => tokio::time::timeout_at(deadline.at.into(), acquire)
                .await
                .map_err(|_elapsed| Refusal::DeadlineExceeded {
                    after: deadline.after,
                })?,
        };
        let permit = permit.expect("the semaphore is never closed");
        Ok(self.shared.lease(permit))
    }
}

/// A place in the queue, given back when the wait ends, however it ends.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, limit: usize) -> Option<Place<'a>> {
        // Counted first and looked at after, so that two who come together cannot both take the last place.
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(waiting);
        (before < limit).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Shared<S> {
    fn try_lease(self: &Arc<Self>) -> Option<Lease<S>> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(self.lease(permit))
    }

    fn lease(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Lease<S> {
        // A permit stands for an entry; were one missing, it would be made again like one that a panic took.
        let session = self.idle().pop().flatten();
        Lease {
            session,
            shared: Arc::clone(self),
            _permit: permit,
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Option<S>>> {
        // Pushing and popping cannot leave the vector half done.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session taken out of the pool; goes back when dropped.
struct Lease<S> {
    session: Option<S>,
    shared: Arc<Shared<S>>,
    /// Freed after the session is back: fields are dropped after `drop`.
    _permit: OwnedSemaphorePermit,
}

impl<S> Drop for Lease<S> {
    fn drop(&mut self) {
        let session = self.session.take();
        self.shared.idle().push(session);
    }
}

impl<S> Lease<S> {
    fn run<T>(
        mut self,
        rows: usize,
        arrived: Instant,
        work: impl FnOnce(&mut S) -> T,
    ) -> Result<Done<T>, Refusal> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => (self.shared.rebuild)().map_err(|error| {
                tracing::error!(%error, "a session cannot be made again");
                Refusal::Failed
            })?,
        };
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut session)));
        let computed = started.elapsed();
        let Ok(value) = outcome else {
            // The session may be half way through anything: it is dropped, and the next request makes a new one.
            tracing::error!("a run panicked; its session is replaced");
            return Err(Refusal::Failed);
        };
        self.session = Some(session);
        Ok(Done {
            value,
            queued: started.duration_since(arrived),
            computed,
            batch_rows: rows,
            leads: true,
        })
    }
}

#[cfg(test)]
mod tests;
