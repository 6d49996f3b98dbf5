//! Makes a reference out of a model's first rows, where nobody gave one.
//!
//! The first exchange says which columns there are; every further one adds its rows to them. Numbers are kept until the end, as
//! their bins depend on all of them; so a model costs 8 bytes a number and at most [`MAX_BYTES`] in all.

use std::collections::HashSet;

use plumbline_drift::profile::{Datatype, Generator, Kind, MAX_LEVELS, Profile, Role, Subject};
use plumbline_drift::{SubjectBuilder, is_usable};
use plumbline_inference_protocol::{Datatype as TensorDatatype, Tensor};

use super::decode::Rows;
use crate::config::MIN_LEARN_ROWS as MIN_ROWS;

/// What one model may take while it is learned.
const MAX_BYTES: usize = 16 << 20;
/// Columns that are learned of one model; further ones are left out.
const MAX_COLUMNS: usize = 256;
/// Name of `generator` in a learned profile.
pub(crate) const GENERATOR: &str = "plumbline-sidecar";

/// A reference in the making.
#[derive(Debug)]
pub(crate) struct Learner {
    model: String,
    version: String,
    wanted: u64,
    rows: u64,
    bytes: usize,
    inputs: Vec<Column>,
    outputs: Vec<Column>,
}

/// How far the learning is.
#[derive(Debug)]
pub(crate) enum Progress {
    /// More rows are needed.
    Rows(u64),
    /// Done.
    Learned(Box<Profile>),
    /// This model cannot be learned.
    GivenUp(String),
}

/// One column of a tensor.
#[derive(Debug)]
struct Column {
    name: String,
    tensor: String,
    index: usize,
    width: usize,
    datatype: TensorDatatype,
    /// The class behind the column, where the server tells it.
    class: Option<String>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// NaN where there is none.
    Numbers(Vec<f64>),
    Texts(Box<SubjectBuilder>),
}

impl Learner {
    /// Learns from `wanted` rows, with the columns of these first ones. None when they have no columns.
    pub(crate) fn new(model: &str, version: &str, wanted: u64, first: &Rows) -> Option<Self> {
        let inputs = columns(&first.inputs, MAX_COLUMNS);
        let outputs = columns(&first.outputs, MAX_COLUMNS - inputs.len());
        (!inputs.is_empty() && !outputs.is_empty()).then(|| Self {
            model: model.to_owned(),
            version: version.to_owned(),
            wanted,
            rows: 0,
            bytes: 0,
            inputs,
            outputs,
        })
    }

    /// Whether it is of this model.
    pub(crate) fn is_of(&self, model: &str, version: &str) -> bool {
        self.model == model && self.version == version
    }

    /// Adds rows.
    pub(crate) fn observe(&mut self, rows: &Rows, created_at: impl FnOnce() -> String) -> Progress {
        let count = rows.count();
        for (columns, tensors) in [
            (&mut self.inputs, &rows.inputs),
            (&mut self.outputs, &rows.outputs),
        ] {
            for column in columns {
                self.bytes += column.observe(tensors, count as usize);
            }
        }
        self.rows += count;
        let full = self.bytes > MAX_BYTES;
        if full && self.rows < MIN_ROWS {
            return Progress::GivenUp(format!(
                "{} rows take more than {MAX_BYTES} bytes, and a reference needs {MIN_ROWS}",
                self.rows
            ));
        }
        if self.rows < self.wanted && !full {
            return Progress::Rows(self.rows);
        }
        let profile = self.profile(created_at());
        match profile.validate() {
            Ok(()) => Progress::Learned(Box::new(profile)),
            Err(error) => Progress::GivenUp(plumbline_service::error_chain(&error)),
        }
    }

