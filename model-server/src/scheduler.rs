//! Who runs when: an idle session runs a request at once; a busy model makes it wait in a bounded queue.
//!
//! A run of tens of microseconds happens in place, on the network thread: handing it over costs as much. A longer
//! one goes to a compute thread, decided by the model's measured cost ([`curve`], [`in_place`]). Compute threads are
//! shared: after an execution a session goes to the back of the line, so that one busy model does not starve another.
//! Requests become one execution when they queue ([`queue`]) or arrive at the same time ([`gather`]), up to the rows
//! that pay; nobody waits for a request that is not there. One large request is split over idle sessions. A request
//! whose deadline has passed, or whose client is gone, is dropped unrun; a run that nobody waits for any more is ended.

mod compute;
mod costs;
mod curve;
mod execute;
mod gather;
mod in_place;
mod job;
mod queue;
mod split;
mod waiting;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plumbline_inference_protocol::Tensor;

pub(crate) use self::compute::ComputeThreads;
pub(crate) use self::costs::Costs;
pub(crate) use self::curve::Curve;
use self::gather::{Appetite, Gather, Gathers, Joined, Size};
use self::in_place::{SHORT, SHORT_BATCH, Trust};
use self::job::{Answer, Entry, Execution, Job, Slot};
use self::queue::{Key, Queue};
pub(crate) use self::waiting::Running;
use self::waiting::Waiting;
use crate::session::RunError;

/// What runs requests: a session of a model.
pub(crate) trait Runner: Send + 'static {
    /// Runs once. `outputs` are positions among the model's outputs; the reply has them in that order.
    ///
    /// # Errors
    /// [`RunError`]; it can run again after one.
    fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError>;

    /// The means to end a run from another thread.
    fn stop(&self) -> Arc<dyn Stop>;
}

/// Ends runs from another thread.
pub(crate) trait Stop: fmt::Debug + Send + Sync {
    /// Makes the run that is going on, or the next one, fail soon.
    fn stop(&self);
    /// Takes that back, after the run.
    fn reset(&self);
}

/// The sessions of one model and those who wait for them.
pub(crate) struct Scheduler<S> {
    shared: Arc<Shared<S>>,
}

/// Makes a session again after a panic took one along.
pub(crate) type Rebuild<S> = Box<dyn Fn() -> Result<S, String> + Send + Sync>;

/// How a model is scheduled.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Requests that may wait when all sessions are busy.
    pub(crate) max_queue: usize,
    /// Urgency of requests that tell none; 1 is the most urgent.
    pub(crate) default_priority: u32,
    /// Deadline of requests that tell none.
    pub(crate) request_timeout: Option<Duration>,
    /// Whether requests may share an execution, and one may be split: rows do not depend on each other.
    pub(crate) joins: bool,
    /// Rows to gather, instead of what the cost curve says.
    pub(crate) batch_rows: Option<usize>,
    /// The most rows of an execution; a larger request is split.
    pub(crate) max_rows: Option<usize>,
    /// `false`: never on a network thread. `true`: always, unless runs turn out to hold it.
    pub(crate) in_place: Option<bool>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            max_queue: 256,
            default_priority: u32::MAX,
            request_timeout: None,
            joins: false,
            batch_rows: None,
            max_rows: None,
            in_place: None,
        }
    }
}

/// What was decided for a model, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    /// Whether a run of one row happens on the network thread.
    pub(crate) in_place: bool,
    /// Whether requests may share an execution at all.
    pub(crate) joins: bool,
    /// Rows that are gathered at most; 1: none are.
    pub(crate) batch_rows: usize,
    /// Rows of an execution at most, where pinned.
    pub(crate) max_rows: Option<usize>,
    /// Requests that may wait.
    pub(crate) max_queue: usize,
    /// Urgency of requests that tell none; `u32::MAX` is after all that tell one.
    pub(crate) default_priority: u32,
    /// Measured executions: rows and time.
    pub(crate) curve: Vec<(usize, Duration)>,
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
}

