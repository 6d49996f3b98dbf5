//! Which endpoint gets a request: the cheaper of two random ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::{Endpoint, Probe, Standing};

/// An endpoint, and why it.
#[derive(Debug)]
pub(crate) struct Choice<'a> {
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) reason: Reason,
}

#[derive(Debug)]
pub(crate) enum Reason {
    /// It is in use.
    Cheaper,
    /// It is out, and this request finds out whether it is well again.
    Probe(Probe),
    /// Every endpoint is out, and one is better than none.
    LastResort,
}

/// Chooses between two random endpoints by cost (power of two choices; Mitzenmacher 2001). Those in `tried`, which have
/// failed this very request, are skipped; those that are out are too while another is in use, except for the one
/// request that probes. An endpoint that is new or back is passed over as often as its share is still to grow, while
/// the other of the two is further on.
///
/// Nothing is returned only when every endpoint has been tried. Two endpoints are looked at, however many there are; a
/// third when one of them is so slow that there was no choice, more only when both are out.
pub(crate) fn choose<'a>(
    endpoints: &'a [Arc<Endpoint>],
    tried: &[Arc<Endpoint>],
    slow_start: Duration,
    now: Instant,
) -> Option<Choice<'a>> {
    let choice = |endpoint, reason| Some(Choice { endpoint, reason });
    if let [only] = endpoints {
        if !tried.is_empty() {
            return None;
        }
        let reason = match only.standing(now) {
            Standing::InUse => Reason::Cheaper,
            Standing::ProbeDue => only.claim_probe(now).map_or(Reason::LastResort, Reason::Probe),
            Standing::Out => Reason::LastResort,
        };
        return choice(only, reason);
    }
    if endpoints.is_empty() {
        return None;
    }
    let (first, second) = two_of(endpoints.len());
    let untried = |endpoint: &Arc<Endpoint>| !tried.iter().any(|other| Arc::ptr_eq(other, endpoint));
    let mut in_use = [None, None];
    for (slot, endpoint) in in_use.iter_mut().zip([&endpoints[first], &endpoints[second]]) {
        if !untried(endpoint) {
            continue;
        }
        match endpoint.standing(now) {
            Standing::InUse => *slot = Some(endpoint),
            Standing::ProbeDue => {
                if let Some(probe) = endpoint.claim_probe(now) {
                    return choice(endpoint, Reason::Probe(probe));
                }
            }
            Standing::Out => {}
        }
    }
    match in_use {
        [Some(a), Some(b)] => {
            let (better, is_alone) = better(a, b, slow_start, now);
            let third = (is_alone && endpoints.len() > 2)
                .then(|| &endpoints[third(endpoints.len(), first, second)])
                .filter(|third| untried(third) && matches!(third.standing(now), Standing::InUse));
            let best = third.map_or(better, |third| self::better(better, third, slow_start, now).0);
            choice(best, Reason::Cheaper)
        }
        [Some(one), None] | [None, Some(one)] => choice(one, Reason::Cheaper),
        // Rare: look at all of them, from a random place so that their load stays even.
        [None, None] => {
            let all = || endpoints[first..].iter().chain(&endpoints[..first]);
            for endpoint in all().filter(|endpoint| untried(endpoint)) {
                match endpoint.standing(now) {
                    Standing::InUse => return choice(endpoint, Reason::Cheaper),
                    Standing::ProbeDue => {
                        if let Some(probe) = endpoint.claim_probe(now) {
                            return choice(endpoint, Reason::Probe(probe));
                        }
                    }
                    Standing::Out => {}
                }
            }
            let endpoint = all().find(|endpoint| untried(endpoint))?;
            choice(endpoint, Reason::LastResort)
        }
    }
}

/// Two different places below `count`, which is 2 or more, from one random number: its halves, scaled (Lemire 2019).
/// Their shares are off by less than `count`/2³².
fn two_of(count: usize) -> (usize, usize) {
    let random = fastrand::u64(..);
    let below = |half: u64, count: usize| ((half * count as u64) >> 32) as usize;
    let first = below(random >> 32, count);
    let second = below(random & u64::from(u32::MAX), count - 1);
    (first, second + usize::from(second >= first))
}

/// A random place below `count` that is neither `first` nor `second`.
fn third(count: usize, first: usize, second: usize) -> usize {
    let (low, high) = (first.min(second), first.max(second));
    let place = fastrand::usize(..count - 2);
    let place = place + usize::from(place >= low);
    place + usize::from(place >= high)
}

