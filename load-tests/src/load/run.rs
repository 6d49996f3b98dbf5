//! One thread of a load: its connections, its share of the schedule, its counts.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{JoinSet, yield_now};

use super::{Plan, Wait};
use crate::client::{Answer, Client};
use crate::schedule::{Arrivals, Schedule};
use crate::tally::{Fault, LATE, Outcome, Tally};
use crate::verdict::{FirstAnswers, judge};

/// tokio's timer is this coarse; the rest of a wait is spun.
const TIMER: Duration = Duration::from_millis(2);

/// Requests that are due and wait for a connection, at most: 24 MB. More are counted as unsent.
const MAX_BACKLOG: usize = 1 << 20;

/// Pause after a connection could not be made.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// Words of a failed answer that are kept.
const EXAMPLE_BYTES: usize = 300;

/// What the connections of a thread share.
struct Thread {
    plan: Plan,
    first: Arc<FirstAnswers>,
    tally: Mutex<Tally>,
    /// Requests that may still be sent.
    left: AtomicI64,
    /// The next of the plan's requests.
    next: AtomicUsize,
    start: Instant,
    backlog: Mutex<Backlog>,
    arrived: Notify,
}

/// Requests that are due and not sent.
#[derive(Default)]
struct Backlog {
    waiting: VecDeque<Due>,
    /// No more will come.
    closed: bool,
}

#[derive(Clone, Copy)]
struct Due {
    at: Instant,
    /// The generator noticed too late.
    late: bool,
}

/// Runs the share of thread `index`: waits on `ready` when its connections are made, and again for `start`.
pub(super) fn thread(
    plan: &Plan,
    index: usize,
    first: &Arc<FirstAnswers>,
    ready: &Barrier,
    start: &OnceLock<Instant>,
) -> anyhow::Result<Tally> {
    // Every so-manieth connection is this thread's.
    let mut clients: Vec<Client> = (index..plan.connections)
        .step_by(plan.threads)
        .map(|number| Client::new(Arc::clone(&plan.targets), plan.transport.clone(), number))
        .collect();
    let connected = connect(&mut clients);
    // Everybody waits twice, whatever went wrong, or the others would wait for ever.
    ready.wait();
    ready.wait();
    let runtime = connected?;
    let share = clients.len() as f64 / plan.connections as f64;
    let left = plan.count.map_or(i64::MAX, |count| {
        let (threads, index) = (plan.threads as u64, index as u64);
        (count / threads + u64::from(index < count % threads)) as i64
    });
    let thread = Arc::new(Thread {
        plan: plan.clone(),
        first: Arc::clone(first),
        tally: Mutex::default(),
        left: AtomicI64::new(left),
        next: AtomicUsize::new(index),
        start: start.get().copied().unwrap_or_else(Instant::now),
        backlog: Mutex::default(),
        arrived: Notify::new(),
    });
    let seed = plan.seed.wrapping_add(index as u64);
    let schedule = Schedule::new(plan.arrivals.share(share), seed);
    runtime.block_on(thread.work(clients, schedule));
    // The tasks that held it have ended.
    let tally = std::mem::take(&mut *thread.tally());
    Ok(tally)
}

fn connect(clients: &mut [Client]) -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for client in clients {
            client.connect().await?;
        }
        Ok::<_, Fault>(())
    })?;
    Ok(runtime)
}

impl Thread {
    /// Sends what is due and waits for the answers, a bounded time.
    async fn work(self: &Arc<Self>, clients: Vec<Client>, schedule: Schedule) {
        let mut connections = JoinSet::new();
        for client in clients {
            let thread = Arc::clone(self);
            connections.spawn(async move {
                match thread.plan.arrivals {
                    Arrivals::Closed => thread.closed(client).await,
                    Arrivals::Constant(_) | Arrivals::Poisson(_) => thread.open(client).await,
                }
            });
        }
        let mut end = self.end();
        if self.plan.arrivals != Arrivals::Closed {
            self.dispatch(schedule).await;
            end = end.min(Instant::now());
        }
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout_at((end + self.plan.timeout).into(), all)
            .await
            .is_err()
        {
            // In a run that was to end, a connection that is still busy waits for an answer.
            let busy = connections.len() as u64;
            connections.shutdown().await;
            let unsent = self.backlog().waiting.len() as u64;
            let mut tally = self.tally();
            tally.fault(Fault::Unanswered, busy);
            tally.fault(Fault::Unsent, unsent);
        }
    }