    fn profile(&mut self, created_at: String) -> Profile {
        let mut names = HashSet::new();
        let mut unique = |column: &mut Column, side: &str| {
            if !names.insert(column.name.clone()) {
                column.name = format!("{side}.{}", column.name);
                names.insert(column.name.clone());
            }
        };
        for column in &mut self.inputs {
            unique(column, "input");
        }
        for column in &mut self.outputs {
            unique(column, "output");
        }
        let features = self.inputs.drain(..).map(Column::feature).collect();
        let outputs = outputs(std::mem::take(&mut self.outputs));
        Profile {
            created_at,
            generator: Generator {
                name: GENERATOR.to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            ..Profile::new(&self.model, &self.version, self.rows, features, outputs)
        }
    }
}

/// The columns of every tensor, up to a number of them.
fn columns(tensors: &[Tensor], most: usize) -> Vec<Column> {
    let mut columns = Vec::new();
    for tensor in tensors {
        let Some(rows) = tensor.shape().rows().and_then(|rows| usize::try_from(rows).ok()) else {
            continue;
        };
        let width = tensor.len().checked_div(rows).unwrap_or(0);
        let classes = tensor.class_labels().filter(|classes| classes.len() == width);
        // The profile's tensors have names; the ones of V1 may have none, and are then found by position.
        let name = if tensor.name().is_empty() {
            "values"
        } else {
            tensor.name()
        };
        for index in 0..width.min(most - columns.len()) {
            let column = if width == 1 {
                name.to_owned()
            } else {
                format!("{name}_{index}")
            };
            columns.push(Column {
                values: Values::new(&column, name, index, tensor.datatype()),
                name: column,
                tensor: name.to_owned(),
                index,
                width,
                datatype: tensor.datatype(),
                class: classes.as_ref().map(|classes| classes[index].clone()),
            });
        }
    }
    columns
}

impl Values {
    fn new(name: &str, tensor: &str, index: usize, datatype: TensorDatatype) -> Self {
        match datatype {
            TensorDatatype::Bytes => Self::Texts(Box::new(SubjectBuilder::new(
                name,
                tensor,
                index as u32,
                Datatype::Bytes,
                Kind::Categorical,
            ))),
            _ => Self::Numbers(Vec::new()),
        }
    }
}

impl Column {
    /// Adds the values of `rows` rows, and says how many bytes that took. A tensor of another form has none.
    fn observe(&mut self, tensors: &[Tensor], rows: usize) -> usize {
        let named = |tensor: &&Tensor| tensor.name() == self.tensor || tensor.name().is_empty();
        let tensor = tensors.iter().find(named);
        let tensor =
            tensor.filter(|tensor| tensor.len() == rows * self.width && tensor.datatype() == self.datatype);
        let mut bytes = 0;
        for row in 0..rows {
            let at = row * self.width + self.index;
            match &mut self.values {
                Values::Numbers(numbers) => {
                    let number = tensor.and_then(|tensor| tensor.data().f64_at(at));
                    numbers.push(number.unwrap_or(f64::NAN));
                    bytes += size_of::<f64>();
                }
                Values::Texts(builder) => {
                    let text = tensor.and_then(|tensor| tensor.data().as_strings()?.get(at));
                    match text.map(String::from_utf8_lossy) {
                        Some(text) => {
                            // As if each were new: the bound has to hold for texts that are never seen twice.
                            bytes += text.len() + size_of::<String>() + size_of::<u64>();
                            builder.push_text(&text);
                        }
                        None => builder.push_missing(),
                    }
                }
            }
        }
        bytes
    }

    fn feature(self) -> Subject {
        let kind = if self.datatype == TensorDatatype::Bool {
            Kind::Boolean
        } else {
            Kind::Numeric
        };
        self.subject(kind, None, None)
    }

    fn subject(self, kind: Kind, role: Option<Role>, class: Option<&str>) -> Subject {
        let mut builder = match self.values {
            Values::Texts(builder) => *builder,
            Values::Numbers(numbers) => {
                let datatype = datatype(self.datatype);
                let mut builder =
                    SubjectBuilder::new(&self.name, &self.tensor, self.index as u32, datatype, kind);
                for number in numbers {
                    match kind {
                        Kind::Boolean if number.is_nan() => builder.push_missing(),
                        Kind::Boolean => builder.push_boolean(number != 0.0),
                        _ => builder.push_number(number),
                    }
                }
                builder
            }
        };
        if let Some(role) = role {
            builder = builder.role(role, class);
        }
        builder.finish()
    }

    fn numbers(&self) -> &[f64] {
        match &self.values {
            Values::Numbers(numbers) => numbers,
            Values::Texts(_) => &[],
        }
    }

