//! The reference profile: what the rows that a model was trained on looked like, without the rows.
//!
//! The rules by which a builder makes one are in `schema/README.md`; the JSON Schema beside it has the same fields as
//! the types here. Every type refuses unknown fields, so a misspelt setting is told instead of ignored.

mod error;
mod json;
mod measure;
mod merge;
mod power;
mod segments;
mod validate;

use serde::{Deserialize, Serialize};

pub use error::{Problem, ProfileError};
pub use measure::Answers;
pub use segments::{MAX_SEGMENTS, OTHER, Segment, Segmentation};

/// Value of [`Profile::format`].
pub const FORMAT: &str = "plumbline.profile";
/// Value of [`Profile::format_version`] that this crate reads and writes.
pub const FORMAT_VERSION: u32 = 1;
/// Most distinct values of a numeric column that get one bin each; also the most bins between the guards.
pub const MAX_LEVELS: usize = 32;
/// Quantile bins asked for when a numeric column has more than [`MAX_LEVELS`] distinct values.
pub const QUANTILE_BINS: usize = 16;
/// Most categories listed; the rest share the `other` bin.
pub const MAX_CATEGORIES: usize = 256;
/// Levels of [`Numeric::quantiles`], in order.
pub const QUANTILE_LEVELS: [f64; 11] = [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0];

/// A reference profile, as stored in `profile.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Always [`FORMAT`].
    pub format: String,
    /// [`FORMAT_VERSION`]; raised when a reader of the old version would misread the new one.
    pub format_version: u32,
    /// When it was made, RFC 3339 in UTC.
    pub created_at: String,
    /// The program that wrote it.
    pub generator: Generator,
    /// The model that it belongs to.
    pub model: ModelInfo,
    /// The rows that it was made from.
    pub data: DataInfo,
    /// One subject per monitored input column.
    pub features: Vec<Subject>,
    /// One subject per monitored output column: class label, probability per class, or value.
    pub outputs: Vec<Subject>,
    /// What the model predicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Measures of the model at training time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// How much each feature matters to the model; used to rank what drifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importances: Option<Vec<Importance>>,
    /// Calibration curves of probability outputs, for estimating accuracy without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Vec<Calibration>>,
    /// Bin counts per hour of the week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seasonality: Option<Seasonality>,
    /// Parts of the rows that have a reference of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<Segmentation>,
}

/// The program that wrote a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// Name of the program.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The model that a profile belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInfo {
    /// Name under which it is served.
    pub name: String,
    /// Version, as text.
    pub version: String,
    /// `sha256:` and 64 hex digits of the model file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// The rows that a profile was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataInfo {
    /// Rows; `count + missing` of every subject.
    pub rows: u64,
    /// `sha256:` and 64 hex digits of the source file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What the model predicts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Name of the predicted column.
    pub name: String,
    /// Class labels in the order of the probability columns; empty for a regression.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// The class that precision, recall and AUC speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive_class: Option<String>,
}

/// Measures of the model at training time, on rows that it was not fitted to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Rows that the measures were taken on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Share of right labels, in `[0, 1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Precision of the positive class, in `[0, 1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    /// Recall of the positive class, in `[0, 1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall, in `[0, 1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
    /// Area under the ROC curve, in `[0, 1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
    /// Mean negative log-likelihood, in nats, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<f64>,
}

/// How much a feature matters to the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Importance {
    /// Name of a subject in [`Profile::features`].
    pub feature: String,
    /// At least 0; only ratios between features are used.
    pub importance: f64,
}

/// Calibration curve of one probability output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Name of a subject in [`Profile::outputs`].
    pub output: String,
    /// Bins that split `[0, 1]`, ascending.
    pub bins: Vec<CalibrationBin>,
}

/// One bin of a calibration curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationBin {
    /// Lower end of the predicted probability, inclusive.
    pub lower: f64,
    /// Upper end, exclusive but for 1.
    pub upper: f64,
    /// Rows in the bin.
    pub count: u64,
    /// Their mean predicted probability.
    pub predicted: f64,
    /// Share of them that had the class.
    pub observed: f64,
}

