//! Series of the payload log.

use plumbline_service::metrics::Metrics as Registry;
use prometheus::{IntCounter, IntGauge};

/// Payload events: `offered` = `sent` + every drop + `pending`.
#[derive(Clone, Debug)]
pub(crate) struct LoggerMetrics {
    pub(crate) offered: IntCounter,
    pub(crate) sent: IntCounter,
    pub(crate) queue_full: IntCounter,
    pub(crate) not_kept: IntCounter,
    pub(crate) incomplete: IntCounter,
    pub(crate) failed: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) shutdown: IntCounter,
    pub(crate) pending: IntGauge,
    pub(crate) pending_bytes: IntGauge,
}

impl LoggerMetrics {
    pub(super) fn declare(registry: &Registry) -> Self {
        let events = registry.counter_vec(
            "plumbline_sidecar_log_events_total",
            "Requests and answers of the payload log, each once as offered and once by what became of it: sent, or the reason for which it was dropped.",
            &["outcome"],
        );
        let outcome = |name: &str| events.with_label_values(&[name]);
        Self {
            offered: outcome("offered"),
            sent: outcome("sent"),
            queue_full: outcome("queue_full"),
            not_kept: outcome("not_kept"),
            incomplete: outcome("incomplete"),
            failed: outcome("failed"),
            refused: outcome("refused"),
            shutdown: outcome("shutdown"),
            pending: registry.int_gauge(
                "plumbline_sidecar_log_pending",
                "Requests and answers that wait to be sent to the payload log.",
            ),
            pending_bytes: registry.int_gauge(
                "plumbline_sidecar_log_pending_bytes",
                "Bytes of the requests and answers that wait to be sent to the payload log.",
            ),
        }
    }
}