    /// Whether a few whole numbers or truth values name classes.
    fn names_classes(&self) -> bool {
        let whole = !matches!(
            self.datatype,
            TensorDatatype::Fp16 | TensorDatatype::Bf16 | TensorDatatype::Fp32 | TensorDatatype::Fp64
        );
        let mut levels: Vec<f64> = self.numbers().iter().copied().filter(|x| is_usable(*x)).collect();
        levels.sort_unstable_by(f64::total_cmp);
        levels.dedup();
        whole && levels.len() <= MAX_LEVELS
    }
}

/// Outputs by what they look like: texts, truth values and few whole numbers are predicted classes, columns of a tensor that make
/// 1 together in every row are probabilities, and anything else is a value.
fn outputs(columns: Vec<Column>) -> Vec<Subject> {
    let tensors: HashSet<String> = columns.iter().map(|column| column.tensor.clone()).collect();
    let probabilities: HashSet<String> = tensors
        .into_iter()
        .filter(|tensor| {
            are_probabilities(&columns.iter().filter(|c| c.tensor == *tensor).collect::<Vec<_>>())
        })
        .collect();
    columns
        .into_iter()
        .map(|column| {
            if probabilities.contains(&column.tensor) {
                let class = column.class.clone().unwrap_or_else(|| column.index.to_string());
                column.subject(Kind::Numeric, Some(Role::Probability), Some(&class))
            } else if column.datatype == TensorDatatype::Bool {
                column.subject(Kind::Boolean, Some(Role::Label), None)
            } else if column.datatype == TensorDatatype::Bytes || column.names_classes() {
                column.subject(Kind::Categorical, Some(Role::Label), None)
            } else {
                column.subject(Kind::Numeric, Some(Role::Value), None)
            }
        })
        .collect()
}

fn are_probabilities(columns: &[&Column]) -> bool {
    const ROUNDING: f64 = 1e-3;
    let rows = columns.first().map_or(0, |column| column.numbers().len());
    let whole_tensor = columns.len() >= 2 && columns.iter().all(|column| column.width == columns.len());
    whole_tensor
        && rows > 0
        && (0..rows).all(|row| {
            let row: Vec<f64> = columns
                .iter()
                .filter_map(|column| column.numbers().get(row).copied())
                .collect();
            let told: Vec<f64> = row.iter().copied().filter(|p| !p.is_nan()).collect();
            let valid = told.iter().all(|p| (-ROUNDING..=1.0 + ROUNDING).contains(p));
            valid && (told.len() < row.len() || (told.iter().sum::<f64>() - 1.0).abs() <= ROUNDING)
        })
}

fn datatype(datatype: TensorDatatype) -> Datatype {
    match datatype {
        TensorDatatype::Bool => Datatype::Bool,
        TensorDatatype::Uint8 => Datatype::Uint8,
        TensorDatatype::Uint16 => Datatype::Uint16,
        TensorDatatype::Uint32 => Datatype::Uint32,
        TensorDatatype::Uint64 => Datatype::Uint64,
        TensorDatatype::Int8 => Datatype::Int8,
        TensorDatatype::Int16 => Datatype::Int16,
        TensorDatatype::Int32 => Datatype::Int32,
        TensorDatatype::Int64 => Datatype::Int64,
        TensorDatatype::Fp16 => Datatype::Fp16,
        TensorDatatype::Bf16 => Datatype::Bf16,
        TensorDatatype::Fp32 => Datatype::Fp32,
        TensorDatatype::Fp64 => Datatype::Fp64,
        TensorDatatype::Bytes => Datatype::Bytes,
    }
}

#[cfg(test)]
mod tests {
    use plumbline_inference_protocol::{StringData, TensorData};

    use super::*;

    fn numbers(name: &str, shape: &[i64], values: Vec<f32>) -> Tensor {
        Tensor::new(name, shape, TensorData::from_vec(values)).expect("a tensor")
    }

    fn integers(name: &str, values: Vec<i64>) -> Tensor {
        Tensor::new(name, [values.len() as i64], TensorData::from_vec(values)).expect("a tensor")
    }

    fn texts(name: &str, values: &[String]) -> Tensor {
        let data: StringData = values.iter().map(String::as_str).collect();
        Tensor::new(name, [values.len() as i64], TensorData::from_strings(data)).expect("a tensor")
    }

    fn rows(inputs: Vec<Tensor>, outputs: Vec<Tensor>) -> Rows {
        Rows::new(inputs, Ok(outputs)).expect("rows")
    }

    fn learn(wanted: u64, parts: Vec<Rows>) -> Progress {
        let mut learner = Learner::new("churn", "3", wanted, &parts[0]).expect("columns");
        let mut last = Progress::Rows(0);
        for part in parts {
            last = learner.observe(&part, || "2026-01-31T12:00:00Z".to_owned());
        }
        last
    }

