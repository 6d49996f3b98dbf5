//! What a person reads, and the JSON that is also the structured output asked of a provider.

mod findings;
pub(crate) mod markdown;
pub(crate) mod schema;
mod triage;
pub(crate) mod validate;

use serde::{Deserialize, Serialize};

pub use findings::{
    Affected, Cause, Citation, Confidence, DriftFindings, DriftKind, Findings, IncidentFindings, Remediation,
    Remedy, RemedyAction, Risk, RootCause, Urgency,
};
pub use triage::{FailureType, FalsePositive, Fix, TriageFinding, TriageFindings, Verdict};
pub use validate::Outcome;

use crate::drift::Drift;
use crate::evidence::{Evidence, Missing};

/// Value of [`Report::schema`].
pub const SCHEMA: &str = "plumbline.report.v1";

/// A finished report of one incident, as it is stored and answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// What it is about.
    pub incident: Subject,
    /// 1 for the first report of an incident; higher when a later, worse signal made another necessary.
    pub revision: u32,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// How bad, decided by code from the signals, never by a model.
    pub urgency: Urgency,
    /// Who analysed.
    pub analysis: Analysis,
    /// The findings.
    pub findings: Findings,
    /// What they rest on.
    pub evidence: Vec<Evidence>,
    /// What could not be had.
    pub missing: Vec<Missing>,
    /// The comparison with the reference, for plots.
    pub drift: Option<Drift>,
}

/// The incident that a report is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Id of the incident.
    pub id: String,
    /// `drift`, `pipeline`, or the name of the alert.
    pub kind: String,
    /// Name of the model, where the signals tell it.
    pub model: Option<String>,
    /// One line.
    pub title: String,
    /// When the first signal began, RFC 3339, UTC.
    pub started_at: String,
}

/// Who analysed, and what was done to the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    /// `gemini`, `vertex`, `gemini-cli`, `openai-compatible`, `ollama` or `offline`.
    pub provider: String,
    /// Name of the language model, if there was one.
    pub model: Option<String>,
    /// Why the configured provider's answer was not used.
    pub fallback: Option<String>,
    /// What validation found.
    pub outcome: Outcome,
    /// What validation changed, one line each.
    pub notes: Vec<String>,
    /// SHA-256 of the prompt, hex; of the evidence alone for `offline`.
    pub prompt_digest: String,
}
