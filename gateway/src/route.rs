//! A model's route: its revisions, and which of them a request goes to.

pub(crate) mod sticky;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus::IntCounter;
use tokio::time::Instant;

use crate::call::Family;
use crate::config::{Condition, RouteSpec};
use crate::endpoint::Endpoints;
use crate::metrics::{ModelMetrics, RevisionMetrics};
use crate::mirror::Mirror;

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
    pub(crate) revisions: Box<[Revision]>,
    pub(crate) split: Split,
    pub(crate) matches: Box<[HeaderMatch]>,
    pub(crate) fallback: Option<Fallback>,
    pub(crate) mirror: Option<Arc<Mirror>>,
    pub(crate) metrics: Arc<ModelMetrics>,
}

/// A version of a model that is served beside others.
#[derive(Debug)]
pub(crate) struct Revision {
    pub(crate) name: Box<str>,
    pub(crate) weight: u32,
    pub(crate) endpoints: Endpoints,
    /// Set on each request to an endpoint.
    pub(crate) headers: Box<[(HeaderName, HeaderValue)]>,
    /// What its draws for sticky requests follow from.
    pub(crate) seed: u64,
    pub(crate) metrics: RevisionMetrics,
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

impl Revision {
    /// Whether an endpoint can be used by calls of a family, as far as is known.
    fn is_usable(&self, family: Family, now: Instant) -> bool {
        let mut endpoints = self.endpoints.of(family).iter();
        endpoints.any(|endpoint| !endpoint.is_avoided(now))
    }
}

impl Route {
    /// The revision for a request: that of the first match, or of what it sticks to, or whose turn it is; the fallback
    /// when that one has no endpoint to use and the fallback has. Nothing when no revision has a weight.
    pub(crate) fn revision(&self, headers: &HeaderMap, family: Family, now: Instant) -> Option<&Revision> {
        let chosen = &self.revisions[self.preferred(headers)?];
        if self.fallback.is_none() || chosen.is_usable(family, now) {
            return Some(chosen);
        }
        Some(self.fall_back(chosen, family, now).unwrap_or(chosen))
    }

    /// The revision that stands in for `failed`: not that one itself, nor one that is no better.
    pub(crate) fn fall_back(&self, failed: &Revision, family: Family, now: Instant) -> Option<&Revision> {
        let fallback = self.fallback.as_ref()?;
        let revision = &self.revisions[fallback.revision];
        let better = revision.is_usable(family, now) || failed.endpoints.of(family).is_empty();
        if std::ptr::eq(revision, failed) || !better {
            return None;
        }
        fallback.used.inc();
        Some(revision)
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
