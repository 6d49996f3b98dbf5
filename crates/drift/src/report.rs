//! The state of a model's drift as data: what `GET /drift` answers, what an event carries, and what the analysis worker reads.
//!
//! Fields that a later version adds are ignored by an older reader, so that the parts can be upgraded in any order.

mod canary;
mod event;
mod evidence;
mod segments;

use serde::{Deserialize, Serialize};

use crate::profile::{Kind, Role};

pub use canary::{CANARY_STOPPED, CanaryCause, CanaryEvent, RevisionSeen};
pub use event::{DETECTED, DriftEvent, DriftOverview, EndReason, RECOVERED, Reference, ReferenceSource};
pub use evidence::{Comovement, EvidencePack, Histogram, MAX_EVIDENCE_BYTES, Movements, SubjectEvidence};
pub use segments::{SegmentReport, SegmentsReport};

/// How a subject or a model stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing to say.
    #[default]
    Stable,
    /// Evidence of a change, with a small effect.
    Warning,
    /// Evidence of a change, with an effect that matters.
    Drift,
    /// Like the reference again since the last window; stable from the next.
    Recovered,
}

impl State {
    /// Value of the state metric: 0 stable or recovered, 1 warning, 2 drift.
    pub fn level(self) -> u8 {
        match self {
            Self::Stable | Self::Recovered => 0,
            Self::Warning => 1,
            Self::Drift => 2,
        }
    }
}

/// Everything known about the drift of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    /// Name of the model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The segment whose rows alone it is about; none for all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// When the reference profile was made, RFC 3339.
    pub profile_created_at: String,
    /// Rows of the reference.
    pub reference_rows: u64,
    /// The worst state of any subject.
    pub state: State,
    /// Number of the current episode, or of the last one; 0 before the first. An episode starts when the first subject leaves
    /// `stable` and ends when the last is back.
    pub episode: u64,
    /// When `state` was entered, milliseconds since 1970.
    pub since_unix_ms: i64,
    /// The window that the statistics are of.
    pub window: WindowInfo,
    /// Rows since the start.
    pub rows_total: u64,
    /// The gates that the verdicts passed.
    pub gates: Gates,
    /// What changed with this window; the model's own changes have no subject.
    pub transitions: Vec<Transition>,
    /// Subjects with an effect, the one that contributes most first.
    pub ranking: Vec<Contribution>,
    /// Every subject: features, then outputs.
    pub subjects: Vec<SubjectReport>,
    /// How the segments of the model stand, where the profile has any. They do not count for `state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<SegmentsReport>,
}

/// A detection window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowInfo {
    /// Its number, from 1.
    pub index: u64,
    /// Rows in it.
    pub rows: u64,
    /// When it was opened, milliseconds since 1970.
    pub opened_at_unix_ms: i64,
    /// When it was looked at.
    pub closed_at_unix_ms: i64,
    /// Whether it is over; a window that is too small for a verdict stays open and goes on growing.
    pub closed: bool,
}

/// The thresholds in force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gates {
    /// False alarms per row that the whole model may raise.
    pub false_alarm_rate: f64,
    /// Decimal logarithm of the evidence that a subject needs.
    pub log10_evidence: f64,
    /// p-value that a window has to stay below, several times in a row, where evidence is not calibrated.
    pub window_p_value: f64,
    /// Effect size of a warning, on the scale of the PSI.
    pub warning_effect: f64,
    /// Effect size of drift.
    pub drift_effect: f64,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The subject; none for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Number of the episode that it belongs to, counted per subject and per model.
    pub episode: u64,
}

/// How much a subject has to do with the model's drift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// The subject.
    pub subject: String,
    /// Its share of `effect · weight` over all subjects, in `[0, 1]`.
    pub share: f64,
    /// Its debiased effect: in the window, or since the onset of a change that is certain where that is larger.
    pub effect: f64,
    /// Its importance relative to the mean feature; 1 when the profile has none.
    pub weight: f64,
}

