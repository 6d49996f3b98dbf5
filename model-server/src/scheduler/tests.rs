//! Every decision, with a session that is none: what runs, where, together with whom.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Condvar;
use std::thread::ThreadId;

use plumbline_inference_protocol::{Shape, TensorData};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::*;

const SHORT_RUN: Duration = Duration::from_micros(10);
const LONG_RUN: Duration = Duration::from_secs(1);

/// A row with this value cannot be run.
const UNSUITABLE: f32 = -1.0;
/// A row with this value makes the run panic.
const PANIC: f32 = -2.0;

/// What the sessions of a test do.
struct Script {
    /// Rows and thread of each run, as it begins.
    begun: UnboundedSender<(Vec<f32>, ThreadId)>,
    /// Runs wait while this is closed.
    is_closed: Mutex<bool>,
    opened: Condvar,
    built: AtomicU32,
}

/// Answers with its input. Its number tells whether it was replaced.
struct Fake {
    script: Arc<Script>,
    stop: Arc<FakeStop>,
}

struct FakeStop {
    script: Arc<Script>,
    is_stopped: AtomicBool,
}

impl fmt::Debug for FakeStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeStop")
    }
}

impl Stop for FakeStop {
    fn stop(&self) {
        // Under the lock that the run waits with, so that it cannot miss it.
        let _closed = self.script.is_closed.lock().unwrap();
        self.is_stopped.store(true, Ordering::Relaxed);
        self.script.opened.notify_all();
    }

    fn reset(&self) {
        self.is_stopped.store(false, Ordering::Relaxed);
    }
}

impl Script {
    fn build(self: &Arc<Script>) -> Fake {
        self.built.fetch_add(1, Ordering::Relaxed);
        let stop = Arc::new(FakeStop {
            script: Arc::clone(self),
            is_stopped: AtomicBool::new(false),
        });
        Fake {
            script: Arc::clone(self),
            stop,
        }
    }

    fn set_closed(&self, is_closed: bool) {
        *self.is_closed.lock().unwrap() = is_closed;
        self.opened.notify_all();
    }
}

impl Runner for Fake {
    fn run(&mut self, inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let rows = inputs[0].data().as_slice::<f32>().unwrap().to_vec();
        let _nobody_looks = self
            .script
            .begun
            .send((rows.clone(), std::thread::current().id()));
        let mut is_closed = self.script.is_closed.lock().unwrap();
        while *is_closed && !self.stop.is_stopped.load(Ordering::Relaxed) {
            is_closed = self.script.opened.wait(is_closed).unwrap();
        }
        drop(is_closed);
        if rows.contains(&PANIC) {
            // Past the panic hook: to print a backtrace takes longer than a run may hold a network thread.
            std::panic::resume_unwind(Box::new("a run that fails"));
        }
        let reason = "for the test".to_owned();
        if self.stop.is_stopped.load(Ordering::Relaxed) {
            Err(RunError::Failed { reason })
        } else if rows.contains(&UNSUITABLE) {
            Err(RunError::Unsuitable { reason })
        } else {
            Ok(inputs.to_vec())
        }
    }

    fn stop(&self) -> Arc<dyn Stop> {
        Arc::clone(&self.stop) as _
    }
}

struct Bench {
    scheduler: Arc<Scheduler<Fake>>,
    script: Arc<Script>,
    begun: UnboundedReceiver<(Vec<f32>, ThreadId)>,
}

/// One session and one compute thread; a run of one row takes `cost`, one of more hardly longer.
fn bench(cost: Duration, change: impl FnOnce(&mut Policy)) -> Bench {
    let compute = Arc::new(ComputeThreads::start(NonZeroUsize::MIN).unwrap());
    bench_on(&compute, 1, &flat(cost), change)
}

/// More rows take hardly longer.
fn flat(cost: Duration) -> [(usize, Duration); 2] {
    [(1, cost), (64, cost + cost / 64)]
}

fn bench_on(
    compute: &Arc<ComputeThreads>,
    sessions: usize,
    measured: &[(usize, Duration)],
    change: impl FnOnce(&mut Policy),
) -> Bench {
    let (sender, begun) = unbounded_channel();
    let script = Arc::new(Script {
        begun: sender,
        is_closed: Mutex::new(false),
        opened: Condvar::new(),
        built: AtomicU32::new(0),
    });
    let mut policy = Policy {
        joins: true,
        batch_rows: Some(8),
        ..Policy::default()
    };
    change(&mut policy);
    let rebuild = Arc::clone(&script);
    let scheduler = Scheduler::new(
        (0..sessions).map(|_| script.build()).collect(),
        Costs::new(Curve::from_measurements(measured)),
        policy,
        Arc::clone(compute),
        Box::new(move || Ok(rebuild.build())),
    );
    Bench {
        scheduler: Arc::new(scheduler),
        script,
        begun,
    }
}

