//! Series of balancing and protection.

use plumbline_drift::report::CanaryCause;
use plumbline_service::metrics::Metrics as Registry;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::lease::Lease;

/// Upper bounds in seconds for the wait for an endpoint: 10 ms to 2 minutes.
const HOLD_SECONDS: [f64; 9] = [0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 120.0];

const RETRIES: [&str; 2] = ["sent", "no_budget"];
const HEDGES: [&str; 3] = ["lost", "won", "no_budget"];
const ANSWERS: [&str; 4] = ["good", "refused", "full", "failed"];

/// The series of everything that keeps endpoints and their clients from harm.
#[derive(Debug)]
pub(crate) struct ProtectionMetrics {
    /// `plumbline_gateway_shed_total{reason="concurrency_limit"}`.
    pub(crate) shed_concurrency_limit: IntCounter,
    pub(crate) hold: HoldMetrics,
    retries: IntCounterVec,
    hedges: IntCounterVec,
    answers: IntCounterVec,
    concurrency_limit: IntGaugeVec,
    canary_stops: IntCounterVec,
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
                "Attempts at endpoints of a revision that ended, by outcome: good, refused (what the client is to blame for), full (429, 503, UNAVAILABLE, RESOURCE_EXHAUSTED), failed.",
                &["model", "revision", "outcome"],
            ),
            concurrency_limit: registry.int_gauge_vec(
                "plumbline_gateway_concurrency_limit",
                "Requests that a revision gets at once; 0 where there is no adaptive limit.",
                &["model", "revision"],
            ),
            canary_stops: registry.counter_vec(
                "plumbline_gateway_canary_stops_total",
                "Canaries that lost their traffic, by what they were worse in than the stable revision: errors, latency, drift.",
                &["model", "cause"],
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

    /// A canary has lost its traffic.
    pub(crate) fn canary_stopped(&self, model: &str, cause: CanaryCause) {
        self.canary_stops.with_label_values(&[model, cause.label()]).inc();
    }

    pub(super) fn retries(&self, model: &str, lease: Lease) -> RetryMetrics {
        let [sent, no_budget] = RETRIES.map(|outcome| self.retries.with_label_values(&[model, outcome]));
        let [hedges_lost, hedges_won, hedges_no_budget] =
            HEDGES.map(|outcome| self.hedges.with_label_values(&[model, outcome]));
        RetryMetrics {
            _lease: lease,
            sent,
            no_budget,
            hedges_lost,
            hedges_won,
            hedges_no_budget,
        }
    }

    pub(super) fn revision(
        &self,
        model: &str,
        revision: &str,
        lease: Lease,
        requests: IntCounter,
    ) -> RevisionMetrics {
        let [good, refused, full, failed] =
            ANSWERS.map(|outcome| self.answers.with_label_values(&[model, revision, outcome]));
        RevisionMetrics {
            _lease: lease,
            requests,
            good,
            refused,
            full,
            failed,
            concurrency_limit: self.concurrency_limit.with_label_values(&[model, revision]),
        }
    }

    /// A series that was never resolved is not there to be removed, which is no failure.
    pub(super) fn remove_model(&self, model: &str) {
        for (series, outcomes) in [(&self.retries, &RETRIES[..]), (&self.hedges, &HEDGES)] {
            for outcome in outcomes {
                let _absent = series.remove_label_values(&[model, outcome]);
            }
        }
        for cause in CanaryCause::ALL {
            let _absent = self.canary_stops.remove_label_values(&[model, cause.label()]);
        }
    }

    pub(super) fn remove_revision(&self, model: &str, revision: &str) {
        for outcome in ANSWERS {
            let _absent = self.answers.remove_label_values(&[model, revision, outcome]);
        }
        let _absent = self.concurrency_limit.remove_label_values(&[model, revision]);
    }

    pub(super) fn remove_endpoint(&self, endpoint: &str) {
        let _absent = self.upstream_ejected.remove_label_values(&[endpoint]);
        let _absent = self.upstream_ejections.remove_label_values(&[endpoint]);
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
#[derive(Debug)]
pub(crate) struct RetryMetrics {
    _lease: Lease,
    pub(crate) sent: IntCounter,
    pub(crate) no_budget: IntCounter,
    pub(crate) hedges_lost: IntCounter,
    pub(crate) hedges_won: IntCounter,
    pub(crate) hedges_no_budget: IntCounter,
}

/// The series of one revision.
#[derive(Debug)]
pub(crate) struct RevisionMetrics {
    _lease: Lease,
    /// Requests that it was given.
    pub(crate) requests: IntCounter,
    pub(crate) good: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) full: IntCounter,
    pub(crate) failed: IntCounter,
    pub(crate) concurrency_limit: IntGauge,
}
