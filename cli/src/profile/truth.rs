//! What `--target` adds to a profile: what is predicted, how well, and how far the probabilities can be believed.

use std::collections::BTreeSet;

use plumbline_drift::is_usable;
use plumbline_drift::performance::calibration_bins;
use plumbline_drift::profile::{Answers, Calibration, Datatype, Kind, Role, Subject, Target, Training};

use super::Args;
use crate::column::{Column, Value, columns, known};
use crate::table::{CellType, Table};

/// Bins asked for in a calibration curve.
const CALIBRATION_BINS: usize = 10;

/// The sections of a profile that need the truth.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Truth {
    pub(super) target: Option<Target>,
    pub(super) training: Option<Training>,
    pub(super) calibration: Option<Vec<Calibration>>,
}

/// Rows with a truth and all answers; the others are left out.
struct Scored {
    truth: Vec<String>,
    labels: Option<Vec<String>>,
    /// Shape `[probability columns][rows]`.
    probabilities: Vec<Vec<f64>>,
}

/// The columns that are needed, as the rows of the profile have them.
struct Columns<'a> {
    target: Column,
    label: Option<&'a Column>,
    /// With the class and the name of the output.
    probabilities: Vec<(&'a Column, &'a str, &'a str)>,
}

/// Describes the target, measures the answers, and draws calibration curves; nothing without `--target`.
///
/// `outputs` are the profile's; `all` the columns of its features, then of its outputs.
pub(super) fn describe(
    args: &Args,
    table: &Table,
    outputs: &[Subject],
    all: &[Column],
) -> anyhow::Result<Truth> {
    let Some(name) = &args.target else {
        return Ok(Truth::default());
    };
    let needed = Columns::of(args, table, outputs, all, name)?;
    let scored = Scored::read(table, &needed)?;
    anyhow::ensure!(
        !scored.truth.is_empty(),
        "--target {name}: no row of {} has a value there and in every output column",
        table.path().display()
    );
    let classes = needed.classes(table, &scored);
    let positive_class = match (&args.positive_class, needed.probabilities.as_slice()) {
        (Some(class), _) => Some(class.clone()),
        (None, [(_, class, _)]) => Some((*class).to_owned()),
        (None, _) => None,
    };
    if let Some(class) = args
        .positive_class
        .as_ref()
        .filter(|class| !classes.contains(class))
    {
        anyhow::bail!("--positive-class {class}: the classes are {}", list(&classes));
    }
    if let Some(labels) = &scored.labels {
        let answered: BTreeSet<&String> = labels.iter().collect();
        anyhow::ensure!(
            scored.truth.iter().any(|truth| answered.contains(truth)),
            "--target {name}: it holds {}, and the labels are {}: no class in common",
            list(&scored.truth.iter().collect::<BTreeSet<_>>()),
            list(&answered)
        );
    }
    let calibration = needed.probabilities.iter().zip(&scored.probabilities);
    let calibration: Vec<Calibration> = calibration
        .map(|((_, class, output), probabilities)| {
            let happened = scored.truth.iter().map(|truth| truth == class);
            let rows: Vec<(f64, bool)> = probabilities.iter().copied().zip(happened).collect();
            Calibration {
                output: (*output).to_owned(),
                bins: calibration_bins(&rows, CALIBRATION_BINS),
            }
        })
        .collect();
    let held_out = match &args.held_out {
        None => scored,
        Some(path) => needed.read_elsewhere(&Table::read(path)?)?,
    };
    let is_classifier = needed.label.is_some() || !needed.probabilities.is_empty();
    let training = is_classifier.then(|| held_out.measure(&needed, &classes, positive_class.as_deref()));
    Ok(Truth {
        target: Some(Target {
            name: name.clone(),
            classes,
            positive_class,
        }),
        training,
        calibration: Some(calibration).filter(|curves| !curves.is_empty()),
    })
}

impl<'a> Columns<'a> {
    fn of(
        args: &Args,
        table: &Table,
        outputs: &'a [Subject],
        all: &'a [Column],
        target: &str,
    ) -> anyhow::Result<Self> {
        let answers = all.iter().skip(all.len() - outputs.len()).zip(outputs);
        let with_role = |role| {
            let answers = answers.clone();
            answers.filter(move |(_, output)| output.role == Some(role))
        };
        let label = with_role(Role::Label).next().map(|(column, _)| column);
        let mut probabilities: Vec<_> = with_role(Role::Probability)
            .filter_map(|(column, output)| {
                let class = output.class.as_deref()?;
                Some((output.column, column, class, &*output.name))
            })
            .collect();
        // In the order of the tensor's columns; those of tensors of their own as they are in the file.
        probabilities.sort_by_key(|(index, ..)| *index);
        let mut target = columns(table, &args.kind, &args.datatype)?
            .into_iter()
            .find(|column| column.name == target)
            .expect("a column, as checked before");
        if label.is_some_and(|label| label.kind == Kind::Boolean) {
            (target.kind, target.datatype) = (Kind::Boolean, Datatype::Bool);
        }
        Ok(Self {
            target,
            label,
            probabilities: probabilities
                .into_iter()
                .map(|(_, column, class, output)| (column, class, output))
                .collect(),
        })
    }

