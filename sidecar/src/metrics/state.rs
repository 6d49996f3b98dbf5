//! Series of the state that outlives the process.

use plumbline_service::metrics::Metrics as Registry;
use prometheus::{IntCounter, IntGauge};

/// States that were stored and taken up again.
#[derive(Clone, Debug)]
pub(crate) struct StateMetrics {
    pub(crate) restored: IntCounter,
    pub(crate) of_other_profile: IntCounter,
    pub(crate) damaged: IntCounter,
    pub(crate) saved: IntCounter,
    pub(crate) save_failed: IntCounter,
    pub(crate) unsaved: IntGauge,
}

impl StateMetrics {
    pub(super) fn declare(registry: &Registry) -> Self {
        let states = registry.counter_vec(
            "plumbline_sidecar_states_total",
            "States of models by what was done with them: restored, left as they belong to another profile, set aside as damaged, saved, not saved. The predictions that wait for labels count where they are damaged or not saved.",
            &["outcome"],
        );
        Self {
            restored: states.with_label_values(&["restored"]),
            of_other_profile: states.with_label_values(&["other_profile"]),
            damaged: states.with_label_values(&["damaged"]),
            saved: states.with_label_values(&["saved"]),
            save_failed: states.with_label_values(&["save_failed"]),
            unsaved: registry.int_gauge(
                "plumbline_sidecar_state_unsaved",
                "1 while the state, or the predictions that wait for labels, cannot be written.",
            ),
        }
    }
}