    /// One connection of a closed loop.
    async fn closed(&self, mut client: Client) {
        while Instant::now() < self.end() && self.take() {
            let now = Instant::now();
            self.send(&mut client, now).await;
        }
        self.leave(&client);
    }

    /// One connection of an open loop: sends what is due and no other connection has taken.
    async fn open(&self, mut client: Client) {
        loop {
            let (due, closed) = {
                let mut backlog = self.backlog();
                (backlog.waiting.pop_front(), backlog.closed)
            };
            let Some(due) = due else {
                if closed {
                    break;
                }
                // Nothing can arrive in between: the thread has one task at a time.
                self.arrived.notified().await;
                continue;
            };
            if self.is_recorded(due.at) && !due.late && due.at.elapsed() > LATE {
                self.tally().waited += 1;
            }
            self.send(&mut client, due.at).await;
        }
        self.leave(&client);
    }

    /// Puts requests into the backlog when they are due, until the end.
    async fn dispatch(&self, schedule: Schedule) {
        for after in schedule {
            let at = self.start + after;
            if at >= self.end() || self.plan.stop.load(Ordering::Relaxed) || !self.take() {
                break;
            }
            loop {
                let early = at.saturating_duration_since(Instant::now());
                if early.is_zero() {
                    break;
                }
                match early.checked_sub(TIMER) {
                    _ if self.plan.wait == Wait::Sleep => tokio::time::sleep(early).await,
                    Some(long) if long > TIMER => tokio::time::sleep(long).await,
                    // Lets the connections run and looks for answers.
                    _ => yield_now().await,
                }
            }
            let lag = at.elapsed();
            let late = lag > LATE;
            if self.is_recorded(at) {
                let mut tally = self.tally();
                tally.due += 1;
                tally.late += u64::from(late);
                tally.latest = tally.latest.max(lag);
            }
            self.push(Due { at, late });
            if lag > TIMER {
                // Behind: the answers would otherwise wait until the schedule is met.
                yield_now().await;
            }
        }
        self.backlog().closed = true;
        self.arrived.notify_waiters();
    }

    fn push(&self, due: Due) {
        let mut backlog = self.backlog();
        if backlog.waiting.len() < MAX_BACKLOG {
            backlog.waiting.push_back(due);
            self.arrived.notify_one();
        } else {
            self.tally().fault(Fault::Unsent, 1);
        }
    }

    /// Sends the next request; its time counts from `since`.
    async fn send(&self, client: &mut Client, since: Instant) {
        let plan = &self.plan;
        let index = self.next.fetch_add(plan.threads, Ordering::Relaxed) % plan.requests.len();
        let request = &plan.requests[index];
        let judged = |answer: &Answer<'_>| {
            let outcome = judge(answer, request.encoding, index, plan.expect, &self.first);
            if let Outcome::Failed(fault) = outcome {
                let words = &answer.body[..answer.body.len().min(EXAMPLE_BYTES)];
                self.tally()
                    .example(|| format!("{fault}: {}", String::from_utf8_lossy(words)));
            }
            outcome
        };
        let outcome = client.call(request, judged).await.unwrap_or_else(Outcome::Failed);
        let done = Instant::now();
        self.tally()
            .record(outcome, since, done, !self.is_recorded(since));
        if outcome == Outcome::Failed(Fault::Connect) {
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    fn leave(&self, client: &Client) {
        self.tally().reconnects += client.made().saturating_sub(1);
    }

    /// Whether one more request may be sent.
    fn take(&self) -> bool {
        self.left.fetch_sub(1, Ordering::Relaxed) > 0
    }

    fn end(&self) -> Instant {
        self.start + self.plan.warm_up + self.plan.duration
    }

    fn is_recorded(&self, since: Instant) -> bool {
        since >= self.start + self.plan.warm_up
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
