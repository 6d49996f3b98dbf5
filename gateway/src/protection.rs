//! What a route and a revision remember of the requests that went through them, kept when routes change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use prometheus::IntCounter;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::budget::Budget;
use crate::config::HedgeAfter;
use crate::endpoint::{Cause, Endpoint, Standing};
use crate::hold::Hold;
use crate::limiter::Limiter;
use crate::metrics::{Metrics, RetryMetrics, RevisionMetrics};
use crate::outcome::Outcome;
use crate::quantile::Quantile;
use crate::route::{Revision, Route};

/// Retries that a route has at once, however few requests it has. Source: Envoy's `min_retry_concurrency`.
const RETRY_RESERVE: u32 = 3;
/// Hedges in percent of all requests: what is above the 95th percentile. Source: Dean & Barroso (2013), *The Tail at
/// Scale*.
const HEDGE_PERCENT: u32 = 5;
const HEDGE_RESERVE: u32 = 1;

/// What a route remembers.
#[derive(Debug)]
pub(crate) struct RouteState {
    pub(crate) retries: Budget,
    hedges: Budget,
    latency: Quantile,
    pub(crate) hold: Hold,
    model: Box<str>,
    metrics: Metrics,
    /// Comes with the first wish for an extra attempt: most routes have none.
    extra: OnceLock<Box<RetryMetrics>>,
}

impl RouteState {
    pub(crate) fn new(model: &str, metrics: &Metrics) -> Self {
        Self {
            retries: Budget::new(RETRY_RESERVE),
            hedges: Budget::new(HEDGE_RESERVE),
            latency: Quantile::default(),
            hold: Hold::new(metrics.protection.hold.clone()),
            model: model.into(),
            metrics: metrics.clone(),
            extra: OnceLock::new(),
        }
    }

    /// The series of its retries and hedges.
    pub(crate) fn extra(&self) -> &RetryMetrics {
        self.extra
            .get_or_init(|| Box::new(self.metrics.retries(&self.model)))
    }

    /// After which time a second endpoint is asked; nothing while the percentile is not known.
    pub(crate) fn hedge_after(&self, after: HedgeAfter) -> Option<Duration> {
        self.hedges.deposit(HEDGE_PERCENT);
        match after {
            HedgeAfter::Time(after) => Some(after),
            HedgeAfter::Percentile(_) => self.latency.get().map(Duration::from_secs_f64),
        }
    }

    /// Takes one of the hedges that the route may have.
    pub(crate) fn may_hedge(&self) -> bool {
        self.hedges.withdraw()
    }

    /// A request that may be hedged was answered `took` after it was first sent.
    pub(crate) fn answered(&self, after: HedgeAfter, took: Duration) {
        if let HedgeAfter::Percentile(percent) = after {
            self.latency
                .observe(took.as_secs_f64(), f64::from(percent) / 100.0);
        }
    }
}

/// What a revision remembers. Its counters only grow: who compares revisions takes differences.
///
/// What is [`Measured`] comes with the first request, as with endpoints.
#[derive(Debug)]
pub(crate) struct RevisionState {
    model: Box<str>,
    name: Box<str>,
    metrics: Metrics,
    measured: OnceLock<Box<Measured>>,
    /// One endpoint at a time is put out, so that not two go for the same reason and leave none.
    pub(crate) putting_out: Mutex<()>,
}

/// What requests to a revision need and leave.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) metrics: RevisionMetrics,
    /// Latencies of the answers' heads: bucket `i` counts those of `2^(i/4)` µs up to `2^((i+1)/4)` µs.
    latency: [AtomicU64; LATENCY_BUCKETS],
    pub(crate) limiter: Arc<Limiter>,
}

/// What came of a revision's requests.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    /// Attempts that ended.
    pub(crate) answers: u64,
    /// Those of them that were no success for the client.
    pub(crate) failures: u64,
    /// Answers by latency; see [`upper_bound`].
    pub(crate) latency: [u64; LATENCY_BUCKETS],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            answers: 0,
            failures: 0,
            latency: [0; LATENCY_BUCKETS],
        }
    }
}

/// Up to 2^32 µs, 72 minutes; a quarter of a doubling each, 19 %.
pub(crate) const LATENCY_BUCKETS: usize = 128;

impl RevisionState {
    pub(crate) fn new(model: &str, revision: &str, metrics: &Metrics) -> Self {
        Self {
            model: model.into(),
            name: revision.into(),
            metrics: metrics.clone(),
            measured: OnceLock::new(),
            putting_out: Mutex::new(()),
        }
    }

    fn measured(&self) -> &Measured {
        self.measured.get_or_init(|| {
            let metrics = self.metrics.revision(&self.model, &self.name);
            let shed = self.metrics.protection.shed_concurrency_limit.clone();
            Box::new(Measured {
                limiter: Arc::new(Limiter::new(&metrics, shed)),
                metrics,
                latency: [const { AtomicU64::new(0) }; LATENCY_BUCKETS],
            })
        })
    }

    /// The adaptive limit, whether it is applied or not.
    pub(crate) fn limiter(&self) -> &Arc<Limiter> {
        &self.measured().limiter
    }

    /// It was given a request.
    pub(crate) fn requested(&self) {
        self.measured().metrics.requests.inc();
    }

    /// An attempt ended with this outcome.
    pub(crate) fn count(&self, outcome: Outcome) {
        let metrics = &self.measured().metrics;
        match outcome {
            Outcome::Good => metrics.good.inc(),
            Outcome::Refused => metrics.refused.inc(),
            Outcome::Full(_) => metrics.full.inc(),
            Outcome::Failed => metrics.failed.inc(),
        }
    }