/// What a client asks a model for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) inputs: Vec<Tensor>,
    /// Positions of the outputs that it wants.
    pub(crate) outputs: Vec<usize>,
    pub(crate) rows: usize,
    /// Whether each input has that many rows.
    pub(crate) rows_agree: bool,
    /// 1 is the most urgent, 0 the model's default.
    pub(crate) priority: u32,
    pub(crate) deadline: Option<Deadline>,
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
pub(crate) struct Done {
    pub(crate) value: Result<Vec<Tensor>, RunError>,
    /// Time between the request and its run.
    pub(crate) queued: Duration,
    /// Time of the execution that carried the request; of the longest one, if it was split.
    pub(crate) computed: Duration,
    /// Rows of that execution, those of other requests included.
    pub(crate) batch_rows: usize,
    /// True for exactly one request of each execution.
    pub(crate) leads: bool,
}

struct Shared<S> {
    state: Mutex<State<S>>,
    compute: Arc<ComputeThreads>,
    rebuild: Rebuild<S>,
    costs: Costs,
    policy: Policy,
    /// As the policy says, until an execution shows otherwise.
    joins: AtomicBool,
    /// Executions that are left alone after a batch that failed.
    pause: AtomicU32,
    trust: Trust,
    appetite: Appetite,
}

struct State<S> {
    /// `None` is one that has to be made again before it can run.
    idle: Vec<Option<S>>,
    /// While anybody waits here, no session is idle.
    queue: Queue,
    /// Sessions that are on their way to a compute thread, to take from the queue.
    turns: usize,
    gathers: Gathers,
    sequence: u64,
}

impl<S: Runner> Scheduler<S> {
    /// `sessions` is not empty.
    pub(crate) fn new(
        sessions: Vec<S>,
        costs: Costs,
        policy: Policy,
        compute: Arc<ComputeThreads>,
        rebuild: Rebuild<S>,
    ) -> Scheduler<S> {
        let state = State {
            idle: sessions.into_iter().map(Some).collect(),
            queue: Queue::default(),
            turns: 0,
            gathers: Gathers::default(),
            sequence: 0,
        };
        let shared = Shared {
            state: Mutex::new(state),
            compute,
            rebuild,
            costs,
            joins: AtomicBool::new(policy.joins),
            policy,
            pause: AtomicU32::new(0),
            trust: Trust::default(),
            appetite: Appetite::default(),
        };
        Scheduler {
            shared: Arc::new(shared),
        }
    }

    /// What was decided, as it is now.
    pub(crate) fn describe(&self) -> Description {
        let shared = &self.shared;
        Description {
            in_place: shared.is_short(0, 1),
            joins: shared.joins.load(Ordering::Relaxed),
            batch_rows: shared.batch_rows(0),
            max_rows: shared.policy.max_rows,
            max_queue: shared.policy.max_queue,
            default_priority: shared.policy.default_priority,
            curve: shared.costs.curve(0).measured(),
        }
    }

    /// Runs a request, or gives it a place to wait in. Dropping the future leaves the queue; a run that has begun is
    /// ended when nobody else waits for it. A future that is never polled keeps those waiting that it gathered.
    pub(crate) fn run(&self, request: Request) -> Running<S> {
        match self.start(request) {
            Ok(running) => running,
            Err(refusal) => Running::over(Err(refusal)),
        }
    }

    fn start(&self, request: Request) -> Result<Running<S>, Refusal> {
        let shared = &self.shared;
        let arrived = Instant::now();
        let Request {
            inputs,
            outputs,
            rows,
            rows_agree,
            priority,
            deadline,
        } = request;
        let default = || Deadline::new(arrived, shared.policy.request_timeout?);
        let deadline = deadline.or_else(default);
        if let Some(Deadline { after, .. }) = deadline.filter(|deadline| arrived >= deadline.at) {
            return Err(Refusal::DeadlineExceeded { after });
        }
        let job = Job {
            class: shared.costs.class(&inputs, rows),
            joins: rows_agree && rows > 0 && shared.joins.load(Ordering::Relaxed),
            inputs,
            outputs,
            rows,
            deadline,
            arrived,
        };
        let priority = if priority == 0 {
            shared.policy.default_priority
        } else {
            priority
        };
        if let Some(part) = shared.part(&job) {
            let shared = Arc::clone(shared);
            let whole = async move { shared.run_split(&job, part, priority).await };
            return Ok(Running::Split(Box::pin(whole)));
        }
        if shared.is_short(job.class, rows) && shared.trust.allows(shared.compute.watch(), arrived) {
            return match shared.gathers(&job) {
                Some(size) => shared.run_gathered(job, priority, size),
                None => shared.run_here_or_enqueue(job, priority),
            };
        }
        shared.enqueue(job, priority, true).map(Running::Waits)
    }
}

