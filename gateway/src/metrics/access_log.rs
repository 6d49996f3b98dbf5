//! The series of the access log.

use plumbline_service::metrics::Metrics as Registry;
use prometheus::IntCounter;

/// Lines that are not there.
#[derive(Clone, Debug)]
pub(crate) struct AccessLogMetrics {
    /// `plumbline_gateway_access_log_dropped_total{reason="queue_full"}`.
    pub(crate) queue_full: IntCounter,
    /// `plumbline_gateway_access_log_dropped_total{reason="write_failed"}`.
    pub(crate) write_failed: IntCounter,
}

impl AccessLogMetrics {
    pub(super) fn declare(registry: &Registry) -> Self {
        let dropped = registry.counter_vec(
            "plumbline_gateway_access_log_dropped_total",
            "Lines that the access log does not have, by reason: queue_full, when requests end faster than lines can be written; write_failed.",
            &["reason"],
        );
        Self {
            queue_full: dropped.with_label_values(&["queue_full"]),
            write_failed: dropped.with_label_values(&["write_failed"]),
        }
    }
}
