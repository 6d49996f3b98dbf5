//! A model's route: its revisions, and which of them a request goes to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::ProtectionSpec;
use crate::endpoint::{Cause, Endpoint};
use crate::metrics::ModelMetrics;
use crate::protection::{RevisionState, RouteState};

/// A model and where it is served.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) model: Box<str>,
    pub(crate) revisions: Box<[Arc<Revision>]>,
    pub(crate) split: Split,
    pub(crate) timeout: Duration,
    pub(crate) max_body: u64,
    pub(crate) metrics: Arc<ModelMetrics>,
    pub(crate) protection: ProtectionSpec,
    pub(crate) state: Arc<RouteState>,
}

/// A version of a model that is served beside others.
#[derive(Debug)]
pub(crate) struct Revision {
    pub(crate) name: Box<str>,
    pub(crate) weight: u32,
    pub(crate) endpoints: Box<[Arc<Endpoint>]>,
    pub(crate) state: Arc<RevisionState>,
}

impl Route {
    /// The revision whose turn it is.
    pub(crate) fn revision(&self) -> &Arc<Revision> {
        &self.revisions[self.split.next()]
    }
}

/// At most so many of a revision's endpoints are out for failing, but always one of two or more. Envoy has 10 %, and at
/// least one; more are allowed here since an endpoint has to be worse than its peers to be put out.
const MAX_OUT_PERCENT: usize = 50;

impl Revision {
    /// Puts out an endpoint that is suspect because of a request that began at `began`: if a quarter of its peers in use
    /// fail less than a third as often, and not too many are out. When all fail alike, the requests or the model are to
    /// blame, and fewer endpoints would not help.
    pub(crate) fn put_out_if_worse(&self, suspect: &Arc<Endpoint>, began: Instant, now: Instant) {
        let _one_at_a_time = self
            .state
            .putting_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let failure_rate = suspect.failure_rate(now);
        let (mut in_use, mut better) = (0_usize, 0_usize);
        for peer in self.endpoints.iter().filter(|peer| !Arc::ptr_eq(peer, suspect)) {
            if peer.out_until().is_none() {
                in_use += 1;
                better += usize::from(peer.failure_rate(now) * 3.0 < failure_rate);
            }
        }
        let out = self.endpoints.len().saturating_sub(1 + in_use);
        let most = (self.endpoints.len() * MAX_OUT_PERCENT / 100).max(1);
        if in_use > 0 && out < most && better * 4 >= in_use {
            suspect.put_out(Cause::Failing, began, now);
        }
    }
}

/// Shares requests out by weight.
///
/// Turns are a Weyl sequence: the fractional parts of `n·φ` fill the unit interval evenly, so that after `n` requests each revision is within
/// `O(log n)` requests of its share, in whatever order they come (Kuipers & Niederreiter 1974, §2.3). Random turns would be off by `√n`.
#[derive(Debug)]
pub(crate) struct Split {
    /// The part of the unit interval, in units of 2⁻⁶⁴, up to the end of each revision's share; the last revision with a weight has the rest.
    up_to: Box<[u64]>,
    turn: AtomicU64,
}

/// 2⁶⁴ / φ: the step that leaves the smallest gaps.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Split {
    /// Shares by these weights, of which one is above 0.
    pub(crate) fn new(weights: impl Iterator<Item = u32> + Clone) -> Self {
        let sum: u128 = weights.clone().map(u128::from).sum();
        let mut before = 0;
        let up_to = weights.map(|weight| {
            before += u128::from(weight);
            let part = (before << 64) / sum.max(1);
            u64::try_from(part).unwrap_or(u64::MAX)
        });
        Self {
            up_to: up_to.collect(),
            turn: AtomicU64::new(0),
        }
    }

    /// The index of the revision whose turn it is.
    pub(crate) fn next(&self) -> usize {
        if self.up_to.len() == 1 {
            return 0;
        }
        self.at(self.turn.fetch_add(STEP, Ordering::Relaxed))
    }

    /// The index of the revision that a place in the unit interval, in units of 2⁻⁶⁴, belongs to: the same place, the same revision.
    pub(crate) fn at(&self, place: u64) -> usize {
        let place = place.min(u64::MAX - 1);
        self.up_to.partition_point(|up_to| *up_to <= place)
    }
}

