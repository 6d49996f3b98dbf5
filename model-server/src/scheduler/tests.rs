use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc;

use super::*;

const SHORT: Duration = Duration::from_micros(10);
const LONG: Duration = Duration::from_secs(1);

/// Sessions are numbers; those made again count on from 100.
fn scheduler(sessions: u32, cost: Duration, max_waiting: usize) -> Arc<Scheduler<u32>> {
    let compute = ComputeThreads::start(NonZeroUsize::MIN).unwrap();
    let next = AtomicU32::new(100);
    Arc::new(Scheduler::new(
        (0..sessions).collect(),
        Cost::from_measurements(cost, None),
        max_waiting,
        Arc::new(compute),
        Box::new(move || Ok(next.fetch_add(1, Ordering::Relaxed))),
    ))
}

/// Occupies a session on the compute thread until the sender is used or dropped.
async fn occupy(
    scheduler: &Arc<Scheduler<u32>>,
) -> (
    mpsc::Sender<()>,
    tokio::task::JoinHandle<Result<Done<u32>, Refusal>>,
) {
    let (release, released) = mpsc::channel::<()>();
    let (begun, has_begun) = oneshot::channel();
    let scheduler = Arc::clone(scheduler);
    let run = tokio::spawn(async move {
        let work = move |session: &mut u32| {
            begun.send(()).unwrap();
            let _released_or_dropped = released.recv();
            *session
        };
        scheduler.run(1, None, work).await
    });
    has_begun.await.unwrap();
    (release, run)
}

#[tokio::test]
async fn an_idle_session_runs_a_short_request_in_place_and_a_long_one_elsewhere() {
    let here = std::thread::current().id();
    for (cost, in_place) in [(SHORT, true), (LONG, false)] {
        let scheduler = scheduler(1, cost, 0);
        let done = scheduler
            .run(1, None, |_| std::thread::current().id())
            .await
            .unwrap();
        assert_eq!(done.value == here, in_place);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_place_is_free_again_when_its_client_leaves() {
    let scheduler = scheduler(1, LONG, 1);
    let (release, busy) = occupy(&scheduler).await;
    let mut waiting = Box::pin(scheduler.run(1, None, |session: &mut u32| *session));
    assert!(futures_poll(&mut waiting).is_none());
    let refused = scheduler.run(1, None, |session: &mut u32| *session).await;
    assert_eq!(refused.unwrap_err(), Refusal::Overloaded { limit: 1 });
    drop(waiting);
    let mut next = Box::pin(scheduler.run(1, None, |session: &mut u32| *session));
    assert!(futures_poll(&mut next).is_none());
    release.send(()).unwrap();
    assert_eq!(busy.await.unwrap().unwrap().value, 0);
    assert_eq!(next.await.unwrap().value, 0);
}

/// Polls once.
fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_the_request_is_not_run() {
    let scheduler = scheduler(1, LONG, 8);
    let (release, busy) = occupy(&scheduler).await;
    let after = Duration::from_millis(1);
    let deadline = Deadline::new(Instant::now(), after);
    let refused = scheduler.run(1, deadline, |_| unreachable!("must not run")).await;
    assert_eq!(
        refused.map(|done: Done<()>| done.value),
        Err(Refusal::DeadlineExceeded { after })
    );
    release.send(()).unwrap();
    busy.await.unwrap().unwrap();
    // An idle session does not run a request that is late already.
    let refused = scheduler.run(1, deadline, |_| unreachable!("must not run")).await;
    assert_eq!(
        refused.map(|done: Done<()>| done.value),
        Err(Refusal::DeadlineExceeded { after })
    );
}

#[tokio::test]
async fn a_request_whose_client_left_before_a_thread_was_free_is_not_run() {
    let scheduler = scheduler(2, LONG, 8);
    let (release, busy) = occupy(&scheduler).await; // holds the only compute thread
    let ran = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&ran);
    let mut gone = Box::pin(scheduler.run(1, None, move |_| count.fetch_add(1, Ordering::Relaxed)));
    assert!(futures_poll(&mut gone).is_none());
    drop(gone);
    release.send(()).unwrap();
    busy.await.unwrap().unwrap();
    // The queue is first in, first out: when this has run, the other would have.
    scheduler.run(1, None, |_| ()).await.unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_panic_fails_one_request_and_its_session_is_replaced() {
    for cost in [SHORT, LONG] {
        let scheduler = scheduler(1, cost, 0);
        let failed = scheduler.run(1, None, |_| panic!("a run that fails")).await;
        assert_eq!(failed.map(|done: Done<()>| done.value), Err(Refusal::Failed));
        assert_eq!(
            scheduler
                .run(1, None, |session: &mut u32| *session)
                .await
                .unwrap()
                .value,
            100
        );
        assert_eq!(
            scheduler
                .run(1, None, |session: &mut u32| *session)
                .await
                .unwrap()
                .value,
            100
        );
    }
}
