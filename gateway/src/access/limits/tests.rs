use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::access::policy::Pattern;

fn counter() -> IntCounter {
    IntCounter::new("forgotten", "Not registered.").expect("a name")
}

fn quota(requests: u64, period: Duration, burst: u64) -> Quota {
    Quota::new("test", requests, period, burst).expect("a quota")
}

fn limits(requests: u64, burst: u64) -> Limits {
    let limit = Limit {
        who: None,
        models: Models(vec![Pattern::parse("*").expect("a pattern")]),
        quota: quota(requests, Duration::from_secs(1), burst),
    };
    Limits::new(vec![limit], counter())
}

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[test]
fn a_burst_passes_and_then_the_rate() {
    let limits = limits(10, 3);
    let check = |milliseconds| limits.check(None, HOME, "churn", Duration::from_millis(milliseconds));
    for left in [2, 1, 0] {
        let Checked::Within(standing) = check(1_000) else {
            panic!("within the burst");
        };
        assert_eq!(standing.policy, "\"test\";q=3;w=1");
        assert_eq!(standing.ratelimit, format!("\"test\";r={left};t=1"));
    }
    let Checked::Beyond {
        standing,
        retry_after,
    } = check(1_040)
    else {
        panic!("beyond the burst");
    };
    assert_eq!(
        (standing.ratelimit.to_str().ok(), retry_after),
        (Some("\"test\";r=0;t=1"), Duration::from_millis(60))
    );
    assert!(matches!(check(1_099), Checked::Beyond { .. }));
    assert!(
        matches!(check(1_100), Checked::Within(_)),
        "after what it was told to wait"
    );
    assert!(matches!(check(1_100), Checked::Beyond { .. }));
}

#[test]
fn clients_and_models_have_allowances_of_their_own() {
    let limits = limits(1, 1);
    let ann = Principal::new("ann", []).expect("a principal");
    let within = |principal: Option<&Principal>, address: &str, model| {
        let address = address.parse().expect("an address");
        matches!(
            limits.check(principal, address, model, Duration::ZERO),
            Checked::Within(_)
        )
    };
    assert!(within(None, "192.0.2.1", "churn"));
    assert!(!within(None, "::ffff:192.0.2.1", "churn"), "the same address");
    assert!(within(None, "192.0.2.1", "iris"));
    assert!(within(None, "192.0.2.2", "churn"));
    assert!(within(None, "2001:db8::1", "churn"));
    assert!(!within(None, "2001:db8::ffff:2", "churn"), "the same /64");
    assert!(within(Some(&ann), "192.0.2.1", "churn"));
    assert!(
        !within(Some(&ann), "192.0.2.9", "churn"),
        "wherever it comes from"
    );
}

#[test]
fn time_may_wrap_and_what_has_passed_is_forgotten() {
    let quota = quota(1, Duration::from_secs(1), 2);
    let buckets = Buckets::new(1, quota.refill(), counter());
    let just_before = TIME - 500_000;
    assert_eq!(buckets.charge(1 << 50, &quota, just_before), (1_000_000, true));
    assert_eq!(buckets.charge(1 << 50, &quota, just_before), (2_000_000, true));
    assert_eq!(
        buckets.charge(1 << 50, &quota, just_before + 900_000),
        (1_100_000, false)
    );
    assert_eq!(
        buckets.charge(1 << 50, &quota, just_before + 1_000_000),
        (2_000_000, true)
    );
    // After half a turn of the clock the bucket must not look used up for months.
    assert_eq!(
        buckets.charge(1 << 50, &quota, just_before + TIME / 2),
        (1_000_000, true)
    );
}

#[test]
fn a_full_set_forgets_the_least_used_and_counts_it() {
    let quota = quota(1, Duration::from_secs(1), 3);
    let forgotten = counter();
    let buckets = Buckets::new(1, quota.refill(), forgotten.clone());
    let hash = |client: u64| client << TIME_BITS;
    for client in 1..=WAYS as u64 {
        buckets.charge(hash(client), &quota, 0);
        buckets.charge(hash(client), &quota, 0);
    }
    assert_eq!(forgotten.get(), 0);
    assert_eq!(buckets.charge(hash(99), &quota, 0), (1_000_000, true));
    assert_eq!(forgotten.get(), 1);
    // The newcomer has used the least: it makes room for the next.
    buckets.charge(hash(98), &quota, 0);
    assert_eq!(forgotten.get(), 2);
    assert_eq!(
        buckets.charge(hash(8), &quota, 0),
        (3_000_000, true),
        "still known"
    );
    assert_eq!(buckets.charge(hash(8), &quota, 0), (3_000_000, false));
    // Once everything has passed, nothing is lost.
    for client in 100..100 + WAYS as u64 {
        buckets.charge(hash(client), &quota, 10_000_000);
    }
    assert_eq!(forgotten.get(), 2);
}

#[test]
fn threads_share_an_allowance_exactly() {
    let limits = Arc::new(limits(1, 500));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let limits = Arc::clone(&limits);
            std::thread::spawn(move || {
                let within = |_: &u32| {
                    matches!(
                        limits.check(None, HOME, "churn", Duration::ZERO),
                        Checked::Within(_)
                    )
                };
                (0..1_000).filter(within).count()
            })
        })
        .collect();
    let admitted: usize = threads
        .into_iter()
        .map(|thread| thread.join().expect("ends"))
        .sum();
    assert_eq!(admitted, 500);
}

#[test]
fn quotas_that_no_clock_can_keep_are_refused() {
    assert!(Quota::new("a", 2_000_000, Duration::from_secs(1), 1).is_none());
    assert!(Quota::new("a", 1, Duration::from_hours(1), 25).is_none());
    assert!(Quota::new("a", 1, Duration::from_secs(1), 0).is_none());
    assert!(Quota::new("a", 0, Duration::from_secs(1), 1).is_none());
}

proptest! {
    /// In no window do more than `burst + t / interval` requests pass, and none waits longer than it was told to.
    #[test]
    fn never_more_than_the_rate_and_a_burst(
        requests in 1_u64..5_000,
        burst in 1_u64..50,
        steps in prop::collection::vec(0_u64..400_000, 1..300),
    ) {
        let quota = quota(requests, Duration::from_secs(1), burst);
        let buckets = Buckets::new(1, quota.refill(), counter());
        let (mut now, mut admitted) = (0, Vec::new());
        for step in steps {
            // Bursts of requests at one time, and waits.
            now += if step % 3 == 0 { 0 } else { step };
            let (ahead, within) = buckets.charge(7 << TIME_BITS, &quota, now);
            prop_assert!(ahead <= quota.refill());
            if within {
                admitted.push(now);
            } else {
                let wait = ahead + quota.interval - quota.refill();
                let (_, earlier) = buckets.charge(7 << TIME_BITS, &quota, now + wait - 1);
                prop_assert!(!earlier, "told to wait for {wait}");
                now += wait;
                let (_, then) = buckets.charge(7 << TIME_BITS, &quota, now);
                prop_assert!(then);
                admitted.push(now);
            }
        }
        for (first, start) in admitted.iter().enumerate() {
            for (count, end) in admitted[first..].iter().enumerate() {
                let most = burst + (end - start) / quota.interval;
                prop_assert!((count as u64) < most, "{} in {}", count + 1, end - start);
            }
        }
    }
}