fn request(rows: &[f32]) -> Request {
    let shape = Shape::from([rows.len() as i64, 1]);
    let input = Tensor::new("x", shape, TensorData::from_vec(rows.to_vec())).unwrap();
    Request {
        inputs: vec![input],
        outputs: vec![0],
        rows: rows.len(),
        rows_agree: true,
        priority: 0,
        deadline: None,
    }
}

fn rows_of(done: &Done) -> Vec<f32> {
    let tensors = done.value.as_ref().unwrap();
    tensors[0].data().as_slice::<f32>().unwrap().to_vec()
}

impl Bench {
    fn spawn(&self, request: Request) -> JoinHandle<Answer> {
        let scheduler = Arc::clone(&self.scheduler);
        tokio::spawn(async move { scheduler.run(request).await })
    }

    /// Holds the session until the script opens.
    async fn occupy(&mut self) -> JoinHandle<Answer> {
        self.script.set_closed(true);
        let held = self.spawn(request(&[0.0]));
        assert_eq!(self.next().await, [0.0]);
        held
    }

    /// Rows of the next run that begins.
    async fn next(&mut self) -> Vec<f32> {
        self.begun.recv().await.unwrap().0
    }

    /// Waits until this many are queued.
    async fn queued(&self, count: usize) {
        while self.scheduler.shared.lock().queue.len() < count {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the session is idle again.
    async fn idle(&self, sessions: usize) {
        while self.scheduler.shared.lock().idle.len() < sessions {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn an_idle_session_runs_a_short_request_in_place_and_a_long_one_elsewhere() {
    let here = std::thread::current().id();
    for (cost, pinned, in_place) in [
        (SHORT_RUN, None, true),
        (LONG_RUN, None, false),
        (SHORT_RUN, Some(false), false),
        (LONG_RUN, Some(true), true),
    ] {
        let mut bench = bench(cost, |policy| policy.in_place = pinned);
        let done = bench.scheduler.run(request(&[1.0])).await.unwrap();
        assert!(done.leads && done.batch_rows == 1 && rows_of(&done) == [1.0]);
        let (_, thread) = bench.begun.recv().await.unwrap();
        assert_eq!(thread == here, in_place);
        assert_eq!(bench.scheduler.describe().in_place, in_place);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_place_is_free_again_when_its_client_leaves() {
    let mut bench = bench(LONG_RUN, |policy| policy.max_queue = 1);
    let busy = bench.occupy().await;
    let waiting = bench.spawn(request(&[1.0]));
    bench.queued(1).await;
    let refused = bench.scheduler.run(request(&[2.0])).await;
    assert_eq!(refused.unwrap_err(), Refusal::Overloaded { limit: 1 });
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let next = bench.spawn(request(&[3.0]));
    bench.queued(1).await;
    bench.script.set_closed(false);
    assert_eq!(rows_of(&busy.await.unwrap().unwrap()), [0.0]);
    assert_eq!(rows_of(&next.await.unwrap().unwrap()), [3.0]);
    assert_eq!(bench.next().await, [3.0]);
}

#[tokio::test]
async fn the_urgent_go_first_and_take_the_place_of_the_least_urgent() {
    let mut bench = bench(LONG_RUN, |policy| {
        policy.max_queue = 3;
        policy.joins = false;
        policy.default_priority = 5;
    });
    let _busy = bench.occupy().await;
    let with = |priority: u32, value: f32| Request {
        priority,
        ..request(&[value])
    };
    let last = bench.spawn(with(9, 9.0));
    let by_default = bench.spawn(with(0, 5.0));
    let soon = bench.spawn(with(2, 2.0));
    bench.queued(3).await;
    let refused = bench.scheduler.run(with(9, 8.0)).await;
    assert_eq!(refused.unwrap_err(), Refusal::Overloaded { limit: 3 });
    let first = bench.spawn(with(1, 1.0));
    assert_eq!(last.await.unwrap().unwrap_err(), Refusal::Overloaded { limit: 3 });
    bench.queued(3).await;
    bench.script.set_closed(false);
    for expected in [1.0, 2.0, 5.0] {
        assert_eq!(bench.next().await, [expected]);
    }
    for run in [first, soon, by_default] {
        run.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_the_request_is_not_run() {
    let mut bench = bench(LONG_RUN, |_| {});
    let busy = bench.occupy().await;
    let after = Duration::from_millis(1);
    let late = || Request {
        deadline: Deadline::new(Instant::now(), after),
        ..request(&[1.0])
    };
    let refused = bench.scheduler.run(late()).await;
    assert_eq!(refused.unwrap_err(), Refusal::DeadlineExceeded { after });
    assert!(bench.scheduler.shared.lock().queue.is_empty());
    bench.script.set_closed(false);
    busy.await.unwrap().unwrap();
    // An idle session does not run a request that is late already.
    let past = Request {
        deadline: Deadline::new(Instant::now(), Duration::ZERO),
        ..request(&[1.0])
    };
    assert!(bench.scheduler.run(past).await.is_err());
    bench.scheduler.run(request(&[2.0])).await.unwrap();
    assert_eq!(bench.next().await, [2.0]);
}

#[tokio::test]
async fn a_run_is_ended_at_its_deadline_and_its_session_runs_again() {
    let after = LONG_RUN * 60;
    let mut bench = bench(LONG_RUN, |policy| policy.request_timeout = Some(after));
    let run = bench.occupy().await;
    tokio::time::pause();
    tokio::time::advance(after).await;
    assert_eq!(
        run.await.unwrap().unwrap_err(),
        Refusal::DeadlineExceeded { after }
    );
    tokio::time::resume();
    // The script never opened: the run was ended.
    bench.idle(1).await;
    bench.script.set_closed(false);
    // The clock of timers is a minute ahead now.
    let patient = Request {
        deadline: Deadline::new(Instant::now(), after * 60),
        ..request(&[2.0])
    };
    assert_eq!(rows_of(&bench.scheduler.run(patient).await.unwrap()), [2.0]);
}

#[tokio::test]
async fn a_batch_is_ended_when_the_last_of_its_clients_leaves() {
    let mut bench = bench(LONG_RUN, |_| {});
    let busy = bench.occupy().await;
    let (one, other) = (bench.spawn(request(&[1.0])), bench.spawn(request(&[2.0])));
    bench.queued(2).await;
    // The first run is ended because its client leaves; then both run together.
    busy.abort();
    assert_eq!(bench.next().await, [1.0, 2.0]);
    one.abort();
    assert!(one.await.unwrap_err().is_cancelled());
    assert!(bench.scheduler.shared.lock().idle.is_empty());
    other.abort();
    bench.idle(1).await;
    bench.script.set_closed(false);
    assert_eq!(
        rows_of(&bench.scheduler.run(request(&[3.0])).await.unwrap()),
        [3.0]
    );
}

#[tokio::test]
async fn those_who_queue_are_run_together_and_each_gets_its_rows() {
    let mut bench = bench(LONG_RUN, |_| {});
    let busy = bench.occupy().await;
    let sent = [
        vec![1.0],
        vec![2.0, 3.0],
        vec![4.0, 5.0, 6.0, 7.0],
        vec![8.0],
        vec![9.0],
    ];
    let mut waiting = VecDeque::new();
    for (index, rows) in sent.iter().enumerate() {
        waiting.push_back(bench.spawn(request(rows)));
        bench.queued(index + 1).await;
    }
    bench.script.set_closed(false);
    busy.await.unwrap().unwrap();
    assert_eq!(bench.next().await, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    assert_eq!(bench.next().await, [9.0]);
    let mut leads = Vec::new();
    for rows in sent {
        let done = waiting.pop_front().unwrap().await.unwrap().unwrap();
        assert_eq!(rows_of(&done), rows);
        assert_eq!(done.batch_rows, if rows == [9.0] { 1 } else { 8 });
        leads.push(done.leads);
    }
    assert_eq!(leads, [true, false, false, false, true]);
}

#[tokio::test]
async fn nobody_fails_for_the_values_of_another() {
    for bad in [UNSUITABLE, PANIC] {
        let mut bench = bench(LONG_RUN, |_| {});
        let busy = bench.occupy().await;
        let good = bench.spawn(request(&[1.0]));
        let failing = bench.spawn(request(&[bad]));
        let other = bench.spawn(request(&[2.0]));
        bench.queued(3).await;
        bench.script.set_closed(false);
        busy.await.unwrap().unwrap();
        assert_eq!(rows_of(&good.await.unwrap().unwrap()), [1.0]);
        assert_eq!(rows_of(&other.await.unwrap().unwrap()), [2.0]);
        match failing.await.unwrap() {
            Ok(done) => assert!(matches!(done.value, Err(RunError::Unsuitable { .. }))),
            Err(refusal) => assert_eq!((refusal, bad), (Refusal::Failed, PANIC)),
        }
        let order = [bench.next().await, bench.next().await, bench.next().await];
        assert_eq!(order, [vec![1.0, bad, 2.0], vec![1.0], vec![bad]]);
    }
}

#[tokio::test]
async fn a_run_that_does_not_end_is_moved_from_the_network_thread_to_a_compute_thread() {
    let here = std::thread::current().id();
    for gathers in [false, true] {
        let mut bench = bench(SHORT_RUN, |_| {});
        if gathers {
            bench.scheduler.shared.appetite.found(8);
        }
        bench.script.set_closed(true);
        let (one, two) = (bench.spawn(request(&[1.0])), bench.spawn(request(&[2.0])));
        // The test's thread is held until the watch ends the run.
        let (_, thread) = bench.begun.recv().await.unwrap();
        assert_eq!(thread, here);
        let (rows, thread) = bench.begun.recv().await.unwrap();
        assert_ne!(thread, here);
        // Without a gather the second may have queued before the compute thread came to the first.
        assert!(rows.len() == 2 || (rows == [1.0] && !gathers), "{rows:?}");
        bench.script.set_closed(false);
        assert_eq!(rows_of(&one.await.unwrap().unwrap()), [1.0]);
        assert_eq!(rows_of(&two.await.unwrap().unwrap()), [2.0]);
    }
}

#[tokio::test]
async fn a_panic_fails_one_request_and_its_session_is_replaced() {
    for cost in [SHORT_RUN, LONG_RUN] {
        let bench = bench(cost, |_| {});
        let failed = bench.scheduler.run(request(&[PANIC])).await;
        assert_eq!(failed.unwrap_err(), Refusal::Failed);
        for _ in 0..2 {
            bench.scheduler.run(request(&[1.0])).await.unwrap();
        }
        assert_eq!(bench.script.built.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn a_busy_model_does_not_starve_another() {
    let compute = Arc::new(ComputeThreads::start(NonZeroUsize::MIN).unwrap());
    let mut busy = bench_on(&compute, 1, &flat(LONG_RUN), |policy| policy.joins = false);
    let mut other = bench_on(&compute, 1, &flat(LONG_RUN), |_| {});
    let held = busy.occupy().await;
    let many: Vec<_> = (1..=3)
        .map(|value| busy.spawn(request(&[value as f32])))
        .collect();
    busy.queued(3).await;
    let one = other.spawn(request(&[7.0]));
    other.queued(1).await;
    // Its turn comes before the second of the busy model: when it has run, that one still waits.
    other.script.set_closed(true);
    busy.script.set_closed(false);
    held.await.unwrap().unwrap();
    assert_eq!(other.next().await, [7.0]);
    assert!(busy.scheduler.shared.lock().queue.len() >= 2);
    other.script.set_closed(false);
    one.await.unwrap().unwrap();
    for run in many {
        run.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn requests_that_are_there_at_the_same_time_are_gathered_on_their_thread() {
    let here = std::thread::current().id();
    let mut bench = bench(SHORT_RUN, |_| {});
    bench.scheduler.shared.appetite.found(8);
    let mut runs: Vec<_> = (0..11)
        .map(|value| bench.spawn(request(&[value as f32])))
        .collect();
    // Another shape does not go with them, and is not kept waiting.
    let mut apart = request(&[50.0]);
    apart.outputs = vec![1];
    runs.push(bench.spawn(apart));
    let mut leads = 0;
    for run in runs {
        leads += usize::from(run.await.unwrap().unwrap().leads);
    }
    assert_eq!(leads, 3);
    let mut order = Vec::new();
    for _ in 0..3 {
        let (rows, thread) = bench.begun.recv().await.unwrap();
        assert_eq!(thread, here);
        order.push(rows);
    }
    assert_eq!(order[0], [50.0]);
    assert_eq!(order[1], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    assert_eq!(order[2], [8.0, 9.0, 10.0]);
}

#[tokio::test]
async fn long_runs_that_are_pinned_to_the_network_thread_are_not_gathered() {
    let here = std::thread::current().id();
    let mut bench = bench(LONG_RUN, |policy| policy.in_place = Some(true));
    bench.scheduler.shared.appetite.found(8);
    let runs = [1.0, 2.0].map(|value| bench.spawn(request(&[value])));
    for run in runs {
        run.await.unwrap().unwrap();
    }
    for value in [1.0, 2.0] {
        assert_eq!(bench.begun.recv().await.unwrap(), (vec![value], here));
    }
}

#[tokio::test]
async fn what_another_thread_does_not_come_back_to_is_run_here() {
    let mut bench = bench(SHORT_RUN, |_| {});
    bench.scheduler.shared.appetite.found(8);
    let scheduler = Arc::clone(&bench.scheduler);
    let mut elsewhere = std::thread::spawn(move || {
        let mut run = Box::pin(async move { scheduler.run(request(&[1.0])).await });
        assert!(poll_once(&mut run).is_none());
        run
    })
    .join()
    .unwrap();
    // As if that had been a while ago.
    let long_ago = Instant::now().checked_sub(LONG_RUN).unwrap();
    bench.scheduler.shared.lock().gathers.set_arrival(long_ago);
    let done = bench.scheduler.run(request(&[2.0])).await.unwrap();
    assert_eq!((rows_of(&done), done.batch_rows), (vec![2.0], 2));
    assert_eq!(bench.next().await, [2.0, 1.0]);
    assert_eq!(rows_of(&poll_once(&mut elsewhere).unwrap().unwrap()), [1.0]);
    drop(elsewhere);
    assert_eq!(bench.scheduler.shared.appetite.looking(), 0);
}

#[tokio::test]
async fn who_gathered_and_left_leaves_nobody_behind() {
    let mut bench = bench(SHORT_RUN, |_| {});
    bench.scheduler.shared.appetite.found(8);
    let mut first = Box::pin(bench.scheduler.run(request(&[1.0])));
    let mut second = Box::pin(bench.scheduler.run(request(&[2.0])));
    let mut third = Box::pin(bench.scheduler.run(request(&[3.0])));
    for future in [&mut first, &mut second, &mut third] {
        assert!(poll_once(future).is_none());
    }
    drop(second);
    drop(first);
    assert_eq!(rows_of(&third.await.unwrap()), [3.0]);
    assert_eq!(bench.next().await, [3.0]);
}

/// Polls once.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_request_above_the_largest_execution_is_split_and_its_outputs_joined() {
    let mut bench = bench(LONG_RUN, |policy| policy.max_rows = Some(3));
    let rows: Vec<f32> = (0..8).map(|row| row as f32).collect();
    let done = bench.scheduler.run(request(&rows)).await.unwrap();
    assert_eq!(rows_of(&done), rows);
    assert_eq!((done.batch_rows, done.leads), (3, true));
    for part in rows.chunks(3) {
        assert_eq!(bench.next().await, part);
    }
    // What one part cannot be run with, the whole cannot.
    let done = bench
        .scheduler
        .run(request(&[1.0, 2.0, 3.0, UNSUITABLE]))
        .await
        .unwrap();
    assert!(matches!(done.value, Err(RunError::Unsuitable { .. })));
}

#[tokio::test]
async fn a_long_request_uses_all_idle_sessions_where_rows_cost_in_proportion() {
    let compute = Arc::new(ComputeThreads::start(NonZeroUsize::new(2).unwrap()).unwrap());
    let rows: Vec<f32> = (0..64).map(|row| row as f32).collect();
    // A run of 64 rows that takes hardly longer than one of 32 stays whole.
    let mut whole = bench_on(&compute, 2, &flat(LONG_RUN), |_| {});
    whole.scheduler.run(request(&rows)).await.unwrap();
    assert_eq!(whole.next().await.len(), 64);
    let one = Duration::from_micros(100);
    let mut split = bench_on(&compute, 2, &[(1, one), (64, one * 64)], |_| {});
    let done = split.scheduler.run(request(&rows)).await.unwrap();
    assert_eq!(rows_of(&done), rows);
    assert_eq!([split.next().await.len(), split.next().await.len()], [32, 32]);
}

#[tokio::test]
async fn a_request_whose_client_left_before_a_thread_was_free_is_not_run() {
    let compute = Arc::new(ComputeThreads::start(NonZeroUsize::MIN).unwrap());
    let mut bench = bench_on(&compute, 2, &flat(LONG_RUN), |_| {});
    let busy = bench.occupy().await; // holds the only compute thread
    let mut gone = Box::pin(bench.scheduler.run(request(&[1.0])));
    assert!(poll_once(&mut gone).is_none());
    drop(gone);
    bench.script.set_closed(false);
    busy.await.unwrap().unwrap();
    bench.scheduler.run(request(&[2.0])).await.unwrap();
    assert_eq!(bench.next().await, [2.0]);
}
