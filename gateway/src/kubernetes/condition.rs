//! What was asked for and cannot be done: told in the log once, in a metric and on the admin page.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::{IntGauge, IntGaugeVec};

use super::object::Key;

/// Why something cannot be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The object cannot be read.
    Malformed,
    /// A deployment mode that has no Services to send requests to.
    UnsupportedMode,
    /// A share of the traffic that is not given.
    CanaryNotHonoured,
    /// A canary without an endpoint; its share goes to the stable revision.
    CanaryNotReady,
    /// No EndpointSlice of the Service.
    NoService,
    /// No revision is ready yet.
    NoReadyRevision,
    /// No port that requests can be sent to.
    NoPort,
    /// Endpoints that are host names.
    AddressType,
    /// Another object or the configuration has a route for the model.
    ModelNameTaken,
    /// A name that no request can ask for.
    ModelNameInvalid,
    /// Requests for explanations go where all others go.
    ExplainerNotRouted,
}

impl Reason {
    const ALL: [Self; 11] = [
        Self::Malformed,
        Self::UnsupportedMode,
        Self::CanaryNotHonoured,
        Self::CanaryNotReady,
        Self::NoService,
        Self::NoReadyRevision,
        Self::NoPort,
        Self::AddressType,
        Self::ModelNameTaken,
        Self::ModelNameInvalid,
        Self::ExplainerNotRouted,
    ];

    /// Its label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnsupportedMode => "unsupported_mode",
            Self::CanaryNotHonoured => "canary_not_honoured",
            Self::CanaryNotReady => "canary_not_ready",
            Self::NoService => "no_service",
            Self::NoReadyRevision => "no_ready_revision",
            Self::NoPort => "no_port",
            Self::AddressType => "address_type",
            Self::ModelNameTaken => "model_name_taken",
            Self::ModelNameInvalid => "model_name_invalid",
            Self::ExplainerNotRouted => "explainer_not_routed",
        }
    }
}

/// Conditions by object and reason, with what a person should know.
pub(crate) type Conditions = BTreeMap<(Key, Reason), String>;

/// Tells what began and what ended.
#[derive(Debug)]
pub(super) struct Told {
    gauges: [IntGauge; Reason::ALL.len()],
    conditions: Arc<Conditions>,
}

impl Told {
    pub(super) fn new(gauge: &IntGaugeVec) -> Self {
        Self {
            gauges: Reason::ALL.map(|reason| gauge.with_label_values(&[reason.label()])),
            conditions: Arc::default(),
        }
    }

    /// Replaces all conditions.
    pub(super) fn update(&mut self, conditions: Arc<Conditions>) {
        for ((object, reason), message) in &*conditions {
            if self.conditions.get(&(object.clone(), *reason)) != Some(message) {
                tracing::warn!(%object, reason = reason.label(), message, "cannot be honoured");
            }
        }
        for (object, reason) in self.conditions.keys() {
            if !conditions.contains_key(&(object.clone(), *reason)) {
                tracing::info!(%object, reason = reason.label(), "no longer a problem");
            }
        }
        for (reason, gauge) in Reason::ALL.iter().zip(&self.gauges) {
            gauge.set(conditions.keys().filter(|(_, other)| other == reason).count() as i64);
        }
        self.conditions = conditions;
    }
}
