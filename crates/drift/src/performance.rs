//! How well a classifier does: estimated from its own probabilities before labels are there, and measured once they are.
//!
//! [`Estimated`] is confidence-based performance estimation: with calibrated probabilities the expected confusion table, and all that
//! follows from it, is known without a single label. It holds as long as `P(class | score)` is that of the reference: a shift of the
//! inputs alone it follows, a change of the concept it cannot see. [`Labelled`] counts what labels say when they arrive.
//! [`PerformanceMonitor`] keeps both, per window and since the start, and tracks the error rate for a change of the concept.
//!
//! Every state is a fixed number of sums: nothing allocates per row, and states of replicas and of restarts merge. A class takes 8 KiB in each
//! of four such states; a model with two classes needs one such class, others one per class.

mod calibration;
mod estimated;
mod interval;
mod labelled;
mod monitor;
mod scores;
mod task;

use serde::{Deserialize, Serialize};

pub use calibration::calibration_bins;
pub use estimated::Estimated;
pub use interval::Measure;
pub(crate) use interval::wilson;
pub use labelled::Labelled;
pub use monitor::{
    PerformanceMonitor, PerformanceReport, PerformanceSettings, PerformanceSnapshot, PerformanceViews,
    RiskReport,
};
pub use task::{MAX_CLASSES, Prediction, Task};

use scores::Scores;

/// Why the performance of a model cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PerformanceError {
    /// Fewer than two classes are known, or more than are counted.
    #[error("expected a classifier with 2 to {MAX_CLASSES} classes in the profile, found {found}")]
    Classes {
        /// Classes of the profile.
        found: usize,
    },
    /// A setting is out of range.
    #[error("performance setting `{setting}`: expected {expected}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What would do.
        expected: &'static str,
    },
    /// A stored state belongs to another model.
    #[error("stored performance is of classes {found:?}, expected {expected:?}")]
    OtherClasses {
        /// Classes of the profile.
        expected: Vec<String>,
        /// Classes of the stored state.
        found: Vec<String>,
    },
    /// A stored state is damaged.
    #[error("stored performance: expected {expected} in `{field}`, found {found}")]
    Damaged {
        /// The field.
        field: &'static str,
        /// What it should hold.
        expected: usize,
        /// What it holds.
        found: usize,
    },
}

/// Where performance comes from; the value of the `source` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Measured with labels.
    Labels,
    /// Estimated from calibrated probabilities.
    Estimated,
}

/// Why an estimate may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// The profile has no calibration curve: the scores were taken for probabilities.
    Uncalibrated,
    /// More than a twentieth of the rows have scores where the calibration curve had too few.
    OffSupport,
    /// Inputs are missing, out of range or unseen far more often than in the reference, where no calibration holds.
    InputsOffRange,
    /// Labels of the same time give another accuracy.
    Contradicted,
}

/// Performance of a classifier over some rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Performance {
    /// Where it comes from.
    pub source: Source,
    /// Rows that it is of.
    pub rows: u64,
    /// Share of right labels.
    pub accuracy: Measure,
    /// Precision of the positive class; with more than two classes the mean over them (macro). None without a predicted row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Measure>,
    /// Recall, likewise; none without a row of the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<Measure>,
    /// Harmonic mean of both, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<Measure>,
    /// Area under the ROC curve of the positive class; with more than two classes the mean of one against the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc: Option<Measure>,
    /// How far `auc` can be from the area of the scores themselves, because they are kept in bins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc_bound: Option<f64>,
    /// Mean of `−ln p` of the true class, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<Measure>,
    /// Expected calibration error; only with labels. With more than two classes the mean over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration_error: Option<Measure>,
    /// Class by class, one against the rest; for two classes the positive one alone.
    pub classes: Vec<ClassPerformance>,
    /// Why an estimate may be wrong; always empty with labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<Doubt>,
}

impl Performance {
    /// Whether something speaks against the figures; a missing calibration curve alone says only that nobody checked.
    pub fn is_unreliable(&self) -> bool {
        self.doubts.iter().any(|doubt| *doubt != Doubt::Uncalibrated)
    }
}

/// Performance on one class against the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassPerformance {
    /// The class.
    pub class: String,
    /// Its confusion table; expected counts for an estimate.
    pub table: Table,
    /// `TP / (TP + FP)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Measure>,
    /// `TP / (TP + FN)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<Measure>,
    /// `2 TP / (2 TP + FP + FN)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<Measure>,
    /// Area under the ROC curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc: Option<Measure>,
}

/// A confusion table of one class against the rest, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Predicted and true.
    pub true_positives: f64,
    /// Predicted, not true.
    pub false_positives: f64,
    /// True, not predicted.
    pub false_negatives: f64,
    /// Neither.
    pub true_negatives: f64,
}

/// Scores of one class: of rows inside some set (predicted as the class, or of the class), and of all others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Split {
    inside: Scores,
    outside: Scores,
}

impl Split {
    fn observe(&mut self, inside: bool, p: f64) {
        if inside {
            self.inside.observe(p);
        } else {
            self.outside.observe(p);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.inside.merge(&other.inside);
        self.outside.merge(&other.outside);
    }
}

/// Mean over the classes that have the measure.
fn macro_average(
    classes: &[ClassPerformance],
    of: impl Fn(&ClassPerformance) -> Option<Measure>,
) -> Option<Measure> {
    Measure::average(classes.iter().filter_map(of))
}

fn expect_length(field: &'static str, found: usize, expected: usize) -> Result<(), PerformanceError> {
    if found == expected {
        Ok(())
    } else {
        Err(PerformanceError::Damaged {
            field,
            expected,
            found,
        })
    }
}
