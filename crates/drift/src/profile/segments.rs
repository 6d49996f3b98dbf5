//! Parts of the rows with a reference of their own.

use serde::{Deserialize, Serialize};

use super::{DataInfo, Profile, Seasonality, Subject};

/// Most segments with a value.
pub const MAX_SEGMENTS: usize = 16;
/// Name of the segment of all rows without a value that is listed.
pub const OTHER: &str = "other";

/// How the rows are told apart: by the value of a feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segmentation {
    /// Name of a subject in [`Profile::features`].
    pub feature: String,
    /// 1 to [`MAX_SEGMENTS`] with a value; after them the one of all other rows, where it has a reference.
    pub parts: Vec<Segment>,
}

/// What the rows of one segment looked like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The feature's value as text, as categories are written; none for all rows that no other segment has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Rows; `count + missing` of every subject here.
    pub rows: u64,
    /// The subjects of [`Profile::features`], in their order, over these rows.
    pub features: Vec<Subject>,
    /// The subjects of [`Profile::outputs`], in their order, over these rows.
    pub outputs: Vec<Subject>,
    /// Bin counts of these rows per hour of the week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seasonality: Option<Seasonality>,
}

impl Segment {
    /// Its value, or [`OTHER`].
    pub fn name(&self) -> &str {
        self.value.as_deref().unwrap_or(OTHER)
    }

    /// The numbers that its value stands for: the 64-bit float, and the FP32 that a tensor makes of it.
    pub(crate) fn numbers(&self) -> Option<[f64; 2]> {
        let value = self.value.as_deref()?;
        Some([value.parse().ok()?, value.parse::<f32>().ok()?.into()])
    }
}

impl Profile {
    /// The profile of a segment's rows alone, for a monitor of their own.
    pub(crate) fn of_segment(&self, segment: &Segment) -> Self {
        Self {
            format: self.format.clone(),
            format_version: self.format_version,
            created_at: self.created_at.clone(),
            generator: self.generator.clone(),
            model: self.model.clone(),
            data: DataInfo {
                rows: segment.rows,
                digest: None,
            },
            features: segment.features.clone(),
            outputs: segment.outputs.clone(),
            target: None,
            training: None,
            importances: self.importances.clone(),
            calibration: None,
            seasonality: segment.seasonality.clone(),
            segments: None,
        }
    }
}
