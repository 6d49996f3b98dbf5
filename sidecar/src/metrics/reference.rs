//! Series of where references come from.

use plumbline_service::metrics::Metrics as Registry;
use prometheus::{IntCounter, IntGaugeVec};

/// Profiles that came while the process ran, and those that are learned.
#[derive(Clone, Debug)]
pub(crate) struct ReferenceSourceMetrics {
    pub(crate) reloaded: IntCounter,
    pub(crate) reload_failed: IntCounter,
    learned: IntGaugeVec,
    learning_rows: IntGaugeVec,
}

impl ReferenceSourceMetrics {
    pub(super) fn declare(registry: &Registry) -> Self {
        let reloads = registry.counter_vec(
            "plumbline_sidecar_profile_reloads_total",
            "Profiles that changed while the sidecar ran, by outcome; after a failure the old one stays.",
            &["outcome"],
        );
        Self {
            reloaded: reloads.with_label_values(&["loaded"]),
            reload_failed: reloads.with_label_values(&["failed"]),
            learned: registry.int_gauge_vec(
                "plumbline_profile_learned",
                "1 when the model's reference was learned from its first rows, 0 while it is.",
                &["model"],
            ),
            learning_rows: registry.int_gauge_vec(
                "plumbline_learning_rows",
                "Rows that the model's reference has been learned from.",
                &["model"],
            ),
        }
    }

    /// Shows how far the learning of a model's reference is.
    pub(crate) fn learning(&self, model: &str, rows: u64, learned: bool) {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.learning_rows.with_label_values(&[model]).set(rows);
        self.learned.with_label_values(&[model]).set(i64::from(learned));
    }
}
