//! The series of mirrors.

use plumbline_service::metrics::Metrics as Registry;
use prometheus::{IntCounter, IntCounterVec};

use super::lease::Lease;

const OUTCOMES: [&str; 2] = ["answered", "failed"];
const REASONS: [&str; 3] = ["in_flight", "bytes", "incomplete"];
const VERDICTS: [&str; 2] = ["agree", "disagree"];

#[derive(Debug)]
pub(super) struct MirrorSeries {
    requests: IntCounterVec,
    dropped: IntCounterVec,
    rows: IntCounterVec,
    uncompared: IntCounterVec,
}

impl MirrorSeries {
    pub(super) fn declare(registry: &Registry) -> Self {
        Self {
            requests: registry.counter_vec(
                "plumbline_gateway_mirror_requests_total",
                "Copies of requests sent, by outcome: answered, failed.",
                &["model", "outcome"],
            ),
            dropped: registry.counter_vec(
                "plumbline_gateway_mirror_dropped_total",
                "Requests not copied although it was their turn, by reason: in_flight, bytes, incomplete.",
                &["model", "reason"],
            ),
            rows: registry.counter_vec(
                "plumbline_gateway_mirror_rows_total",
                "Rows predicted by the revision that answered and by the mirror, by verdict: agree, disagree.",
                &["model", "verdict"],
            ),
            uncompared: registry.counter_vec(
                "plumbline_gateway_mirror_uncompared_total",
                "Pairs of answers of which one was missing, a failure, too large or unreadable.",
                &["model"],
            ),
        }
    }

    /// A series that was never resolved is not there to be removed, which is no failure.
    pub(super) fn remove(&self, model: &str) {
        let _absent = self.uncompared.remove_label_values(&[model]);
        for (series, values) in [
            (&self.requests, &OUTCOMES[..]),
            (&self.dropped, &REASONS),
            (&self.rows, &VERDICTS),
        ] {
            for value in values {
                let _absent = series.remove_label_values(&[model, value]);
            }
        }
    }
}

/// The series of one mirror.
#[derive(Debug)]
pub(crate) struct MirrorMetrics {
    _lease: Lease,
    pub(crate) answered: IntCounter,
    pub(crate) failed: IntCounter,
    /// Too many copies at the time.
    pub(crate) dropped_in_flight: IntCounter,
    /// Copies held too many bytes at the time.
    pub(crate) dropped_bytes: IntCounter,
    /// The request was not sent to its end.
    pub(crate) dropped_incomplete: IntCounter,
    pub(crate) agreeing_rows: IntCounter,
    pub(crate) disagreeing_rows: IntCounter,
    pub(crate) uncompared: IntCounter,
}

impl MirrorMetrics {
    pub(super) fn new(series: &MirrorSeries, model: &str, lease: Lease) -> Self {
        let [answered, failed] = OUTCOMES.map(|value| series.requests.with_label_values(&[model, value]));
        let [dropped_in_flight, dropped_bytes, dropped_incomplete] =
            REASONS.map(|value| series.dropped.with_label_values(&[model, value]));
        let [agreeing_rows, disagreeing_rows] =
            VERDICTS.map(|value| series.rows.with_label_values(&[model, value]));
        Self {
            _lease: lease,
            answered,
            failed,
            dropped_in_flight,
            dropped_bytes,
            dropped_incomplete,
            agreeing_rows,
            disagreeing_rows,
            uncompared: series.uncompared.with_label_values(&[model]),
        }
    }
}
