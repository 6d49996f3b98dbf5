//! Findings about a failed pipeline.

use plumbline_service::config::ParseSetting;
use serde::{Deserialize, Serialize};

use super::findings::{Citation, Confidence, Urgency};

/// What failed in a pipeline, and what to do about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriageFindings {
    /// What failed, where, and whose turn it is.
    pub summary: String,
    /// Which kind of failure it is; code decides where it knows.
    pub failure_type: FailureType,
    /// In the type; see [`Confidence`].
    pub confidence: Confidence,
    /// Most urgent first, at least one.
    pub findings: Vec<TriageFinding>,
    /// The author's opinion; the report's own urgency is decided by code.
    pub priority: Urgency,
}

/// One thing that failed: a test, a rule that was broken, a vulnerable package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriageFinding {
    /// The test, rule, package or step.
    pub title: String,
    /// What it means.
    pub explanation: String,
    /// What may happen here if nobody acts.
    pub risk: String,
    /// What to change.
    pub fix: Fix,
    /// Whether it may be wrong.
    pub false_positive: FalsePositive,
    /// How soon.
    pub priority: Urgency,
    /// In the explanation; see [`Confidence`].
    pub confidence: Confidence,
    /// What shows it.
    pub evidence: Vec<Citation>,
}

/// What to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fix {
    /// In words.
    pub action: String,
    /// File of the repository, if the evidence names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line of that file, from 1, if the evidence names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// Whether a finding may be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FalsePositive {
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

/// Whether a finding is a false positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Probably nothing is wrong.
    Likely,
    /// Probably something is.
    Unlikely,
    /// The evidence does not say.
    Unclear,
}

impl Verdict {
    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Likely => "likely",
            Self::Unlikely => "unlikely",
            Self::Unclear => "unclear",
        }
    }
}

/// Kinds of failures of pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureType {
    /// The code does not pass what reads it without running it: compilers, type checkers, linters, formatters.
    Lint,
    /// A test fails.
    Test,
    /// A scanner of the own code found a weakness.
    SecuritySast,
    /// A dependency is vulnerable or not allowed.
    SecuritySca,
    /// A credential is in the code.
    Secret,
    /// A container image has vulnerable packages.
    ContainerCve,
    /// A trained model does not reach what it must reach.
    ModelValidation,
    /// Training fails.
    Training,
    /// A deployment fails.
    Deployment,
    /// The machine, the network, a permission, the workflow or its tools.
    Infrastructure,
    /// None of them, or the evidence does not say.
    Unknown,
}

impl FailureType {
    /// Every type.
    pub const ALL: [Self; 11] = [
        Self::Lint,
        Self::Test,
        Self::SecuritySast,
        Self::SecuritySca,
        Self::Secret,
        Self::ContainerCve,
        Self::ModelValidation,
        Self::Training,
        Self::Deployment,
        Self::Infrastructure,
        Self::Unknown,
    ];

    /// As JSON spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Test => "test",
            Self::SecuritySast => "security_sast",
            Self::SecuritySca => "security_sca",
            Self::Secret => "secret",
            Self::ContainerCve => "container_cve",
            Self::ModelValidation => "model_validation",
            Self::Training => "training",
            Self::Deployment => "deployment",
            Self::Infrastructure => "infrastructure",
            Self::Unknown => "unknown",
        }
    }

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Lint => "static checks",
            Self::Test => "tests",
            Self::SecuritySast => "weakness in the code",
            Self::SecuritySca => "vulnerable dependency",
            Self::Secret => "credential in the code",
            Self::ContainerCve => "vulnerable image",
            Self::ModelValidation => "model validation",
            Self::Training => "training",
            Self::Deployment => "deployment",
            Self::Infrastructure => "infrastructure",
            Self::Unknown => "unknown",
        }
    }
}

impl ParseSetting for FailureType {
    fn parse_setting(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
                format!("expected one of {}", names.join(", "))
            })
    }
}