#[cfg(test)]
mod tests {
    use plumbline_service::metrics::Metrics as Registry;

    use super::*;
    use crate::endpoint::tests::endpoint;
    use crate::endpoint::{Standing, Suspicion};
    use crate::metrics::Metrics;

    fn revision(endpoints: usize) -> Revision {
        let endpoint = |port| endpoint(&format!("http://127.0.0.1:{port}"));
        let metrics = Metrics::declare(&Registry::default());
        Revision {
            name: "stable".into(),
            weight: 1,
            endpoints: (1..=endpoints).map(endpoint).collect(),
            state: Arc::new(RevisionState::new("churn", "stable", &metrics)),
        }
    }

    /// Which of the endpoints are in use after those from `healthy` on have failed ten times in a row, by turns.
    fn in_use_after_failures(endpoints: usize, healthy: usize) -> Vec<bool> {
        let (revision, now) = (revision(endpoints), Instant::now());
        for _ in 0..10 {
            for (index, endpoint) in revision.endpoints.iter().enumerate() {
                if index < healthy {
                    endpoint.succeeded(now, now);
                } else if endpoint.failed(now, now) == Suspicion::Suspect {
                    revision.put_out_if_worse(endpoint, now, now);
                }
            }
        }
        let in_use = |endpoint: &Arc<Endpoint>| endpoint.standing(now) == Standing::InUse;
        revision.endpoints.iter().map(in_use).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_fails_more_than_its_peers_is_put_out() {
        assert_eq!(in_use_after_failures(4, 3), [true, true, true, false]);
        assert_eq!(in_use_after_failures(2, 1), [true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_half_are_put_out_and_never_the_last() {
        let in_use = in_use_after_failures(5, 3);
        assert_eq!(in_use, [true, true, true, false, false]);
        let in_use = in_use_after_failures(20, 8);
        assert_eq!(in_use.iter().filter(|in_use| !**in_use).count(), 10, "{in_use:?}");
        assert_eq!(in_use_after_failures(1, 0), [true]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_alike_none_is_put_out() {
        for endpoints in [2, 4, 10] {
            assert!(in_use_after_failures(endpoints, 0).iter().all(|in_use| *in_use));
        }
    }

    fn counts(weights: &[u32], turns: usize) -> Vec<usize> {
        let split = Split::new(weights.iter().copied());
        let mut counts = vec![0; weights.len()];
        for _ in 0..turns {
            counts[split.next()] += 1;
        }
        counts
    }

    #[test]
    fn shares_are_exact_to_a_few_requests() {
        for weights in [
            &[1][..],
            &[90, 10],
            &[1, 99],
            &[50, 0, 50],
            &[0, 0, 7],
            &[7, 0],
            &[1, 2, 3, 4],
            &[u32::MAX, 1],
        ] {
            let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for turns in [100, 10_000] {
                let counts = counts(weights, turns);
                for (count, weight) in counts.iter().zip(weights) {
                    let share = f64::from(*weight) / sum * turns as f64;
                    assert!((*count as f64 - share).abs() <= 5.0, "{weights:?}: {counts:?}");
                    assert!(*weight > 0 || *count == 0, "{weights:?}: {counts:?}");
                }
            }
        }
    }

    #[test]
    fn every_place_belongs_to_a_revision_with_a_weight() {
        let split = Split::new([0, 3, 0, 1, 0].into_iter());
        for place in [0, 1, u64::MAX / 2, u64::MAX / 4 * 3 + 8, u64::MAX - 1, u64::MAX] {
            assert!([1, 3].contains(&split.at(place)), "{place}");
        }
        assert_eq!((split.at(0), split.at(u64::MAX)), (1, 3));
    }
}
