//! How the segments of a model stand, in few words: their histograms stay with their monitors.

use serde::{Deserialize, Serialize};

use super::{Contribution, DriftReport, State, WindowInfo};

/// Subjects that are told of each segment.
const TOP_SUBJECTS: usize = 5;

/// How the segments of a model stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentsReport {
    /// The feature that rows are told apart by.
    pub feature: String,
    /// The worst state of any segment.
    pub state: State,
    /// Segments in warning or drift, the worst first.
    pub drifted: Vec<String>,
    /// All segments, `other` last.
    pub segments: Vec<SegmentReport>,
    /// Rows of no segment: of a value that has none where there is no `other`, or sent without the feature.
    pub unmonitored_rows: u64,
}

/// How one segment stands, as its last closed window left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentReport {
    /// Value of the feature, or `other`.
    pub name: String,
    /// The worst state of any of its subjects.
    pub state: State,
    /// Number of its current or last episode; 0 before the first.
    pub episode: u64,
    /// When `state` was entered, milliseconds since 1970.
    pub since_unix_ms: i64,
    /// Rows of its reference.
    pub reference_rows: u64,
    /// Its rows since the start.
    pub rows_total: u64,
    /// Its last closed window; before there is one, the open window at its beginning.
    pub window: WindowInfo,
    /// The five subjects with the largest effects in that window, the one that contributes most first.
    pub ranking: Vec<Contribution>,
}

impl SegmentReport {
    pub(crate) fn new(name: &str, report: &DriftReport) -> Self {
        Self {
            name: name.to_owned(),
            state: report.state,
            episode: report.episode,
            since_unix_ms: report.since_unix_ms,
            reference_rows: report.reference_rows,
            rows_total: report.rows_total,
            window: report.window,
            ranking: report.ranking.iter().take(TOP_SUBJECTS).cloned().collect(),
        }
    }

    /// How much its subjects changed, weighted by importance.
    fn weight(&self) -> f64 {
        self.ranking.iter().map(|c| c.weight * c.effect).sum()
    }
}

impl SegmentsReport {
    pub(crate) fn new(feature: &str, segments: Vec<SegmentReport>, unmonitored_rows: u64) -> Self {
        let mut drifted: Vec<&SegmentReport> = segments.iter().filter(|s| s.state.level() > 0).collect();
        drifted.sort_by(|a, b| {
            let worse = b.state.level().cmp(&a.state.level());
            worse.then_with(|| b.weight().total_cmp(&a.weight()))
        });
        Self {
            feature: feature.to_owned(),
            state: drifted.first().map_or(State::Stable, |segment| segment.state),
            drifted: drifted.into_iter().map(|segment| segment.name.clone()).collect(),
            segments,
            unmonitored_rows,
        }
    }
}
