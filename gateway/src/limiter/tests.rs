use std::collections::BinaryHeap;

use plumbline_service::metrics::Metrics as Registry;
use proptest::prelude::*;

use super::*;
use crate::metrics::Metrics;

const BOUNDS: Bounds = Bounds { min: 4, max: 1000 };
const MS: Duration = Duration::from_millis(1);

fn limiter() -> Arc<Limiter> {
    let metrics = Metrics::declare(&Registry::default());
    let shed = metrics.protection.shed_concurrency_limit.clone();
    Arc::new(Limiter::new(&metrics.revision("churn", "stable"), shed))
}

#[derive(Debug, Default)]
struct Run {
    offered: usize,
    /// Admitted, with their latencies.
    latencies: Vec<f64>,
}

impl Run {
    fn p99_milliseconds(&mut self) -> f64 {
        self.latencies.sort_by(f64::total_cmp);
        self.latencies[self.latencies.len() * 99 / 100]
    }
}

/// A service of `workers` that take `service_time` each and queue without bound, behind the limiter, for `duration`;
/// requests arrive by chance at `rate` per second, and leave when there is no permit at once.
fn simulate(
    limiter: &Arc<Limiter>,
    workers: usize,
    service_time: Duration,
    rate: f64,
    duration: Duration,
) -> Run {
    let mut random = fastrand::Rng::with_seed(11);
    let start = limiter.born + Duration::from_nanos(limiter.window.began.load(Ordering::Relaxed));
    let mut now = Duration::ZERO;
    // When each worker is free, soonest first.
    let mut free: BinaryHeap<std::cmp::Reverse<Duration>> =
        (0..workers).map(|_| std::cmp::Reverse(now)).collect();
    let mut ends: std::collections::VecDeque<(Duration, Duration, Permit)> =
        std::collections::VecDeque::new();
    let mut run = Run::default();
    while now < duration {
        now += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
        while let Some((end, took, permit)) = ends.pop_front_if(|(end, ..)| *end <= now) {
            limiter.answered(took, start + end, BOUNDS);
            drop(permit);
            run.latencies.push(took.as_secs_f64() * 1e3);
        }
        run.offered += 1;
        if limiter.permits.try_acquire() {
            let std::cmp::Reverse(worker) = free.pop().expect("a worker");
            let end = worker.max(now) + service_time;
            free.push(std::cmp::Reverse(end));
            ends.push_back((end, end.saturating_sub(now), limiter.permit()));
        }
    }
    run
}