impl<S: Runner> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        // Runs happen outside the lock, and what happens inside cannot be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a run is expected to be short enough for the network thread.
    fn is_short(&self, class: usize, rows: usize) -> bool {
        let expected = self.costs.curve(class).estimate(rows);
        match self.policy.in_place {
            Some(in_place) => in_place,
            None => expected.is_some_and(|expected| expected <= SHORT),
        }
    }

    /// The most rows that requests are gathered to.
    fn batch_rows(&self, class: usize) -> usize {
        if !self.joins.load(Ordering::Relaxed) {
            return 1;
        }
        let rows = self.policy.batch_rows.unwrap_or_else(|| self.costs.batch(class));
        rows.min(self.policy.max_rows.unwrap_or(usize::MAX))
    }

    /// The most rows of the execution that `job` leads now.
    fn most_rows(&self, job: &Job) -> usize {
        let pause = self.pause.load(Ordering::Relaxed);
        if pause > 0 {
            self.pause.store(pause - 1, Ordering::Relaxed);
            return 1;
        }
        self.batch_rows(job.class)
    }

    /// What to gather around `job` on this network thread, if others may be there.
    fn gathers(&self, job: &Job) -> Option<Size> {
        let curve = self.costs.curve(job.class);
        if !job.joins
            || self.batch_rows(job.class) < 2 * job.rows
            || !self.appetite.is_there(curve.pays_from())
        {
            return None;
        }
        let mut batch_rows = self.most_rows(job);
        let mut time = curve.estimate(batch_rows)?;
        while time > SHORT_BATCH && batch_rows > 1 {
            batch_rows /= 2;
            time = curve.estimate(batch_rows)?;
        }
        let batches = SHORT_BATCH.as_nanos() / time.as_nanos().max(1);
        (batch_rows >= 2 * job.rows).then_some(Size {
            batch_rows,
            most_rows: batch_rows * batches as usize,
        })
    }

    fn lease_of(self: &Arc<Self>, session: Option<S>) -> Lease<S> {
        Lease {
            session,
            shared: Arc::clone(self),
        }
    }

    /// Runs `job` on this thread; gives it back if no session is idle, or its run was taken off the thread.
    fn run_here(self: &Arc<Self>, job: Job) -> Result<Answer, Job> {
        // While anybody waits, none is idle.
        let Some(session) = self.lock().idle.pop() else {
            return Err(job);
        };
        let mut lease = self.lease_of(session);
        let entry = Entry { job, slot: None };
        match self.hold_thread(&mut lease, std::slice::from_ref(&entry)) {
            Some(mut answers) => Ok(answers.pop().unwrap_or(Err(Refusal::Failed))),
            None => Err(entry.job),
        }
    }

    /// Runs `batch` on this thread. `None` if that took so long that it was ended, to begin again elsewhere.
    fn hold_thread(&self, lease: &mut Lease<S>, batch: &[Entry]) -> Option<execute::Answers> {
        let began = Instant::now();
        let execution = Execution::new(1);
        let held = self.compute.watch().begin(began, &execution);
        let answers = self.execute(&mut lease.session, batch, &execution);
        drop(held);
        self.trust.held(began.elapsed());
        let is_whole = |answer: &Answer| answer.as_ref().is_ok_and(|done| done.value.is_ok());
        let is_cut_off = execution.is_ended() && !answers.iter().all(is_whole);
        (!is_cut_off).then_some(answers)
    }

    fn run_here_or_enqueue(self: &Arc<Self>, job: Job, priority: u32) -> Result<Running<S>, Refusal> {
        match self.run_here(job) {
            Ok(answer) => Ok(Running::over(answer)),
            Err(job) => self.enqueue(job, priority, true).map(Running::Waits),
        }
    }

    /// Gives way once to requests that are there already, then runs all of them on this thread.
    fn run_gathered(self: &Arc<Self>, job: Job, priority: u32, size: Size) -> Result<Running<S>, Refusal> {
        let (mut waiting, joined) = match self.join_gather(job, priority, size) {
            Ok(joined) => joined,
            Err(job) => return self.enqueue(job, priority, true).map(Running::Waits),
        };
        match joined {
            Joined::Follows => {}
            Joined::Full(gather) => self.run_gather(gather),
            Joined::Apart(Entry { job, .. }) => {
                waiting.withdraw();
                return self.run_here_or_enqueue(job, priority);
            }
            Joined::Leads(id) => waiting.lead(id),
        }
        Ok(Running::Waits(waiting))
    }

    /// What has come together in gather `id`, which its leader has given way to, runs on this thread.
    fn end_gather(self: &Arc<Self>, id: u64) {
        let gather = {
            let mut state = self.lock();
            let mut gather = state.gathers.take(id);
            if let Some(gather) = &mut gather {
                state.gathers.adopt(gather, Instant::now());
            }
            gather
        };
        if let Some(gather) = gather {
            self.run_gather(gather);
        }
    }

    /// Offers `job` to the gather of this thread; gives it back when no session is idle: then it has to queue.
    fn join_gather(
        self: &Arc<Self>,
        job: Job,
        priority: u32,
        size: Size,
    ) -> Result<(Waiting<S>, Joined), Job> {
        let mut state = self.lock();
        if state.idle.is_empty() {
            return Err(job);
        }
        let (waiting, entry) = self.waiting(&mut state, job, priority);
        let joined = state.gathers.join(waiting.key(), entry, size);
        Ok((waiting, joined))
    }

    /// Runs a gather on this thread, or queues it when no session is idle any more.
    fn run_gather(self: &Arc<Self>, gather: Gather) {
        self.appetite.found(gather.entries.len());
        let mut state = self.lock();
        let Some(session) = state.idle.pop() else {
            let refused = self.queue_gather(&mut state, gather);
            drop(state);
            for entry in refused {
                entry.answer(Err(self.overloaded()));
            }
            return;
        };
        drop(state);
        let mut lease = self.lease_of(session);
        let now = Instant::now();
        let (late, in_time): (Vec<_>, Vec<_>) = gather
            .entries
            .into_iter()
            .partition(|(_, entry)| entry.job.is_late(now));
        for (_, entry) in late {
            answer_late(entry);
        }
        let (mut keys, mut waiting): (Vec<Key>, Vec<Entry>) = in_time.into_iter().unzip();
        let mut finished = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let count = first_batch(&waiting, gather.size.batch_rows);
            let Some(answers) = self.hold_thread(&mut lease, &waiting[..count]) else {
                // The others take no network thread either.
                let mut state = self.lock();
                for (key, entry) in keys.into_iter().zip(waiting) {
                    state.queue.push(key, entry);
                }
                break; // the lease is dropped after the lock, and goes to those who wait
            };
            keys.drain(..count);
            finished.extend(waiting.drain(..count).zip(answers));
        }
        drop(lease);
        for (entry, answer) in finished {
            entry.answer(answer);
        }
    }

    /// Those that found no place.
    fn queue_gather(&self, state: &mut State<S>, gather: Gather) -> Vec<Entry> {
        let mut refused = Vec::new();
        for (key, entry) in gather.entries {
            if state.waiting() < self.policy.max_queue {
                state.queue.push(key, entry);
            } else {
                refused.push(entry);
            }
        }
        refused
    }

    fn overloaded(&self) -> Refusal {
        Refusal::Overloaded {
            limit: self.policy.max_queue,
        }
    }

    /// A place to wait in, and the entry that belongs to it.
    fn waiting(self: &Arc<Self>, state: &mut State<S>, job: Job, priority: u32) -> (Waiting<S>, Entry) {
        let slot = Arc::new(Slot::default());
        let sequence = state.sequence;
        state.sequence += 1;
        let key = Key { priority, sequence };
        let waiting = Waiting::new(Arc::clone(self), Arc::clone(&slot), key, job.deadline);
        let slot = Some(slot);
        (waiting, Entry { job, slot })
    }

    /// Queues `job`; an idle session goes to a compute thread for it. A full queue refuses it, or whoever is less
    /// urgent, unless it is `bounded` no more: a part of a request that has its place.
    fn enqueue(self: &Arc<Self>, job: Job, priority: u32, bounded: bool) -> Result<Waiting<S>, Refusal> {
        let mut state = self.lock();
        let mut gave_way = None;
        if bounded && state.idle.is_empty() && state.waiting() >= self.policy.max_queue {
            gave_way = state.queue.give_way(priority);
            if gave_way.is_none() {
                return Err(self.overloaded());
            }
        }
        let (waiting, entry) = self.waiting(&mut state, job, priority);
        state.queue.push(waiting.key(), entry);
        self.wake_one(state);
        if let Some(entry) = gave_way {
            entry.answer(Err(self.overloaded()));
        }
        Ok(waiting)
    }

    /// Sends an idle session to the compute threads, if there is one.
    fn wake_one(self: &Arc<Self>, mut state: MutexGuard<'_, State<S>>) {
        let Some(session) = state.idle.pop() else { return };
        state.turns += 1;
        drop(state);
        self.spawn_turn(self.lease_of(session));
    }

    fn spawn_turn(self: &Arc<Self>, lease: Lease<S>) {
        let shared = Arc::clone(self);
        self.compute.spawn(Box::new(move || shared.turn(lease)));
    }

    /// One execution on a compute thread: what is chosen is decided now, when the thread is free.
    fn turn(self: &Arc<Self>, mut lease: Lease<S>) {
        let (picked, execution) = {
            let mut state = self.lock();
            state.turns = state.turns.saturating_sub(1);
            let picked = state.queue.pick(Instant::now(), |job| self.most_rows(job));
            let execution = Execution::new(picked.batch.len());
            // Under the lock: a client that leaves finds its entry in the queue, or its execution.
            for slot in picked.batch.iter().filter_map(|entry| entry.slot.as_ref()) {
                slot.carried_by(&execution);
            }
            (picked, execution)
        };
        picked.late.into_iter().for_each(answer_late);
        if picked.batch.is_empty() {
            return;
        }
        let answers = self.execute(&mut lease.session, &picked.batch, &execution);
        // The session first: whoever gets an answer may ask again at once.
        drop(lease);
        for (entry, answer) in picked.batch.into_iter().zip(answers) {
            entry.answer(answer);
        }
    }
}

