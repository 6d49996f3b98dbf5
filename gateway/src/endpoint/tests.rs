use plumbline_service::config::ParseSetting as _;
use plumbline_service::metrics::Metrics as Registry;

use super::*;

pub(crate) fn endpoint(url: &str) -> Arc<Endpoint> {
    let means = Means::new(Metrics::declare(&Registry::default()), Options::default());
    let target = Target::parse_setting(url).expect("an endpoint");
    Arc::new(Endpoint::new(target, Arc::new(means)))
}

/// Instead of one that is idle.
fn cost(endpoint: &Endpoint, now: Instant) -> f64 {
    let idle = self::endpoint("http://127.0.0.1:2");
    endpoint
        .bid(now, Duration::ZERO)
        .cost(&idle.bid(now, Duration::ZERO))
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn it_is_out_for_longer_each_time_a_probe_fails_and_back_with_one_answer() {
    let endpoint = endpoint("http://127.0.0.1:1");
    let mut now = Instant::now();
    for expected in [1.0, 2.0, 4.0, 4.0, 4.0] {
        endpoint.put_out(Cause::Unreachable, now, now);
        let (until, cause) = endpoint.out_until().expect("out");
        let out = (until - now).as_secs_f64();
        assert!(
            (0.75 * expected..=1.25 * expected).contains(&out),
            "{out} of {expected}"
        );
        assert_eq!(cause, Cause::Unreachable);
        assert_eq!(endpoint.standing(until - MS), Standing::Out);
        assert_eq!(endpoint.standing(until), Standing::ProbeDue);
        assert!(endpoint.claim_probe(until - MS).is_none(), "not before its time");
        let probe = endpoint.claim_probe(until).expect("due");
        assert_eq!(endpoint.standing(until), Standing::Out);
        assert!(endpoint.claim_probe(until).is_none(), "one at a time");
        drop(probe);
        now = until;
    }
    assert_eq!(endpoint.used().metrics.ejections.get(), 5);
    endpoint.succeeded(now - 60 * SECOND, now);
    assert_eq!(
        endpoint.standing(now),
        Standing::ProbeDue,
        "an answer from before says nothing"
    );
    endpoint.succeeded(now, now);
    assert_eq!(
        (endpoint.standing(now), endpoint.used().metrics.ejected.get()),
        (Standing::InUse, 0)
    );
    assert!(
        endpoint.claim_probe(now + SECOND).is_none(),
        "nothing to find out"
    );
    assert_eq!(endpoint.standing(now), Standing::InUse);
    endpoint.put_out(Cause::Failing, now, now);
    let (until, _) = endpoint.out_until().expect("out");
    assert!(until - now <= Duration::from_millis(1250), "the count began anew");
}

#[tokio::test(start_paused = true)]
async fn of_requests_that_fail_together_one_counts() {
    let endpoint = endpoint("http://127.0.0.1:1");
    let (began, now) = (Instant::now(), Instant::now() + SECOND);
    for _ in 0..100 {
        endpoint.put_out(Cause::Unreachable, began, now);
    }
    assert_eq!(endpoint.used().metrics.ejections.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_are_suspect() {
    let endpoint = endpoint("http://127.0.0.1:1");
    let now = Instant::now();
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(endpoint.failed(now, now), Suspicion::None);
        }
        assert_eq!(endpoint.failed(now, now), Suspicion::Suspect);
        (0..100).for_each(|_| endpoint.succeeded(now, now));
    }
}

#[tokio::test(start_paused = true)]
async fn fewer_than_four_of_five_within_the_window_are_suspect() {
    let endpoint = endpoint("http://127.0.0.1:1");
    let mut now = Instant::now();
    let mut suspect = 0;
    for _ in 0..2 {
        // One of four fails: never two in a row.
        for turn in 0..40 {
            if turn % 4 == 3 {
                suspect += usize::from(endpoint.failed(now, now) == Suspicion::Suspect);
            } else {
                endpoint.succeeded(now, now);
            }
        }
        // 20 answers are needed, which the fifth failure is the last of.
        assert_eq!(std::mem::take(&mut suspect), 6);
        assert!((endpoint.failure_rate(now) - 0.25).abs() < 1e-9);
        now += 11 * SECOND;
        assert_eq!(endpoint.failure_rate(now), 0.0, "forgotten");
    }
}

#[tokio::test(start_paused = true)]
async fn its_share_grows_within_the_window_after_it_was_new_or_came_back() {
    let endpoint = endpoint("http://127.0.0.1:1");
    let start = Instant::now();
    let ramp = |now: Instant| endpoint.ramp(now, 10 * SECOND);
    assert_eq!(
        (ramp(start), ramp(start + 5 * SECOND), ramp(start + 10 * SECOND)),
        (0.1, 0.5, 1.0)
    );
    assert_eq!(endpoint.ramp(start, Duration::ZERO), 1.0);
    let back = start + 60 * SECOND;
    endpoint.put_out(Cause::Failing, start, start);
    endpoint.succeeded(back, back);
    assert_eq!((ramp(back), ramp(back + 3 * SECOND)), (0.1, 0.3));
}

#[tokio::test(start_paused = true)]
async fn cost_grows_with_latency_and_with_requests_that_wait() {
    let endpoint = endpoint("http://127.0.0.1:1");
    let now = Instant::now();
    assert_eq!(cost(&endpoint, now), 0.0);
    let mut first = endpoint.begin(now);
    assert_eq!(cost(&endpoint, now), 2.5e9);
    first.waits_no_more();
    endpoint.answered(2 * MS, now);
    assert_eq!(cost(&endpoint, now), 5e6);
    drop(first);
    assert_eq!(cost(&endpoint, now), 2e6);
    assert_eq!(
        (endpoint.pending(), endpoint.used().metrics.pending.get()),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn of_equals_the_one_with_fewer_requests_is_cheaper_and_an_idle_slow_one_is_not() {
    let now = Instant::now();
    let with = |latency: Duration, pending: usize| {
        let endpoint = endpoint("http://127.0.0.1:1");
        endpoint.answered(latency, now);
        let requests: Vec<Pending> = (0..pending).map(|_| endpoint.begin(now)).collect();
        let bid = endpoint.bid(now, Duration::ZERO);
        drop(requests);
        bid
    };
    let cheaper = |a: &Bid, b: &Bid| a.cost(b) < b.cost(a);
    assert!(cheaper(&with(2 * MS, 3), &with(2 * MS, 4)));
    assert!(cheaper(&with(2 * MS, 50), &with(20 * MS, 0)), "ten times slower");
    assert!(
        cheaper(&with(5 * MS, 0), &with(2 * MS, 50)),
        "less than three times slower, and idle"
    );
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_hangs_becomes_dearer_with_time() {
    let endpoint = endpoint("http://127.0.0.1:1");
    let now = Instant::now();
    endpoint.answered(2 * MS, now);
    let hanging = endpoint.begin(now + SECOND);
    assert_eq!(cost(&endpoint, now + SECOND), 5e6, "no decay while it is asked");
    assert_eq!(cost(&endpoint, now + 4 * SECOND), 7.5e9);
    drop(hanging);
    assert!(endpoint.kept_waiting(3 * SECOND, now + 4 * SECOND));
    assert_eq!(cost(&endpoint, now + 4 * SECOND), 3e9);
    assert!(!endpoint.kept_waiting(MS, now + 4 * SECOND));
    assert_eq!(
        cost(&endpoint, now + 4 * SECOND),
        3e9,
        "who leaves early proves nothing"
    );
}