    /// Those of the probabilities in their order, then whatever else is true of a row; none of a number that no label or
    /// probability is about.
    fn classes(&self, table: &Table, scored: &Scored) -> Vec<String> {
        let is_number = table.cell_type(self.target.position) == CellType::Number;
        if is_number && self.label.is_none() && self.probabilities.is_empty() {
            return Vec::new();
        }
        let mut classes: Vec<String> = self
            .probabilities
            .iter()
            .map(|(_, class, _)| (*class).to_owned())
            .collect();
        let found: BTreeSet<&String> = scored
            .truth
            .iter()
            .chain(scored.labels.iter().flatten())
            .collect();
        let others: Vec<String> = found
            .into_iter()
            .filter(|class| !classes.contains(class))
            .cloned()
            .collect();
        classes.extend(others);
        classes
    }

    /// The same columns of another table.
    fn read_elsewhere(&self, table: &Table) -> anyhow::Result<Scored> {
        let own = self
            .label
            .into_iter()
            .chain(self.probabilities.iter().map(|(column, ..)| *column));
        let names = own
            .clone()
            .chain([&self.target])
            .map(|column| column.name.as_str());
        known(table, "--held-out", names)?;
        let moved = |column: &Column| Column {
            position: table.position(&column.name).expect("known above"),
            ..column.clone()
        };
        let label = self.label.map(moved);
        let probabilities: Vec<Column> = self
            .probabilities
            .iter()
            .map(|(column, ..)| moved(column))
            .collect();
        let needed = Columns {
            target: moved(&self.target),
            label: label.as_ref(),
            probabilities: probabilities.iter().map(|column| (column, "", "")).collect(),
        };
        let scored = Scored::read(table, &needed)?;
        anyhow::ensure!(
            !scored.truth.is_empty(),
            "--held-out: no row of {} has a truth and every answer",
            table.path().display()
        );
        Ok(scored)
    }
}

impl Scored {
    fn read(table: &Table, columns: &Columns<'_>) -> anyhow::Result<Self> {
        let classes = |column: &Column| -> Result<Vec<Option<String>>, _> {
            column.values(table).map(|value| value.map(class)).collect()
        };
        let numbers = |column: &Column| -> Result<Vec<Option<f64>>, _> {
            column.values(table).map(|value| value.map(probability)).collect()
        };
        let truth = classes(&columns.target)?;
        let labels = columns.label.map(classes).transpose()?;
        let probabilities: Vec<Vec<Option<f64>>> = columns
            .probabilities
            .iter()
            .map(|(column, ..)| numbers(column))
            .collect::<Result<_, _>>()?;
        let rows: Vec<usize> = (0..table.len())
            .filter(|row| {
                truth[*row].is_some()
                    && labels.as_ref().is_none_or(|labels| labels[*row].is_some())
                    && probabilities.iter().all(|own| own[*row].is_some())
            })
            .collect();
        let texts = |own: &[Option<String>]| rows.iter().filter_map(|row| own[*row].clone()).collect();
        Ok(Self {
            truth: texts(&truth),
            labels: labels.as_deref().map(texts),
            probabilities: probabilities
                .iter()
                .map(|own| rows.iter().filter_map(|row| own[*row]).collect())
                .collect(),
        })
    }

    fn measure(&self, columns: &Columns<'_>, classes: &[String], positive_class: Option<&str>) -> Training {
        let labels = self.labels.as_deref().map(texts);
        let named = columns.probabilities.iter().zip(&self.probabilities);
        let probabilities: Vec<(&str, &[f64])> = named
            .map(|((_, class, _), own)| (*class, own.as_slice()))
            .collect();
        let answers = Answers {
            truth: &texts(&self.truth),
            labels: labels.as_deref(),
            probabilities: &probabilities,
            classes: &texts(classes),
            positive_class,
        };
        answers.measure()
    }
}

fn texts(own: &[String]) -> Vec<&str> {
    own.iter().map(String::as_str).collect()
}

/// A class as the profile spells it: 1 and 1.0 are the same.
fn class(value: Value<'_>) -> Option<String> {
    match value {
        Value::Missing => None,
        Value::Number(x) => is_usable(x).then(|| (x + 0.0).to_string()),
        Value::Integer(i) => Some(i.to_string()),
        Value::Truth(truth) => Some(truth.to_string()),
        Value::Text(text) => Some(text.to_owned()),
    }
}

fn probability(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Number(x) => Some(x).filter(|x| is_usable(*x)),
        Value::Integer(i) => Some(i as f64),
        Value::Missing | Value::Truth(_) | Value::Text(_) => None,
    }
}