/// Bin counts per hour of the week, in UTC; hour 0 starts on Monday.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seasonality {
    /// One entry per subject that has a season.
    pub hour_of_week: Vec<SeasonalCounts>,
}

/// Bin counts of one subject per hour of the week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeasonalCounts {
    /// Name of a feature or output.
    pub subject: String,
    /// Shape `[168, bins]`, with the bins of [`Subject::reference_counts`].
    pub counts: Vec<Vec<u64>>,
}

/// One monitored column of an input or output tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Unique among all subjects; the value of the `feature`, `output` and `subject` labels.
    pub name: String,
    /// Name of the tensor, as the server tells it.
    pub tensor: String,
    /// Index in the tensor's row; 0 for a named input with one column.
    #[serde(default)]
    pub column: u32,
    /// Datatype of the tensor.
    pub datatype: Datatype,
    /// How its values are binned; says which one of the three parts below is there.
    pub kind: Kind,
    /// What an output is; never set on a feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The class that a [`Role::Probability`] belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Rows with a value.
    pub count: u64,
    /// Rows without one: null, NaN, an infinity, the empty string.
    pub missing: u64,
    /// For [`Kind::Numeric`] and [`Kind::TextLength`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numeric: Option<Numeric>,
    /// For [`Kind::Categorical`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categorical: Option<Categorical>,
    /// For [`Kind::Boolean`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boolean: Option<Boolean>,
}

/// Datatypes of the Open Inference Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the protocol's own names")]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

/// How the values of a subject are binned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A number, binned by edges.
    Numeric,
    /// A text or an integer that names a class.
    Categorical,
    /// True or false.
    Boolean,
    /// A text with too many different values: its length in bytes of UTF-8, binned by edges.
    TextLength,
}

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The predicted class; its kind is categorical or boolean.
    Label,
    /// Probability of [`Subject::class`], in `[0, 1]`.
    Probability,
    /// Anything else: a regression, a score, a margin.
    Value,
}

/// Bins and moments of a column of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numeric {
    /// Distinct values in the reference.
    pub distinct: u64,
    /// Strictly ascending, at most [`MAX_LEVELS`] + 1; `x` is in bin "number of edges ≤ x". Empty without values.
    pub edges: Vec<f64>,
    /// Rows per bin, shape `[edges + 1]`; the first and last bin guard the range and hold 0 rows.
    pub counts: Vec<u64>,
    /// Mean value per bin, shape `[edges + 1]`; null for an empty bin.
    pub means: Vec<Option<f64>>,
    /// Smallest value; null without values.
    pub min: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Sample variance, divisor `n − 1`; null below two values.
    pub variance: Option<f64>,
    /// `m₃ / m₂^1.5` of the population moments; null when all values are equal.
    pub skewness: Option<f64>,
    /// `m₄ / m₂² − 3`; null when all values are equal.
    pub kurtosis: Option<f64>,
    /// At [`QUANTILE_LEVELS`], type 7; empty without values.
    pub quantiles: Vec<Quantile>,
}

/// A quantile of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantile {
    /// In `[0, 1]`.
    pub level: f64,
    /// The value below which this share of the reference lies.
    pub value: f64,
}

/// Categories with their counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Categorical {
    /// Distinct values in the reference, the ones in `other` included.
    pub distinct: u64,
    /// At most [`MAX_CATEGORIES`], by count descending, then by value ascending in bytes.
    pub categories: Vec<Category>,
    /// Rows with any other value.
    pub other: u64,
}

/// One category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// The text itself; an integer in decimal.
    pub value: String,
    /// Its rows, at least 1.
    pub count: u64,
}

/// Counts of a truth value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boolean {
    /// Rows with false.
    #[serde(rename = "false")]
    pub no: u64,
    /// Rows with true.
    #[serde(rename = "true")]
    pub yes: u64,
}

