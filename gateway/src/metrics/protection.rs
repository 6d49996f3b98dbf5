//! Series of balancing and protection.

use plumbline_service::metrics::Metrics as Registry;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// Upper bounds in seconds for the wait for an endpoint: 10 ms to 2 minutes.
const HOLD_SECONDS: [f64; 9] = [0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 120.0];

/// The series of everything that keeps endpoints and their clients from harm.
#[derive(Clone, Debug)]
pub(crate) struct ProtectionMetrics {
    /// `plumbline_gateway_shed_total{reason="concurrency_limit"}`.
    pub(crate) shed_concurrency_limit: IntCounter,
    pub(crate) hold: HoldMetrics,
    retries: IntCounterVec,
    hedges: IntCounterVec,
    answers: IntCounterVec,
    concurrency_limit: IntGaugeVec,
    pub(super) upstream_ejected: IntGaugeVec,
    pub(super) upstream_ejections: IntCounterVec,
}

impl ProtectionMetrics {
    /// Declares them; `shed` is `plumbline_gateway_shed_total`.
    pub(super) fn declare(registry: &Registry, shed: &IntCounterVec) -> Self {
        Self {
            shed_concurrency_limit: shed.with_label_values(&["concurrency_limit"]),
            hold: HoldMetrics {
                held: registry.int_gauge(
                    "plumbline_gateway_held",
                    "Requests that wait for an endpoint, as their service has none.",
                ),
                duration: registry.histogram(
                    "plumbline_gateway_hold_duration_seconds",
                    "Time that requests waited for an endpoint, whether one came or not.",
                    &HOLD_SECONDS,
                ),
                shed: shed.with_label_values(&["hold_full"]),
            },
            retries: registry.counter_vec(
                "plumbline_gateway_retries_total",
                "Attempts after one that may have been processed, by what came of the wish for one: sent, or no_budget.",
                &["model", "outcome"],
            ),
            hedges: registry.counter_vec(
                "plumbline_gateway_hedges_total",
                "Requests to a second endpoint while the first had not answered, by what came of the wish for one: lost, won, or no_budget.",
                &["model", "outcome"],
            ),
            answers: registry.counter_vec(
                "plumbline_gateway_revision_answers_total",
                "Attempts at endpoints of a revision that ended, by outcome: good, full (429, 503, UNAVAILABLE, RESOURCE_EXHAUSTED), failed.",
                &["model", "revision", "outcome"],
            ),
            concurrency_limit: registry.int_gauge_vec(
                "plumbline_gateway_concurrency_limit",
                "Requests that a revision gets at once; 0 where there is no adaptive limit.",
                &["model", "revision"],
            ),
            upstream_ejected: registry.int_gauge_vec(
                "plumbline_gateway_upstream_ejected",
                "1 while an endpoint is out of use, because it cannot be reached or fails more than its peers.",
                &["endpoint"],
            ),
            upstream_ejections: registry.counter_vec(
                "plumbline_gateway_upstream_ejections_total",
                "How often an endpoint was put out of use.",
                &["endpoint"],
            ),
        }
    }

    /// The handles of a route's extra attempts.
    pub(crate) fn retries(&self, model: &str) -> RetryMetrics {
        let retries = |outcome| self.retries.with_label_values(&[model, outcome]);
        let hedges = |outcome| self.hedges.with_label_values(&[model, outcome]);
        RetryMetrics {
            sent: retries("sent"),
            no_budget: retries("no_budget"),
            hedges_lost: hedges("lost"),
            hedges_won: hedges("won"),
            hedges_no_budget: hedges("no_budget"),
        }
    }

    /// The handles of a revision.
    pub(crate) fn revision(&self, model: &str, revision: &str) -> RevisionMetrics {
        let answers = |outcome| self.answers.with_label_values(&[model, revision, outcome]);
        RevisionMetrics {
            good: answers("good"),
            full: answers("full"),
            failed: answers("failed"),
            concurrency_limit: self.concurrency_limit.with_label_values(&[model, revision]),
        }
    }
}

/// The series of requests that wait for an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct HoldMetrics {
    pub(crate) held: IntGauge,
    pub(crate) duration: Histogram,
    /// `plumbline_gateway_shed_total{reason="hold_full"}`.
    pub(crate) shed: IntCounter,
}

/// The series of a route's extra attempts.
#[derive(Clone, Debug)]
pub(crate) struct RetryMetrics {
    pub(crate) sent: IntCounter,
    pub(crate) no_budget: IntCounter,
    pub(crate) hedges_lost: IntCounter,
    pub(crate) hedges_won: IntCounter,
    pub(crate) hedges_no_budget: IntCounter,
}

/// The series of one revision.
#[derive(Clone, Debug)]
pub(crate) struct RevisionMetrics {
    pub(crate) good: IntCounter,
    pub(crate) full: IntCounter,
    pub(crate) failed: IntCounter,
    pub(crate) concurrency_limit: IntGauge,
}