/// The first few of the names.
fn list<'a>(names: impl IntoIterator<Item = &'a (impl AsRef<str> + 'a)>) -> String {
    let mut names: Vec<String> = names
        .into_iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    if names.len() > 8 {
        names.truncate(8);
        names.push("…".to_owned());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::args;
    use crate::profile::{Described, subjects};
    use crate::table::tests::table;

    fn truth(text: &str, arguments: &[&str]) -> anyhow::Result<Truth> {
        let (table, args) = (table(text), args(arguments));
        let Described { outputs, columns, .. } = subjects(&args, &table, None)?;
        describe(&args, &table, &outputs, &columns)
    }

    fn refused(text: &str, arguments: &[&str]) -> String {
        truth(text, arguments).expect_err("refused").to_string()
    }

    const BINARY: &str = "x,left,label,p1,p0\n1,1,1,0.75,0.25\n2,0,1,0.5,0.5\n3,0,0,0.25,0.75\n4,1,0,0.5,0.5\n5,,1,1,0\n6,1,1,,\n";

    #[test]
    fn a_binary_classifier_has_all_of_them() {
        let found = truth(
            BINARY,
            &[
                "--target=left",
                "--output-columns=label,p1,p0",
                "--kind=label=categorical",
                "--class=p1=1",
                "--class=p0=0",
                "--tensor=p0=p",
                "--tensor=p1=p:1",
                "--positive-class=1",
            ],
        )
        .expect("described");
        let target = found.target.expect("a target");
        assert_eq!(
            (target.classes, target.positive_class),
            (vec!["0".to_owned(), "1".to_owned()], Some("1".to_owned())),
            "in the order of the tensor"
        );
        let training = found.training.expect("measures");
        assert_eq!(
            (training.rows, training.accuracy, training.precision, training.auc),
            (Some(4), Some(0.5), Some(0.5), Some(0.875)),
            "rows without a truth or an answer are left out"
        );
        let log_loss = -(0.75_f64.ln() * 2.0 + 0.5_f64.ln() * 2.0) / 4.0;
        assert!(training.log_loss.is_some_and(|l| (l - log_loss).abs() < 1e-15));
        let curves = found.calibration.expect("curves");
        assert_eq!([&*curves[0].output, &*curves[1].output], ["p0", "p1"]);
        assert_eq!(curves[1].bins.iter().map(|bin| bin.count).sum::<u64>(), 4);
    }

    #[test]
    fn one_probability_names_the_positive_class_and_the_held_out_rows_give_the_measures() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("held-out.csv");
        std::fs::write(&path, "p,left\n0.9,yes\n0.1,no\n0.2,yes\n").expect("written");
        let text = "x,left,p\n1,yes,0.5\n2,no,0.5\n";
        let held_out = format!("--held-out={}", path.display());
        let arguments = ["--target=left", "--output-columns=p", "--class=p=yes", &held_out];
        let found = truth(text, &arguments).expect("described");
        let target = found.target.expect("a target");
        assert_eq!(target.classes, ["yes", "no"]);
        assert_eq!(target.positive_class.as_deref(), Some("yes"));
        let training = found.training.expect("measures");
        assert_eq!(
            (training.rows, training.accuracy, training.auc),
            (Some(3), None, Some(1.0))
        );
        assert!(training.log_loss.is_some(), "p of the other class is 1 - p");
        assert_eq!(found.calibration.expect("a curve")[0].bins[0].count, 0);
        std::fs::write(&path, "score,left\n0.9,yes\n").expect("written");
        assert!(refused(text, &arguments).contains("has no column `p`; it has `score`, `left`"));
    }

    #[test]
    fn truth_values_and_numbers_are_targets_too() {
        let label = [
            "--target=y",
            "--output-columns=label",
            "--kind=label=boolean",
            "--positive-class=true",
        ];
        let found = truth("x,y,label\n1,1,true\n2,0,true\n", &label).expect("described");
        let training = found.training.expect("measures");
        assert_eq!((training.accuracy, training.recall), (Some(0.5), Some(1.0)));
        let regression = truth(
            "x,y,guess\n1,2.5,2\n2,3,3\n",
            &["--target=y", "--output-columns=guess"],
        );
        let found = regression.expect("described");
        assert_eq!(found.target.map(|target| target.classes), Some(Vec::new()));
        assert_eq!((found.training, found.calibration), (None, None));
        assert_eq!(truth("x,y\n1,2\n", &[]).expect("nothing"), Truth::default());
    }

    #[test]
    fn what_cannot_be_measured_is_told() {
        let text = "x,y,label\n1,True,yes\n2,False,no\n";
        let arguments = ["--target=y", "--output-columns=label"];
        assert_eq!(
            refused(text, &arguments),
            "--target y: it holds `False`, `True`, and the labels are `no`, `yes`: no class in common"
        );
        let arguments = ["--target=y", "--output-columns=label", "--positive-class=ja"];
        assert!(refused(text, &arguments).starts_with("--positive-class ja: the classes are `False`, "));
        assert_eq!(
            refused("x,y,label\n1,,yes\n", &["--target=y", "--output-columns=label"]),
            "--target y: no row of rows.csv has a value there and in every output column"
        );
    }
}
