//! What a sidecar tells the analysis worker, pushed and asked.

use serde::{Deserialize, Serialize};

use super::{DriftReport, State};

/// Type of the CloudEvent that tells the begin of an episode's drift.
pub const DETECTED: &str = "dev.plumbline.drift.detected";
/// Type of the CloudEvent that tells its end.
pub const RECOVERED: &str = "dev.plumbline.drift.recovered";

/// The `data` of a drift event. At most one [`DETECTED`] and one [`RECOVERED`] event are raised for an episode; each may be
/// delivered more than once, with the same CloudEvent id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftEvent {
    /// Name of the model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// Id of the episode: the same in its detected and its recovered event, and in no other, whatever replica or restart
    /// an event comes from.
    pub episode: String,
    /// [`State::Drift`] or [`State::Recovered`].
    pub state: State,
    /// Why it is over; none when the rows are like the reference again, and while it is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<EndReason>,
    /// When the episode began: when the first subject, of all rows or of a segment, left [`State::Stable`]. Milliseconds since 1970.
    pub started_at_unix_ms: i64,
    /// When the state was entered, milliseconds since 1970.
    pub at_unix_ms: i64,
    /// Rows observed since the episode began, as far as that is known.
    pub rows: u64,
    /// The comparison that brought the state about, with both histograms: of all rows, or of one
    /// [segment](DriftReport::segment); its `segments` name every segment that drifts. When the reference was replaced: the last
    /// one with the old reference, or the first with the new one where nothing else is known.
    pub report: DriftReport,
}

/// Why an episode is over though no row has shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Rows are compared with another reference from now on.
    ReferenceReplaced,
}

/// What `GET /drift` answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DriftOverview {
    /// One report per model with a reference profile, by name.
    pub models: Vec<DriftReport>,
    /// Where the reference of each model comes from that has or will have one, by name and version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
}

/// Where a model's reference comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Name of the model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// Who made it.
    pub source: ReferenceSource,
    /// Features and outputs that are compared by the hour of the week.
    #[serde(default)]
    pub seasonal_subjects: u64,
    /// Rows that it has been learned from so far; while it is learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_learned: Option<u64>,
}

/// Who made a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceSource {
    /// A profile that was given or lies beside the model.
    Profile,
    /// The sidecar, out of the model's first rows: what was wrong with them passes for usual.
    Learned,
    /// The sidecar, which has not had enough rows yet; nothing is compared.
    Learning,
}