#[tokio::test(start_paused = true)]
async fn at_three_times_the_capacity_the_service_is_busy_and_answers_in_time() {
    // The √limit headroom is more of a small limit: what waits in the service, in service times, is 1.5 / (1 − 1/√limit).
    for (workers, milliseconds, most) in [(8, 10, 3.0), (2, 40, 4.0), (64, 5, 2.0)] {
        let limiter = limiter();
        let service_time = milliseconds * MS;
        let capacity = workers as f64 / service_time.as_secs_f64();
        simulate(&limiter, workers, service_time, capacity * 0.5, 20 * 1000 * MS);
        // A limit that was found in peace is too high at first.
        simulate(&limiter, workers, service_time, capacity * 3.0, 10 * 1000 * MS);
        let seconds = 120.0;
        let mut run = simulate(&limiter, workers, service_time, capacity * 3.0, 120 * 1000 * MS);
        let goodput = run.latencies.len() as f64 / (capacity * seconds);
        assert!(
            goodput >= 0.9,
            "{workers} workers: goodput {goodput} of the capacity"
        );
        let slower = run.p99_milliseconds() / f64::from(milliseconds);
        assert!(
            slower <= most,
            "{workers} workers: p99 {slower} times the unloaded, limit {}",
            limiter.limit()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_light_load_is_never_shed_and_a_slower_service_is_not_strangled() {
    let limiter = limiter();
    // 2.4 of 8 workers on average, then the service takes five times as long: 12 of 16 workers.
    let run = simulate(&limiter, 8, 10 * MS, 240.0, 60 * 1000 * MS);
    assert!(
        run.offered - run.latencies.len() < 20,
        "all but those under way: {run:?}",
        run = run.offered
    );
    simulate(&limiter, 16, 50 * MS, 240.0, 30 * 1000 * MS);
    let run = simulate(&limiter, 16, 50 * MS, 240.0, 60 * 1000 * MS);
    let admitted = run.latencies.len() as f64 / run.offered as f64;
    assert!(admitted > 0.95, "{admitted}, limit {}", limiter.limit());
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_the_permit_that_is_given_back_in_order() {
    let limiter = limiter();
    let bounds = Bounds { min: 1, max: 1 };
    let first = limiter.acquire(bounds).await.expect("room");
    assert_eq!(limiter.limit(), 1);
    let queued = |limiter: &Arc<Limiter>| {
        let limiter = Arc::clone(limiter);
        tokio::spawn(async move { limiter.acquire(bounds).await })
    };
    let second = queued(&limiter);
    tokio::task::yield_now().await;
    assert_eq!(limiter.permits.waiting(), 1);
    assert_eq!(
        limiter.acquire(bounds).await.err(),
        Some(Full { limit: 1 }),
        "the queue is full"
    );
    drop(first);
    let second = second.await.expect("no panic").expect("its turn");
    assert_eq!((limiter.in_flight(), limiter.permits.waiting()), (1, 0));
    let began = Instant::now();
    assert_eq!(limiter.acquire(bounds).await.err(), Some(Full { limit: 1 }));
    assert_eq!(began.elapsed(), MAX_WAIT);
    assert_eq!(limiter.shed.get(), 2);
    // One that leaves while it waits leaves nothing behind.
    let third = queued(&limiter);
    tokio::task::yield_now().await;
    third.abort();
    assert!(third.await.is_err());
    assert_eq!(limiter.permits.waiting(), 0);
    drop(second);
    assert_eq!(limiter.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn in_a_queue_that_stands_nobody_waits_long() {
    let limiter = limiter();
    let start = Instant::now() + MS;
    assert_eq!(limiter.patience(start), MAX_WAIT);
    assert_eq!(limiter.patience(start + 100 * MS), MAX_WAIT);
    assert_eq!(limiter.patience(start + 101 * MS), WAIT_IN_STANDING_QUEUE);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_refuses_gets_less() {
    let limiter = limiter();
    for turn in 1..=20 {
        for _ in 0..10 {
            limiter.refused(limiter.born + turn * 101 * MS, BOUNDS);
        }
    }
    assert_eq!(limiter.limit(), BOUNDS.min);
}

proptest! {
    #[test]
    fn never_more_than_the_limit_and_no_permit_leaks(steps in proptest::collection::vec((0_u8..4, 1_usize..8), 0..300)) {
        let permits = Permits::new(3);
        // What was in flight when the limit fell below it may stay.
        let (mut held, mut most) = (0_usize, 3_usize);
        for (step, limit) in steps {
            match step {
                0 | 1 => held += usize::from(permits.try_acquire()),
                2 if held > 0 => { permits.release(); held -= 1; }
                2 => {}
                _ => { permits.set_limit(limit); most = limit.max(held); }
            }
            most = most.min(permits.limit().max(held));
            prop_assert_eq!(permits.in_flight(), held);
            prop_assert!(held <= most);
        }
        (0..held).for_each(|_| { permits.release(); });
        prop_assert_eq!(permits.in_flight(), 0);
    }

    #[test]
    fn the_limit_stays_within_its_bounds(
        windows in proptest::collection::vec((1_u64..10_000_000, 0_usize..2_000, 1_u64..1_000, 0_u64..100), 1..200),
    ) {
        let mut gradient = Gradient { limit: 20.0, unloaded: None };
        for (microseconds, peak, good, full) in windows {
            let latency = Duration::from_micros(microseconds);
            gradient = gradient.after(&Window { latency, peak, answers: good + full, full }, BOUNDS);
            prop_assert!((4.0..=1000.0).contains(&gradient.limit));
            prop_assert!(gradient.unloaded.is_some_and(f64::is_finite));
        }
    }
}