impl Profile {
    /// A profile with what every profile has: the subjects of `rows` rows of a model. The other members are not known, and the caller adds
    /// those that are; until then it was made by this crate, at the beginning of 1970.
    pub fn new(model: &str, version: &str, rows: u64, features: Vec<Subject>, outputs: Vec<Subject>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            created_at: "1970-01-01T00:00:00Z".to_owned(),
            generator: Generator {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            model: ModelInfo {
                name: model.to_owned(),
                version: version.to_owned(),
                digest: None,
            },
            data: DataInfo { rows, digest: None },
            features,
            outputs,
            target: None,
            training: None,
            importances: None,
            calibration: None,
            seasonality: None,
            segments: None,
        }
    }

    /// Reads and validates a profile.
    ///
    /// # Errors
    /// [`ProfileError::Shape`] with the path and place of the first element that is not as expected, or
    /// [`ProfileError::Invalid`] with every contradiction.
    pub fn from_json(json: &[u8]) -> Result<Self, ProfileError> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let profile: Self = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            ProfileError::shape(path, error.inner())
        })?;
        reader
            .end()
            .map_err(|error| ProfileError::shape(".".to_owned(), &error))?;
        profile.validate()?;
        Ok(profile)
    }

    /// Reads and validates a profile from a file.
    ///
    /// # Errors
    /// As [`Profile::from_json`], and [`ProfileError::File`].
    pub fn load(path: &std::path::Path) -> Result<Self, ProfileError> {
        let json = std::fs::read(path).map_err(|source| ProfileError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::from_json(&json)
    }

    /// The profile as indented JSON with a final newline; of a season, each hour is a line.
    pub fn to_json(&self) -> String {
        json::text(self)
    }

    /// Every contradiction in the contents.
    ///
    /// # Errors
    /// [`ProfileError::Invalid`].
    pub fn validate(&self) -> Result<(), ProfileError> {
        let problems = validate::problems(self);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ProfileError::Invalid(problems))
        }
    }

    /// The counts per hour of the week of the subject with this name, if it has a season.
    pub(crate) fn season(&self, subject: &str) -> Option<&SeasonalCounts> {
        let seasons = self.seasonality.iter().flat_map(|s| &s.hour_of_week);
        seasons.into_iter().find(|season| season.subject == subject)
    }

    /// Features, then outputs: the order of every list of subjects in this crate.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.features.iter().chain(&self.outputs)
    }
}

impl Subject {
    /// Rows per bin of the reference, the `missing` bin last; the order of every histogram of this subject.
    ///
    /// Numeric: below range, the bins, above range. Categorical: the categories, `other`. Boolean: false, true.
    pub fn reference_counts(&self) -> Vec<u64> {
        let mut counts = match (&self.numeric, &self.categorical, &self.boolean) {
            (Some(numeric), _, _) => numeric.counts.clone(),
            (_, Some(c), _) => c.categories.iter().map(|c| c.count).chain([c.other]).collect(),
            (_, _, Some(b)) => vec![b.no, b.yes],
            (None, None, None) => Vec::new(),
        };
        counts.push(self.missing);
        counts
    }

    /// Short unique names of the bins of [`Subject::reference_counts`], for the `bin` label of metrics.
    ///
    /// Numeric: `below`, `1`, `2`, …, `above`; categorical: the category, `other`; `false`, `true`; last `missing`.
    /// A category that is itself called `other` or `missing` gets quotation marks, so that names stay unique.
    pub fn bin_names(&self) -> Vec<String> {
        let mut names: Vec<String> = match (&self.numeric, &self.categorical) {
            (Some(numeric), _) if numeric.edges.is_empty() => vec!["unseen".to_owned()],
            (Some(numeric), _) => {
                let inner = (1..numeric.edges.len()).map(|i| i.to_string());
                std::iter::once("below".to_owned())
                    .chain(inner)
                    .chain(["above".to_owned()])
                    .collect()
            }
            (None, Some(c)) => c
                .categories
                .iter()
                .map(category_name)
                .chain(["other".to_owned()])
                .collect(),
            (None, None) => vec!["false".to_owned(), "true".to_owned()],
        };
        names.push("missing".to_owned());
        names
    }
}

fn category_name(category: &Category) -> String {
    match category.value.as_str() {
        value @ ("other" | "missing") => format!("\"{value}\""),
        value => value.to_owned(),
    }
}

#[cfg(test)]
mod tests;
