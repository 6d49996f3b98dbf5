//! What comes in, in one form: an alert or a drift event says that something began or ended.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::report::Urgency;

/// One alert or event, redacted, ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signal {
    /// How it came in.
    pub(crate) origin: Origin,
    /// The same for every delivery of the same signal.
    pub(crate) dedup_key: String,
    /// Signals that one recovery ends together.
    pub(crate) episode: Option<String>,
    /// Whether it began or ended.
    pub(crate) status: Status,
    /// Which incident it belongs to.
    pub(crate) incident: IncidentKey,
    /// One line.
    pub(crate) title: String,
    /// How bad, as the signal says it.
    pub(crate) urgency: Urgency,
    /// How much it tells: a signal that tells more than those before asks for a new report.
    pub(crate) weight: i64,
    /// When it began, in milliseconds since 1970.
    pub(crate) starts_at: i64,
    /// When it ended.
    pub(crate) ends_at: Option<i64>,
    /// The alert or event itself.
    pub(crate) body: Value,
}

/// How a signal came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    Alertmanager,
    /// An alert that Alertmanager could not tell; Prometheus was asked for it.
    Backfilled,
    DriftEvent,
    CanaryEvent,
    WorkflowRun,
}

impl Origin {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Alertmanager => "alertmanager",
            Self::Backfilled => "backfilled",
            Self::DriftEvent => "drift_event",
            Self::CanaryEvent => "canary_event",
            Self::WorkflowRun => "workflow_run",
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "backfilled" => Self::Backfilled,
            "drift_event" => Self::DriftEvent,
            "canary_event" => Self::CanaryEvent,
            "workflow_run" => Self::WorkflowRun,
            _ => Self::Alertmanager,
        }
    }
}

/// Whether a signal began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Firing,
    Resolved,
}

impl Status {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// Kind of every incident about drift.
pub(crate) const DRIFT: &str = "drift";
/// Kind of every incident about a workflow that is red.
pub(crate) const PIPELINE: &str = "pipeline";
/// Kind of every incident about a canary that lost its traffic.
pub(crate) const CANARY: &str = "CanaryStopped";

/// What makes two signals one incident: the kind, and the model or whatever else the signal is about.
///
/// Alertmanager's `groupKey` is not used: it changes when somebody edits the routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IncidentKey {
    /// [`DRIFT`], [`CANARY`], [`PIPELINE`], or the name of the alert.
    pub(crate) kind: String,
    /// Name of the model, where the signal tells it.
    pub(crate) model: Option<String>,
    /// Digest of all that identifies, hex.
    pub(crate) digest: String,
}

impl IncidentKey {
    /// `about` are further identifying values, in a fixed order.
    pub(crate) fn new(kind: &str, model: Option<&str>, about: &[&str]) -> Self {
        let mut parts = vec![kind, model.unwrap_or("")];
        parts.extend(about);
        Self {
            kind: kind.to_owned(),
            model: model.map(str::to_owned),
            digest: digest(&parts),
        }
    }
}

/// SHA-256 over the parts with their lengths, hex: no choice of parts can look like another.
pub(crate) fn digest(parts: &[&str]) -> String {
    use std::fmt::Write as _;
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut hex = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Milliseconds since 1970, now.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// RFC 3339 in UTC, to the second.
pub(crate) fn rfc3339(milliseconds: i64) -> String {
    let seconds = milliseconds.div_euclid(1000);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "unknown".to_owned(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_is_one_kind_of_one_model() {
        let churn = IncidentKey::new(DRIFT, Some("churn"), &[]);
        assert_eq!(churn, IncidentKey::new(DRIFT, Some("churn"), &[]));
        assert_ne!(churn.digest, IncidentKey::new(DRIFT, Some("fraud"), &[]).digest);
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(rfc3339(1_787_307_243_999), "2026-08-21T10:14:03Z");
    }
}
