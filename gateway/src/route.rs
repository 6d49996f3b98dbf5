//! A model's route: its revisions, and which of them a request goes to.

pub(crate) mod sticky;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus::IntCounter;
use tokio::time::Instant;

use crate::call::Family;
use crate::config::{Condition, RouteSpec};
use crate::endpoint::{Cause, Endpoint, Endpoints, Standing};
use crate::metrics::ModelMetrics;
use crate::mirror::Mirror;
use crate::protection::{RevisionState, RouteState};

/// A model and where it is served.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) model: Box<str>,
    /// What it was built from, and is as long as nobody wants another.
    pub(crate) spec: Arc<RouteSpec>,
    /// What of it could not be honoured.
    pub(crate) conditions: Box<[Condition]>,
    /// In the form of [`crate::host::normal`].
    pub(crate) hosts: Box<[Arc<str>]>,
    pub(crate) revisions: Box<[Arc<Revision>]>,
    pub(crate) split: Split,
    pub(crate) matches: Box<[HeaderMatch]>,
    pub(crate) fallback: Option<Fallback>,
    pub(crate) mirror: Option<Arc<Mirror>>,
    pub(crate) metrics: Arc<ModelMetrics>,
    pub(crate) state: Arc<RouteState>,
}

/// A version of a model that is served beside others.
#[derive(Debug)]
pub(crate) struct Revision {
    pub(crate) name: Box<str>,
    /// 0 when the guard has stopped it.
    pub(crate) weight: u32,
    /// When the guard has stopped it, milliseconds since 1970.
    pub(crate) stopped: Option<i64>,
    pub(crate) endpoints: Endpoints,
    /// Set on each request to an endpoint.
    pub(crate) headers: Box<[(HeaderName, HeaderValue)]>,
    /// What its draws for sticky requests follow from.
    pub(crate) seed: u64,
    pub(crate) state: Arc<RevisionState>,
}

/// Requests with this header value go to this revision.
#[derive(Debug)]
pub(crate) struct HeaderMatch {
    pub(crate) header: HeaderName,
    pub(crate) value: HeaderValue,
    /// Its index.
    pub(crate) revision: usize,
}

/// The revision that stands in for one without an endpoint to use.
#[derive(Debug)]
pub(crate) struct Fallback {
    /// Its index.
    pub(crate) revision: usize,
    pub(crate) used: IntCounter,
}

/// At most so many of a revision's endpoints are out for failing, but always one of two or more. Envoy has 10 %, and at
/// least one; more are allowed here since an endpoint has to be worse than its peers to be put out.
const MAX_OUT_PERCENT: usize = 50;

impl Revision {
    /// Whether an endpoint is in use for calls of a family, or may be probed by one.
    pub(crate) fn is_usable(&self, family: Family, now: Instant) -> bool {
        let mut endpoints = self.endpoints.of(family).iter();
        endpoints.any(|endpoint| endpoint.standing(now) != Standing::Out)
    }

    /// Puts out an endpoint that is suspect because of a call of `family` that began at `began`: if a quarter of its
    /// peers in use fail less than a third as often, and not too many are out. When all fail alike, the requests or the
    /// model are to blame, and fewer endpoints would not help.
    pub(crate) fn put_out_if_worse(
        &self,
        suspect: &Arc<Endpoint>,
        family: Family,
        began: Instant,
        now: Instant,
    ) {
        let _one_at_a_time = self
            .state
            .putting_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let endpoints = self.endpoints.of(family);
        let failure_rate = suspect.failure_rate(now);
        let (mut in_use, mut better) = (0_usize, 0_usize);
        for peer in endpoints.iter().filter(|peer| !Arc::ptr_eq(peer, suspect)) {
            if peer.out_until().is_none() {
                in_use += 1;
                better += usize::from(peer.failure_rate(now) * 3.0 < failure_rate);
            }
        }
        let out = endpoints.len().saturating_sub(1 + in_use);
        let most = (endpoints.len() * MAX_OUT_PERCENT / 100).max(1);
        if in_use > 0 && out < most && better * 4 >= in_use {
            suspect.put_out(Cause::Failing, began, now);
        }
    }
}

