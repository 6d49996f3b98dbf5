//! What a gateway tells the analysis worker of a canary.

use serde::{Deserialize, Serialize};

use super::State;

/// Type of the CloudEvent that tells that a canary has lost its traffic.
pub const CANARY_STOPPED: &str = "dev.plumbline.canary.stopped";

/// The `data` of a [`CANARY_STOPPED`] event. It may be delivered more than once, with the same CloudEvent id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryEvent {
    /// Name of the model.
    pub model: String,
    /// The object of Kubernetes that it comes from, `NAMESPACE/NAME`; none for the gateway's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The revision that gets no more traffic.
    pub canary: RevisionSeen,
    /// The one that it was compared with.
    pub stable: RevisionSeen,
    /// In what it was worse.
    pub cause: CanaryCause,
    /// When it was stopped, milliseconds since 1970.
    pub at_unix_ms: i64,
    /// Decimal logarithm of the evidence: 3 is reached by at most 1 in 1,000 canaries that are not worse. None for drift, which the
    /// sidecars judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log10_evidence: Option<f64>,
}

/// In what a canary is worse than the stable revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CanaryCause {
    /// More of its answers fail.
    Errors,
    /// Its answers take longer.
    Latency,
    /// Its rows or predictions drift, while those of the stable revision do not.
    Drift,
}

impl CanaryCause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::Errors, Self::Latency, Self::Drift];

    /// Its name in events and labels.
    pub fn label(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Drift => "drift",
        }
    }
}

/// How a revision was of late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevisionSeen {
    /// Its name.
    pub revision: String,
    /// Answers of the last minutes, older ones counting less.
    pub answers: u64,
    /// The share of them that failed or were refused, in [0, 1].
    pub failed: f64,
    /// The 95th percentile of their latency, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// The worst that a sidecar beside it says; none where none was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<State>,
}
