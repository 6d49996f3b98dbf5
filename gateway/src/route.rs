//! A model's route: its revisions, and which of them a request goes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};

use crate::call::Family;
use crate::config::RouteSpec;
use crate::endpoint::Endpoint;
use crate::metrics::ModelMetrics;

/// A model and where it is served.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) model: Box<str>,
    /// What it was built from.
    pub(crate) spec: Arc<RouteSpec>,
    pub(crate) revisions: Box<[Revision]>,
    pub(crate) split: Split,
    pub(crate) timeout: Duration,
    pub(crate) max_body: u64,
    pub(crate) metrics: Arc<ModelMetrics>,
}

/// A version of a model that is served beside others.
#[derive(Debug)]
pub(crate) struct Revision {
    pub(crate) name: Box<str>,
    pub(crate) weight: u32,
    pub(crate) endpoints: Box<[Arc<Endpoint>]>,
    /// Where gRPC goes when it has ports of its own; none when it goes to `endpoints`.
    pub(crate) grpc_endpoints: Box<[Arc<Endpoint>]>,
    /// Set on each request to an endpoint.
    pub(crate) headers: Box<[(HeaderName, HeaderValue)]>,
}

impl Revision {
    /// Where calls of a family go.
    pub(crate) fn endpoints(&self, family: Family) -> &[Arc<Endpoint>] {
        match family {
            Family::Grpc if !self.grpc_endpoints.is_empty() => &self.grpc_endpoints,
            Family::Grpc | Family::V1 | Family::V2 | Family::Other => &self.endpoints,
        }
    }
}

impl Route {
    /// The revision whose turn it is.
    pub(crate) fn revision(&self) -> &Revision {
        &self.revisions[self.split.next()]
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
    use super::Split;

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