/// The state of one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubjectReport {
    /// Its name.
    pub name: String,
    /// Kind of its values.
    pub kind: Kind,
    /// What it is, for an output; none for a feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The class of a probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Its state.
    pub state: State,
    /// Number of its current or last episode; 0 before the first.
    pub episode: u64,
    /// When its state was entered, milliseconds since 1970.
    pub since_unix_ms: i64,
    /// Whether the window is too small to judge it: the state is then left as it was.
    pub insufficient: bool,
    /// The comparison; none when it has no rows in the window or the reference.
    pub statistics: Option<Statistics>,
    /// The sequential test.
    pub evidence: Evidence,
    /// The change that the sequential test is sure of; none while its evidence does not pass the gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onset: Option<OnsetReport>,
    /// Rows since the start.
    pub counters: Counters,
    /// Moments of the reference; for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_moments: Option<MomentsReport>,
    /// Moments of the window; for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_moments: Option<MomentsReport>,
    /// Both histograms, bin by bin; the bin for missing values last.
    pub bins: Vec<BinReport>,
}

/// A bin with its counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BinReport {
    /// Its name, as in the `bin` label.
    pub name: String,
    /// Lower edge, inclusive; none for open ends and categories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<f64>,
    /// Upper edge, exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<f64>,
    /// Rows of the reference.
    pub reference: u64,
    /// Rows of the window.
    pub window: u64,
    /// Rows since the start.
    pub total: u64,
    /// Its term of the PSI.
    pub psi: f64,
}

/// The comparison of a window with the reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Population stability index over all bins, half a row added to each: what `PromQL` computes from the bin counters.
    pub psi: f64,
    /// What sampling alone makes of it, on average.
    pub psi_null_mean: f64,
    /// What it stays below when nothing changed, but for the false-alarm budget of a window.
    pub psi_critical: f64,
    /// Effect size: PSI over bins with enough rows, less its mean when nothing changed; at least 0.
    pub effect: f64,
    /// Standard deviation of `effect`.
    pub effect_error: f64,
    /// `effect` in standard deviations of the unchanged case, before the cut at 0.
    pub z: f64,
    /// Pearson's chi-square over bins with enough rows.
    pub chi_square: f64,
    /// Its degrees of freedom.
    pub chi_square_dof: u64,
    /// Its p-value.
    pub p_value: f64,
    /// Cramér's V, corrected for bias.
    pub cramers_v: f64,
    /// Jensen–Shannon distance in base 2.
    pub js_distance: f64,
    /// Hellinger distance.
    pub hellinger: f64,
    /// Total variation distance.
    pub total_variation: f64,
    /// Kolmogorov–Smirnov statistic over the bins; for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ks: Option<f64>,
    /// Its conservative p-value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ks_p_value: Option<f64>,
    /// Wasserstein-1 distance from the bins' means, in the unit of the values; for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasserstein: Option<f64>,
    /// The same in standard deviations of the reference; none when that has no spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasserstein_normed: Option<f64>,
}

/// The sequential test of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Decimal logarithm of the e-value; at least −300.
    pub log10: f64,
    /// Whether it passes the gate.
    pub sufficient: bool,
    /// False when successive values depend on each other: then it means less than it says, and windows decide.
    pub calibrated: bool,
    /// Lag-1 correlation of the ranks of the newest rows; none below 100 rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_correlation: Option<f64>,
}

/// A change, from where it most likely began.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnsetReport {
    /// Rows of the subject since it began, up to the end of the window.
    pub rows_ago: u64,
    /// Debiased effect of these rows, on the scale of the PSI, at least 0; a window that began before the change has less.
    pub effect: f64,
    /// Standard deviation of `effect`.
    pub effect_error: f64,
}

/// Rows of a subject since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// All rows observed.
    pub observed: u64,
    /// Rows without a value.
    pub missing: u64,
    /// Numbers below or above the range of the reference.
    pub out_of_range: u64,
    /// Categories that the reference never saw.
    pub unseen: u64,
}

/// Moments, for people to read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MomentsReport {
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation.
    pub sd: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
}