    /// All answers so far.
    pub(crate) fn counts(&self) -> Counts {
        let Some(measured) = self.measured.get() else {
            return Counts::default();
        };
        let RevisionMetrics {
            good,
            refused,
            full,
            failed,
            ..
        } = &measured.metrics;
        let failures = refused.get() + full.get() + failed.get();
        Counts {
            answers: good.get() + failures,
            failures,
            latency: measured
                .latency
                .each_ref()
                .map(|count| count.load(Ordering::Relaxed)),
        }
    }

    /// The head of an answer came after `took`.
    pub(crate) fn answered(&self, took: Duration) {
        self.measured().latency[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }
}

impl Measured {
    /// The latency that the share `q` of all answers so far did not exceed, to 19 %; nothing before the first.
    pub(crate) fn latency_quantile(&self, q: f64) -> Option<Duration> {
        let counts = self.latency.each_ref().map(|count| count.load(Ordering::Relaxed));
        let sum: u64 = counts.iter().sum();
        let mut left = (sum as f64 * q).ceil().max(1.0) as u64;
        for (index, count) in counts.into_iter().enumerate() {
            if count >= left {
                return Some(upper_bound(index));
            }
            left -= count;
        }
        None
    }
}

/// The latency up to which the bucket at `index` counts.
pub(crate) fn upper_bound(index: usize) -> Duration {
    Duration::from_secs_f64(((index + 1) as f64 / 4.0).exp2() / 1e6)
}

pub(crate) fn bucket(took: Duration) -> usize {
    let microseconds = (took.as_nanos() as f64 / 1e3).max(1.0);
    ((microseconds.log2() * 4.0) as usize).min(LATENCY_BUCKETS - 1)
}

/// How an endpoint is, for `/routes`: `health` is `in_use`, `slow_start`, `ejected` or `probe_due`.
pub(crate) fn endpoint_shown(endpoint: &Endpoint, slow_start: Duration, now: Instant) -> Value {
    let share = endpoint.ramp(now, slow_start);
    let health = match endpoint.standing(now) {
        Standing::InUse if share < 1.0 => "slow_start",
        Standing::InUse => "in_use",
        Standing::Out => "ejected",
        Standing::ProbeDue => "probe_due",
    };
    let ejected = endpoint.out_until().map(|(until, cause)| {
        let seconds = until.saturating_duration_since(now).as_secs_f64();
        let cause = match cause {
            Cause::Unreachable => "unreachable",
            Cause::Failing => "failing",
        };
        json!({"cause": cause, "probe_in_seconds": seconds})
    });
    let ejections = endpoint.used_before().map(|used| &used.metrics.ejections);
    json!({
        "health": health,
        "share": share,
        "ejected": ejected,
        "ejections": ejections.map_or(0, IntCounter::get),
        "failure_rate": endpoint.failure_rate(now),
    })
}

/// What a revision's requests met, for `/routes`; nothing before the first.
pub(crate) fn revision_shown(route: &Route, revision: &Revision) -> Option<Value> {
    let measured = revision.state.measured.get()?;
    let metrics = &measured.metrics;
    let milliseconds = |q| {
        measured
            .latency_quantile(q)
            .map(|latency| latency.as_secs_f64() * 1e3)
    };
    let limiter = &measured.limiter;
    let concurrency = route.spec.protection.concurrency;
    let concurrency =
        concurrency.map(|_| json!({"limit": limiter.limit(), "in_flight": limiter.in_flight()}));
    Some(json!({
        "answers": {"good": metrics.good.get(), "refused": metrics.refused.get(), "full": metrics.full.get(), "failed": metrics.failed.get()},
        "latency_ms": {"p50": milliseconds(0.5), "p99": milliseconds(0.99)},
        "concurrency": concurrency,
    }))
}

#[cfg(test)]
mod tests {
    use plumbline_service::metrics::Metrics as Registry;

    use super::*;

    #[test]
    fn latencies_are_known_to_a_quarter_of_a_doubling() {
        let state = RevisionState::new("churn", "stable", &Metrics::declare(&Registry::default()));
        assert_eq!(state.measured().latency_quantile(0.5), None);
        for milliseconds in 1..=1000 {
            state.answered(Duration::from_millis(milliseconds));
        }
        for (q, expected) in [(0.5, 0.5), (0.99, 0.99), (0.0, 0.001)] {
            let found = state
                .measured()
                .latency_quantile(q)
                .expect("answers")
                .as_secs_f64();
            assert!((expected..=expected * 1.2).contains(&found), "{q}: {found}");
        }
        state.answered(Duration::ZERO);
        state.answered(Duration::MAX);
    }

    #[test]
    fn hedges_are_one_of_twenty_requests() {
        let state = RouteState::new("churn", &Metrics::declare(&Registry::default()));
        let after = HedgeAfter::Percentile(95);
        assert_eq!(state.hedge_after(after), None);
        (0..100).for_each(|_| state.answered(after, Duration::from_millis(10)));
        let percentile = state.hedge_after(after).expect("seen enough").as_secs_f64();
        assert!((0.009..0.011).contains(&percentile), "{percentile}");
        let mut hedges = 0;
        for _ in 0..1_000 {
            state.hedge_after(after);
            hedges += usize::from(state.may_hedge());
        }
        assert!((50..=52).contains(&hedges), "{hedges}");
    }
}