    /// 100 rows of a classifier, from row `from` on.
    fn part(from: usize) -> Rows {
        let all = from..from + 100;
        let p = |row: usize| (row % 97) as f32 / 97.0;
        let mut probabilities = numbers(
            "probabilities",
            &[100, 2],
            all.clone().flat_map(|row| [1.0 - p(row), p(row)]).collect(),
        );
        probabilities.set_class_labels(["no", "yes"]);
        rows(
            vec![
                numbers(
                    "x",
                    &[100, 2],
                    all.clone().flat_map(|row| [row as f32, p(row)]).collect(),
                ),
                texts(
                    "plan",
                    &all.clone()
                        .map(|row| format!("plan {}", row % 3))
                        .collect::<Vec<_>>(),
                ),
            ],
            vec![
                probabilities,
                integers("label", all.clone().map(|row| i64::from(p(row) >= 0.5)).collect()),
                numbers("x", &[100, 1], all.map(|row| row as f32 * 0.1).collect()),
            ],
        )
    }

    #[test]
    fn columns_become_subjects_by_what_they_look_like() {
        assert!(matches!(
            learn(1_000, vec![part(0), part(100)]),
            Progress::Rows(200)
        ));
        let Progress::Learned(profile) = learn(1_000, (0..10).map(|at| part(at * 100)).collect()) else {
            panic!("enough rows");
        };
        let told: Vec<(&str, Kind, Option<Role>, Option<&str>)> = profile
            .subjects()
            .map(|subject| {
                (
                    subject.name.as_str(),
                    subject.kind,
                    subject.role,
                    subject.class.as_deref(),
                )
            })
            .collect();
        let probability = Some(Role::Probability);
        assert_eq!(
            told,
            [
                ("x_0", Kind::Numeric, None, None),
                ("x_1", Kind::Numeric, None, None),
                ("plan", Kind::Categorical, None, None),
                ("probabilities_0", Kind::Numeric, probability, Some("no")),
                ("probabilities_1", Kind::Numeric, probability, Some("yes")),
                ("label", Kind::Categorical, Some(Role::Label), None),
                ("x", Kind::Numeric, Some(Role::Value), None),
            ]
        );
        assert_eq!((profile.data.rows, profile.features[0].count), (1_000, 1_000));
        assert_eq!(
            profile.features[2]
                .categorical
                .as_ref()
                .map(|plans| plans.distinct),
            Some(3)
        );
        assert_eq!(profile.generator.name, GENERATOR);
    }

    #[test]
    fn a_tensor_of_another_form_is_missing_in_its_rows() {
        let other = rows(
            vec![numbers("x", &[100, 3], vec![0.0; 300])],
            vec![integers("label", vec![1; 100])],
        );
        let mut parts: Vec<Rows> = (0..9).map(|at| part(at * 100)).collect();
        parts.push(other);
        let Progress::Learned(profile) = learn(1_000, parts) else {
            panic!("enough rows");
        };
        let missing: Vec<u64> = profile.subjects().map(|subject| subject.missing).collect();
        assert_eq!(missing, [100, 100, 100, 100, 100, 0, 100]);
    }

    #[test]
    fn what_takes_too_much_memory_is_given_up_or_ends_early() {
        let long = |from: usize, bytes: usize| {
            let values: Vec<String> = (from..from + 100)
                .map(|row| format!("{row} {}", "x".repeat(bytes)))
                .collect();
            rows(
                vec![texts("text", &values)],
                vec![integers("label", vec![1; 100])],
            )
        };
        let Progress::GivenUp(reason) = learn(5_000, vec![long(0, 200_000)]) else {
            panic!("100 rows are too few");
        };
        assert!(reason.starts_with("100 rows take more than"), "{reason}");
        let parts = (0..12).map(|at| long(at * 100, 15_000)).collect();
        let Progress::Learned(profile) = learn(5_000, parts) else {
            panic!("1,200 rows are enough");
        };
        assert_eq!(
            (profile.data.rows, profile.features[0].kind),
            (1_200, Kind::TextLength)
        );
    }

    #[test]
    fn a_model_without_tensors_cannot_be_learned() {
        let nothing = rows(vec![integers("x", vec![1])], vec![]);
        assert!(Learner::new("churn", "3", 1_000, &nothing).is_none());
    }
}