impl Route {
    /// The revision that a request asks for: that of the first match, or of what it sticks to, or whose turn it is.
    /// Nothing when no revision has a weight.
    pub(crate) fn wanted(&self, headers: &HeaderMap) -> Option<&Arc<Revision>> {
        Some(&self.revisions[self.preferred(headers)?])
    }

    /// `wanted`, or the fallback when that one has no endpoint to use and the fallback has.
    pub(crate) fn or_fallback<'a>(
        &'a self,
        wanted: &'a Arc<Revision>,
        family: Family,
        now: Instant,
    ) -> &'a Arc<Revision> {
        if self.fallback.is_none() || wanted.is_usable(family, now) {
            return wanted;
        }
        self.fall_back(wanted, family, now).unwrap_or(wanted)
    }

    /// The revision that stands in for `failed`: not that one itself, nor one that is no better.
    pub(crate) fn fall_back(
        &self,
        failed: &Arc<Revision>,
        family: Family,
        now: Instant,
    ) -> Option<&Arc<Revision>> {
        let revision = self.stand_in(failed)?;
        let better = revision.is_usable(family, now) || failed.endpoints.of(family).is_empty();
        if !better {
            return None;
        }
        self.fallback.as_ref()?.used.inc();
        Some(revision)
    }

    /// The fallback of `revision`, good or bad.
    pub(crate) fn stand_in(&self, revision: &Arc<Revision>) -> Option<&Arc<Revision>> {
        let other = &self.revisions[self.fallback.as_ref()?.revision];
        (!Arc::ptr_eq(other, revision)).then_some(other)
    }

    fn preferred(&self, headers: &HeaderMap) -> Option<usize> {
        let fits = |wanted: &&HeaderMatch| {
            headers
                .get_all(&wanted.header)
                .iter()
                .any(|value| value == wanted.value)
        };
        if let Some(matched) = self.matches.iter().find(fits) {
            return Some(matched.revision);
        }
        match &self.spec.sticky {
            Some(sticky) if self.revisions.len() > 1 => match sticky::key(&self.model, sticky, headers) {
                Some(key) => sticky::choose(key, &self.revisions),
                None => self.split.next(),
            },
            _ => self.split.next(),
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
    /// Shares by these weights; 0 gets nothing, and when all are 0, nobody gets anything.
    pub(crate) fn new(weights: impl Iterator<Item = u32> + Clone) -> Self {
        Self::from_turn(0, weights)
    }

    /// Other weights from the turn that this one has come to: routes that are replaced often do not begin anew each time.
    pub(crate) fn with_weights(&self, weights: impl Iterator<Item = u32> + Clone) -> Self {
        Self::from_turn(self.turn.load(Ordering::Relaxed), weights)
    }

    fn from_turn(turn: u64, weights: impl Iterator<Item = u32> + Clone) -> Self {
        let sum: u128 = weights.clone().map(u128::from).sum();
        let mut before = 0;
        let up_to = weights.map(|weight| {
            before += u128::from(weight);
            let part = (before << 64) / sum.max(1);
            u64::try_from(part).unwrap_or(u64::MAX)
        });
        Self {
            up_to: up_to.collect(),
            turn: AtomicU64::new(turn),
        }
    }

    /// The index of the revision whose turn it is; nothing when none has a weight.
    pub(crate) fn next(&self) -> Option<usize> {
        if let [only] = *self.up_to {
            return (only > 0).then_some(0);
        }
        self.at(self.turn.fetch_add(STEP, Ordering::Relaxed))
    }

    /// The index of the revision that a place in the unit interval, in units of 2⁻⁶⁴, belongs to.
    fn at(&self, place: u64) -> Option<usize> {
        let place = place.min(u64::MAX - 1);
        let index = self.up_to.partition_point(|up_to| *up_to <= place);
        (index < self.up_to.len()).then_some(index)
    }
}

#[cfg(test)]
mod tests;