impl<S> State<S> {
    /// Requests that wait and have no session on its way to them.
    fn waiting(&self) -> usize {
        self.queue.len().saturating_sub(self.turns)
    }
}

/// How many of `waiting` are the next execution: at least one, of up to `most_rows` rows.
fn first_batch(waiting: &[Entry], most_rows: usize) -> usize {
    let mut rows = 0;
    let fits = |entry: &&Entry| {
        rows += entry.job.rows;
        rows <= most_rows
    };
    waiting.iter().take_while(fits).count().max(1)
}

fn answer_late(entry: Entry) {
    if let Some(Deadline { after, .. }) = entry.job.deadline {
        entry.answer(Err(Refusal::DeadlineExceeded { after }));
    }
}

/// A session taken out of the pool. When dropped it goes to the back of the compute threads' line if anybody waits,
/// else it is idle.
struct Lease<S: Runner> {
    session: Option<S>,
    shared: Arc<Shared<S>>,
}

impl<S: Runner> Drop for Lease<S> {
    fn drop(&mut self) {
        let session = self.session.take();
        let mut state = self.shared.lock();
        if state.queue.is_empty() {
            state.idle.push(session);
        } else {
            state.turns += 1;
            drop(state);
            self.shared.spawn_turn(self.shared.lease_of(session));
        }
    }
}

#[cfg(test)]
mod tests;
