//! Series of ground truth and of the predictions that wait for it.

use plumbline_service::metrics::Metrics as Registry;
use prometheus::{IntCounter, IntGauge};

use crate::feedback::Outcome;

/// Labels and the predictions that they belong to.
#[derive(Clone, Debug)]
pub(crate) struct FeedbackMetrics {
    labels: [IntCounter; Outcome::ALL.len()],
    pub(crate) waiting: IntGauge,
    pub(crate) bytes: IntGauge,
    pub(crate) expired: IntCounter,
    pub(crate) overflowed: IntCounter,
    pub(crate) replaced: IntCounter,
    pub(crate) too_large: IntCounter,
    pub(crate) restored: IntCounter,
    pub(crate) unsaved: IntCounter,
}

impl FeedbackMetrics {
    pub(super) fn declare(registry: &Registry) -> Self {
        let labels = registry.counter_vec(
            "plumbline_sidecar_feedback_labels_total",
            "Labels that came in as feedback, by what became of them.",
            &["outcome"],
        );
        let dropped = registry.counter_vec(
            "plumbline_sidecar_feedback_dropped_total",
            "Predictions that were dropped without a label: rows that were too old or made room, requests whose id came again or that are too large.",
            &["reason"],
        );
        Self {
            labels: Outcome::ALL.map(|outcome| labels.with_label_values(&[outcome.as_str()])),
            waiting: registry.int_gauge(
                "plumbline_sidecar_feedback_requests",
                "Requests whose predictions are kept for labels.",
            ),
            bytes: registry.int_gauge(
                "plumbline_sidecar_feedback_bytes",
                "Bytes of the predictions that are kept for labels.",
            ),
            expired: dropped.with_label_values(&["expired"]),
            overflowed: dropped.with_label_values(&["overflow"]),
            replaced: dropped.with_label_values(&["replaced"]),
            too_large: dropped.with_label_values(&["too_large"]),
            restored: registry.counter(
                "plumbline_sidecar_feedback_restored_total",
                "Requests whose predictions an earlier process had kept for labels.",
            ),
            unsaved: registry.counter(
                "plumbline_sidecar_feedback_unsaved_total",
                "Predictions of requests, and labels, that the state directory does not have, as it could not keep up or be written.",
            ),
        }
    }

    /// Counts a label.
    pub(crate) fn label(&self, outcome: Outcome) {
        self.labels[outcome as usize].inc();
    }
}
