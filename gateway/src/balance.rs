//! Which endpoint gets a request: the cheaper of two random ones.

use std::sync::Arc;

use tokio::time::Instant;

use crate::endpoint::Endpoint;

/// Chooses between two random endpoints by cost (power of two choices; Mitzenmacher 2001), skipping those that could
/// not be reached a short time ago while there is another, and those in `tried`, which have failed this very request.
///
/// Nothing is returned only when every endpoint has been tried.
pub(crate) fn choose<'a>(
    endpoints: &'a [Arc<Endpoint>],
    tried: &[Arc<Endpoint>],
    now: Instant,
) -> Option<&'a Arc<Endpoint>> {
    match endpoints {
        [only] if tried.is_empty() => return Some(only),
        [] | [_] => return None,
        _ => {}
    }
    let first = fastrand::usize(..endpoints.len());
    let second = (first + 1 + fastrand::usize(..endpoints.len() - 1)) % endpoints.len();
    let usable = |endpoint: &Arc<Endpoint>| !is_in(tried, endpoint) && !endpoint.is_avoided(now);
    let (a, b) = (&endpoints[first], &endpoints[second]);
    match (usable(a), usable(b)) {
        (true, true) => Some(if b.cost(now) < a.cost(now) { b } else { a }),
        (true, false) => Some(a),
        (false, true) => Some(b),
        // Rare: look at all of them, from a random place so that their load stays even.
        (false, false) => {
            let all = || endpoints[first..].iter().chain(&endpoints[..first]);
            all()
                .find(|endpoint| usable(endpoint))
                .or_else(|| all().find(|endpoint| !is_in(tried, endpoint)))
        }
    }
}

fn is_in(tried: &[Arc<Endpoint>], endpoint: &Arc<Endpoint>) -> bool {
    tried.iter().any(|other| Arc::ptr_eq(other, endpoint))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::endpoint::tests::endpoint;

    fn endpoints(count: usize) -> Vec<Arc<Endpoint>> {
        (1..=count)
            .map(|port| endpoint(&format!("http://127.0.0.1:{port}")))
            .collect()
    }

    fn shares(endpoints: &[Arc<Endpoint>], tried: &[Arc<Endpoint>], now: Instant) -> Vec<usize> {
        let mut shares = vec![0; endpoints.len()];
        for _ in 0..10_000 {
            let chosen = choose(endpoints, tried, now).expect("an endpoint");
            let index = endpoints
                .iter()
                .position(|endpoint| Arc::ptr_eq(endpoint, chosen));
            shares[index.expect("one of them")] += 1;
        }
        shares
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_of_four_is_never_chosen_and_the_fastest_gets_half() {
        let endpoints = endpoints(4);
        let now = Instant::now();
        for (endpoint, milliseconds) in endpoints.iter().zip([1, 2, 3, 40]) {
            endpoint.answered(Duration::from_millis(milliseconds), now);
        }
        let shares = shares(&endpoints, &[], now);
        // Of the 6 pairs the fastest is in 3, the next wins 2, the third 1: 5,000, 3,333, 1,667; ±5 standard errors.
        assert!(shares[0].abs_diff(5_000) < 250, "{shares:?}");
        assert!(shares[1].abs_diff(3_333) < 250, "{shares:?}");
        assert_eq!(shares[3], 0, "{shares:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn avoided_and_tried_endpoints_are_skipped_while_there_is_another() {
        let endpoints = endpoints(3);
        let now = Instant::now();
        endpoints[0].unreachable(now);
        let shares = shares(&endpoints, &endpoints[1..2], now);
        assert_eq!(shares, [0, 0, 10_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_endpoint_is_never_avoided() {
        let endpoints = endpoints(2);
        let now = Instant::now();
        for endpoint in &endpoints {
            endpoint.unreachable(now);
        }
        assert!(choose(&endpoints, &[], now).is_some());
        assert!(Arc::ptr_eq(
            choose(&endpoints, &endpoints[..1], now).expect("the other"),
            &endpoints[1]
        ));
        assert!(choose(&endpoints, &endpoints, now).is_none());
        assert!(choose(&endpoints[..1], &endpoints[..1], now).is_none());
        endpoints[0].unreachable(now);
        assert!(choose(&endpoints[..1], &[], now).is_some());
    }
}