/// The better one of two, and whether the other is so slow that there was no choice.
fn better<'a>(
    a: &'a Arc<Endpoint>,
    b: &'a Arc<Endpoint>,
    slow_start: Duration,
    now: Instant,
) -> (&'a Arc<Endpoint>, bool) {
    let (bid_a, bid_b) = (a.bid(now, slow_start), b.bid(now, slow_start));
    let (share_a, share_b) = (bid_a.share, bid_b.share);
    // Relative to the other: when all are new, all are equal.
    if share_a != share_b && fastrand::f64() >= share_a.min(share_b) / share_a.max(share_b) {
        return (if share_a > share_b { a } else { b }, false);
    }
    if bid_b.cost(&bid_a) < bid_a.cost(&bid_b) {
        (b, bid_a.is_far_slower_than(&bid_b))
    } else {
        (a, bid_b.is_far_slower_than(&bid_a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Cause;
    use crate::endpoint::tests::endpoint;
    use crate::outcome::PENALTY;

    const SLOW_START: Duration = Duration::from_secs(10);

    fn endpoints(count: usize) -> Vec<Arc<Endpoint>> {
        (1..=count)
            .map(|port| endpoint(&format!("http://127.0.0.1:{port}")))
            .collect()
    }

    fn index(endpoints: &[Arc<Endpoint>], chosen: &Arc<Endpoint>) -> usize {
        let place = endpoints
            .iter()
            .position(|endpoint| Arc::ptr_eq(endpoint, chosen));
        place.expect("one of them")
    }

    fn shares(endpoints: &[Arc<Endpoint>], tried: &[Arc<Endpoint>], now: Instant) -> Vec<usize> {
        let mut shares = vec![0; endpoints.len()];
        for _ in 0..10_000 {
            let chosen = choose(endpoints, tried, SLOW_START, now).expect("an endpoint");
            shares[index(endpoints, chosen.endpoint)] += 1;
        }
        shares
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_of_four_is_never_chosen_and_the_fastest_gets_most() {
        let endpoints = endpoints(4);
        let now = Instant::now();
        for (endpoint, milliseconds) in endpoints.iter().zip([2, 3, 4, 40]) {
            endpoint.answered(Duration::from_millis(milliseconds), now);
        }
        let shares = shares(&endpoints, &[], now);
        // Of the 6 pairs the fastest wins 3 and the next 1; the two without a choice beside the slowest get a third, which is the
        // fastest or the next: 6,667 and 3,333; ±5 standard errors.
        assert!(shares[0].abs_diff(6_667) < 250, "{shares:?}");
        assert!(shares[1].abs_diff(3_333) < 250, "{shares:?}");
        assert_eq!(shares[3], 0, "{shares:?}");
    }

    #[test]
    fn a_third_is_any_of_the_others() {
        for (first, second) in [(0, 1), (3, 0), (2, 3), (1, 2)] {
            let mut seen = [0; 4];
            for _ in 0..1_000 {
                seen[third(4, first, second)] += 1;
            }
            assert_eq!((seen[first], seen[second]), (0, 0));
            let others = seen.iter().filter(|count| **count > 400).count();
            assert_eq!(others, 2, "{seen:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_well_ones_share_evenly_beside_a_slow_one() {
        let endpoints = endpoints(4);
        let now = Instant::now();
        for (endpoint, milliseconds) in endpoints.iter().zip([5, 5, 5, 50]) {
            endpoint.answered(Duration::from_millis(milliseconds), now);
        }
        // One is busier: with two to choose from it is the only well one in a sixth of all pairs.
        let _busy: Vec<_> = (0..3).map(|_| endpoints[0].begin(now)).collect();
        let shares = shares(&endpoints, &[], now);
        assert_eq!(shares[3], 0, "{shares:?}");
        assert_eq!(shares[0], 0, "there is always another choice: {shares:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_that_are_out_or_tried_are_skipped_while_there_is_another() {
        let endpoints = endpoints(3);
        let now = Instant::now();
        endpoints[0].put_out(Cause::Unreachable, now, now);
        let shares = shares(&endpoints, &endpoints[1..2], now);
        assert_eq!(shares, [0, 0, 10_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_out_one_is_still_tried() {
        let endpoints = endpoints(2);
        let now = Instant::now();
        for endpoint in &endpoints {
            endpoint.put_out(Cause::Unreachable, now, now);
        }
        let choose = |endpoints, tried| choose(endpoints, tried, SLOW_START, now);
        let chosen = choose(&endpoints, &[]).expect("one");
        assert!(matches!(chosen.reason, Reason::LastResort));
        let other = choose(&endpoints, &endpoints[..1]).expect("the other");
        assert_eq!(index(&endpoints, other.endpoint), 1);
        assert!(choose(&endpoints, &endpoints).is_none());
        assert!(choose(&endpoints[..1], &endpoints[..1]).is_none());
        assert!(choose(&[], &[]).is_none());
        let only = choose(&endpoints[..1], &[]).expect("the only one");
        assert!(matches!(only.reason, Reason::LastResort));
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_at_a_time_probes() {
        for count in [1, 2, 50] {
            let endpoints = endpoints(count);
            let start = Instant::now();
            for endpoint in &endpoints {
                endpoint.put_out(Cause::Failing, start, start);
            }
            let now = start + Duration::from_secs(2);
            for _ in 0..2 {
                let mut probes = Vec::new();
                for _ in 0..1_000 {
                    let chosen = choose(&endpoints, &[], SLOW_START, now).expect("one");
                    if let Reason::Probe(probe) = chosen.reason {
                        probes.push(probe);
                    }
                }
                assert_eq!(
                    probes.len(),
                    count,
                    "one for each endpoint, and again when those have come to nothing"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_endpoint_gets_a_share_that_grows_and_nobody_starves_when_all_are_new() {
        let start = Instant::now();
        let mut endpoints = endpoints(3);
        let even = shares(&endpoints, &[], start);
        assert!(even.iter().all(|share| share.abs_diff(3_333) < 250), "{even:?}");
        tokio::time::advance(Duration::from_mins(1)).await;
        endpoints.push(endpoint("http://127.0.0.1:4"));
        let born = Instant::now();
        for (after, expected) in [(0, 250), (2, 500), (4, 1_000), (10, 2_500)] {
            let shares = shares(&endpoints, &[], born + Duration::from_secs(after));
            // In half of the pairs, and even in those: the ramp's part of a quarter; ±5 standard errors at most.
            assert!(shares[3].abs_diff(expected) < 220, "after {after} s: {shares:?}");
        }
    }

    /// Requests come one by one, every 5 ms; the fourth endpoint refuses at once.
    #[tokio::test(start_paused = true)]
    async fn a_replica_that_refuses_at_once_gets_less_than_three_of_a_hundred() {
        let endpoints = endpoints(4);
        let mut refused = 0;
        for _ in 0..10_000 {
            tokio::time::advance(Duration::from_millis(5)).await;
            let now = Instant::now();
            let chosen = choose(&endpoints, &[], SLOW_START, now).expect("one");
            if index(&endpoints, chosen.endpoint) == 3 {
                refused += 1;
                chosen.endpoint.penalize(PENALTY, now);
            } else {
                chosen.endpoint.answered(Duration::from_millis(10), now);
            }
        }
        assert!(refused > 0 && refused < 300, "{refused} of 10,000");
    }

    /// Half of what four endpoints can do, for 20 s: one request in 0.625 ms, which takes 7 ms, and 50 ms at the fourth.
    #[tokio::test(start_paused = true)]
    async fn an_idle_slow_replica_is_not_preferred_to_busy_ones() {
        let endpoints = endpoints(4);
        let mut under_way: Vec<(Instant, Instant, usize, crate::endpoint::Pending)> = Vec::new();
        let (mut slow, mut all) = (0, 0);
        let mut random = fastrand::Rng::with_seed(11);
        for turn in 0..32_000 {
            // Exponential gaps: bursts at one replica are what makes an idle one look cheap.
            let gap = -0.625e-3 * (1.0 - random.f64()).ln();
            tokio::time::advance(Duration::from_secs_f64(gap)).await;
            let now = Instant::now();
            under_way.retain(|(begun, until, place, _)| {
                if *until <= now {
                    endpoints[*place].answered(*until - *begun, now);
                }
                *until > now
            });
            let chosen = choose(&endpoints, &[], Duration::ZERO, now).expect("one");
            let place = index(&endpoints, chosen.endpoint);
            // The first seconds are those in which it is found out.
            if turn > 4_800 {
                all += 1;
                slow += usize::from(place == 3);
            }
            let took = Duration::from_millis(if place == 3 { 50 } else { 7 });
            under_way.push((now, now + took, place, endpoints[place].begin(now)));
        }
        assert!(slow * 200 < all, "less than one of 200: {slow} of {all}");
    }

    /// As above; the fourth endpoint is ten times slower, for 30 s.
    #[tokio::test(start_paused = true)]
    async fn a_slow_replica_is_avoided_and_found_again_within_five_seconds() {
        let endpoints = endpoints(4);
        let (mut slow, mut healed_at, mut back_at) = (0, None, None);
        for turn in 0..10_000 {
            tokio::time::advance(Duration::from_millis(5)).await;
            let now = Instant::now();
            let ill = turn < 6_000;
            let chosen = choose(&endpoints, &[], SLOW_START, now).expect("one");
            let fourth = index(&endpoints, chosen.endpoint) == 3;
            slow += usize::from(fourth && ill);
            if !ill {
                healed_at.get_or_insert(now);
                if fourth {
                    back_at.get_or_insert(now);
                }
            }
            let took = if fourth && ill { 100 } else { 10 };
            chosen.endpoint.answered(Duration::from_millis(took), now);
        }
        assert!(slow < 60, "less than one of a hundred: {slow} of 6,000");
        let back = back_at.expect("asked again") - healed_at.expect("healed");
        assert!(back <= Duration::from_secs(5), "{back:?}");
    }
}
