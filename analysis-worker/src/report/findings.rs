//! The shapes of findings: of an incident, of drift, and of a failed pipeline.

use serde::{Deserialize, Serialize};

use super::triage::TriageFindings;

/// What an analysis found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Findings {
    /// Of an alert.
    Incident(IncidentFindings),
    /// Of drift.
    Drift(DriftFindings),
    /// Of a failed pipeline.
    Triage(TriageFindings),
}

impl Findings {
    /// The first paragraph.
    pub fn summary(&self) -> &str {
        match self {
            Self::Incident(findings) => &findings.summary,
            Self::Drift(findings) => &findings.summary,
            Self::Triage(findings) => &findings.summary,
        }
    }
}

/// A reference to a fact, with the words that matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Citation {
    /// Id of the fact: `E1`.
    pub id: String,
    /// Words that stand verbatim in the fact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
}

/// A share in `[0, 1]`: how sure the author is. Code caps it by what the evidence can carry.
pub type Confidence = f64;

/// Findings about an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentFindings {
    /// What happens, to whom, since when.
    pub summary: String,
    /// Most likely first, at most three.
    pub root_causes: Vec<RootCause>,
}

/// A possible cause of an alert, with what to do about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootCause {
    /// What is assumed to have happened.
    pub hypothesis: String,
    /// See [`Confidence`].
    pub confidence: Confidence,
    /// What speaks for it.
    pub evidence: Vec<Citation>,
    /// What to do if it is true.
    pub remediation: Remediation,
}

/// What to do about a cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remediation {
    /// In words.
    pub action: String,
    /// A command that only reads; others are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What the action itself may break.
    pub risk: Risk,
}

/// What an action may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Nothing; easily undone.
    Low,
    /// Part of the service, for a while.
    Medium,
    /// The service or data.
    High,
}

/// Findings about drift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftFindings {
    /// What changed, how much, since when.
    pub summary: String,
    /// Which kind of drift.
    pub kind: DriftKind,
    /// In the kind; see [`Confidence`].
    pub confidence: Confidence,
    /// Features, outputs and segments, most affected first.
    pub affected: Vec<Affected>,
    /// Most likely first, at least three from the offline analysis.
    pub causes: Vec<Cause>,
    /// What to do, most useful first.
    pub remediation: Vec<Remedy>,
    /// The author's opinion; the report's own urgency is decided by code.
    pub urgency: Urgency,
    /// Who should do what next, one line each.
    pub action_items: Vec<String>,
}

/// Kinds of drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// Inputs are distributed differently.
    DataDrift,
    /// The relation of inputs to the truth changed.
    ConceptDrift,
    /// Quality falls without a visible change of inputs.
    ModelDecay,
    /// Values are missing, new or out of range: something upstream is broken.
    DataQuality,
    /// No drift.
    None,
}

impl DriftKind {
    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::DataDrift => "data drift",
            Self::ConceptDrift => "concept drift",
            Self::ModelDecay => "model decay",
            Self::DataQuality => "data quality",
            Self::None => "none",
        }
    }
}

/// A feature, output or segment that changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affected {
    /// Name of the feature or output, or a description of the segment.
    pub subject: String,
    /// How it changed, with numbers.
    pub finding: String,
    /// What shows it.
    pub evidence: Vec<Citation>,
}

/// A possible cause of drift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// What is assumed to have happened.
    pub hypothesis: String,
    /// See [`Confidence`].
    pub confidence: Confidence,
    /// What speaks for it.
    pub evidence: Vec<Citation>,
}

/// One thing to do about drift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remedy {
    /// Which.
    pub action: RemedyAction,
    /// Why, and how to check that it helped.
    pub rationale: String,
}

/// What can be done about drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemedyAction {
    /// Train on newer rows.
    Retrain,
    /// Serve the previous version.
    Rollback,
    /// Change how features are made.
    FeatureEngineering,
    /// Repair the source of the data.
    FixUpstream,
    /// Watch.
    Observe,
}

impl RemedyAction {
    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Retrain => "Retrain",
            Self::Rollback => "Roll back",
            Self::FeatureEngineering => "Change features",
            Self::FixUpstream => "Fix upstream",
            Self::Observe => "Observe",
        }
    }
}

/// How soon somebody has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Urgency {
    /// Now.
    P0,
    /// Today.
    P1,
    /// When there is time.
    P2,
}

impl Urgency {
    /// `P0`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P0 => "P0",
            Self::P1 => "P1",
            Self::P2 => "P2",
        }
    }

    /// What it asks for.
    pub const fn title(self) -> &'static str {
        match self {
            Self::P0 => "act now",
            Self::P1 => "act today",
            Self::P2 => "when there is time",
        }
    }
}
