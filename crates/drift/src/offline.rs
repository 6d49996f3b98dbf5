//! Compares two tables once: the columns of one file with those of another, all values at hand.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::binner::{Binner, Place};
use crate::build::SubjectBuilder;
use crate::comparison;
use crate::profile::{Datatype, Kind};
use crate::report::{BinReport, MomentsReport, State, Statistics};
use crate::stats::samples;
use crate::{is_usable, moments};

/// Columns of equal length, with the names of a header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    columns: Vec<Column>,
    rows: u64,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name in the header.
    pub name: String,
    /// Its values, trimmed of blanks; empty where missing. Shape `[rows]`.
    pub values: Vec<String>,
}

impl Table {
    /// A table with these columns and no rows.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let columns = names
            .into_iter()
            .map(|n| Column {
                name: n.into(),
                values: Vec::new(),
            })
            .collect();
        Self { columns, rows: 0 }
    }

    /// Adds a row; cells beyond the header are left out, and cells that are not there are missing.
    pub fn push_row<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        let mut cells = cells.into_iter();
        for column in &mut self.columns {
            column
                .values
                .push(cells.next().unwrap_or_default().trim().to_owned());
        }
        self.rows += 1;
    }

    /// The columns, in the order of the header.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// Rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

impl Column {
    /// Whether every value that is there is a number, and there is one. `nan` and `inf` count as numbers that are missing.
    pub fn is_numeric(&self) -> bool {
        let mut present = self.values.iter().filter(|v| !v.is_empty()).peekable();
        present.peek().is_some() && present.all(|v| v.parse::<f64>().is_ok())
    }

    /// The numbers of a numeric column that are values.
    pub fn numbers(&self) -> impl Iterator<Item = f64> {
        self.values
            .iter()
            .filter_map(|v| v.parse().ok())
            .filter(|x| is_usable(*x))
    }

    /// A builder of the subject of this column, filled with its values; `kind` [`Kind::Numeric`] or [`Kind::Categorical`].
    ///
    /// A value of a numeric column that is no number counts as missing.
    pub fn builder(&self, tensor: &str, index: u32, datatype: Datatype, kind: Kind) -> SubjectBuilder {
        let mut builder = SubjectBuilder::new(&self.name, tensor, index, datatype, kind);
        for value in &self.values {
            match kind {
                Kind::Numeric => builder.push_number(value.parse().unwrap_or(f64::NAN)),
                Kind::Categorical | Kind::TextLength => builder.push_text(value),
                Kind::Boolean => match value.to_ascii_lowercase().as_str() {
                    "true" | "1" | "yes" => builder.push_boolean(true),
                    "false" | "0" | "no" => builder.push_boolean(false),
                    _ => builder.push_missing(),
                },
            }
        }
        builder
    }
}

/// What it takes to call a difference drift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Probability of any false alarm over all columns.
    pub alpha: f64,
    /// Effect size of a warning, on the scale of the PSI.
    pub warning_effect: f64,
    /// Effect size of drift.
    pub drift_effect: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            warning_effect: 0.02,
            drift_effect: 0.1,
        }
    }
}

/// Two tables, compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableComparison {
    /// The worst verdict of any column.
    pub verdict: State,
    /// Rows of the reference.
    pub reference_rows: u64,
    /// Rows of the other table.
    pub detection_rows: u64,
    /// The p-value that a column has to stay below: `alpha`, split over columns and their two tests.
    pub p_value_gate: f64,
    /// Columns of both tables, in the order of the reference.
    pub columns: Vec<ColumnComparison>,
    /// Columns that the other table does not have.
    pub only_in_reference: Vec<String>,
    /// Columns that the reference does not have.
    pub only_in_detection: Vec<String>,
}

/// One column of two tables, compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnComparison {
    /// Its name.
    pub name: String,
    /// How its values were binned.
    pub kind: Kind,
    /// Stable, warning or drift: an effect of that size, by a difference that is significant.
    pub verdict: State,
    /// Whether there are too few rows to tell drift from chance.
    pub insufficient: bool,
    /// Over bins; none when a side has no rows. Wasserstein and KS are those of the values themselves.
    pub statistics: Option<Statistics>,
    /// Over values; none for categories and where a side has none.
    pub samples: Option<SampleStatistics>,
    /// Moments of the reference; for numbers.
    pub reference_moments: Option<MomentsReport>,
    /// Moments of the other table.
    pub detection_moments: Option<MomentsReport>,
    /// Both histograms; `total` is the other table's count as well.
    pub bins: Vec<BinReport>,
}

/// Statistics of the values themselves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleStatistics {
    /// Kolmogorov–Smirnov statistic.
    pub ks: f64,
    /// Its p-value: exact for small tables, Stephens' approximation above.
    pub ks_p_value: f64,
    /// Wasserstein-1 distance, in the unit of the values.
    pub wasserstein: f64,
    /// The same in standard deviations of the reference.
    pub wasserstein_normed: f64,
    /// Energy distance.
    pub energy: f64,
    /// Cramér–von Mises statistic; from two values a side on.
    pub cramer_von_mises: Option<f64>,
    /// Its p-value.
    pub cramer_von_mises_p_value: Option<f64>,
    /// Anderson–Darling statistic, normalised; where it is defined.
    pub anderson_darling: Option<f64>,
}

/// Compares the columns that two tables share. Columns are numeric when they are in both tables.
pub fn compare(reference: &Table, detection: &Table, thresholds: &Thresholds) -> TableComparison {
    let shared: Vec<(&Column, &Column)> = reference
        .columns()
        .iter()
        .filter_map(|a| Some((a, detection.column(&a.name)?)))
        .collect();
    let gate = thresholds.alpha / (2.0 * shared.len().max(1) as f64);
    let columns: Vec<ColumnComparison> = shared
        .iter()
        .map(|(a, b)| compare_columns(a, b, thresholds, gate))
        .collect();
    let names: BTreeSet<&str> = shared.iter().map(|(a, _)| a.name.as_str()).collect();
    let rest = |table: &Table| {
        let own = table.columns().iter().map(|c| c.name.clone());
        own.filter(|name| !names.contains(name.as_str())).collect()
    };
    TableComparison {
        verdict: columns
            .iter()
            .map(|c| c.verdict)
            .max_by_key(|v| v.level())
            .unwrap_or_default(),
        reference_rows: reference.rows(),
        detection_rows: detection.rows(),
        p_value_gate: gate,
        only_in_reference: rest(reference),
        only_in_detection: rest(detection),
        columns,
    }
}

fn compare_columns(a: &Column, b: &Column, thresholds: &Thresholds, gate: f64) -> ColumnComparison {
    let is_empty = |c: &Column| c.values.iter().all(String::is_empty);
    // A column without any value is of whatever kind the other one is.
    let numeric =
        (a.is_numeric() || is_empty(a)) && (b.is_numeric() || is_empty(b)) && !(is_empty(a) && is_empty(b));
    let kind = if numeric { Kind::Numeric } else { Kind::Categorical };
    let subject = a.builder(&a.name, 0, Datatype::Bytes, kind).finish();
    let binner = Binner::new(&subject);
    let reference = subject.reference_counts();
    let mut detection = vec![0_u64; reference.len()];
    for value in &b.values {
        let (Place::Bin(bin) | Place::Number(bin, _)) = binner.text(value.as_bytes());
        detection[bin] += 1;
    }

    let compared = comparison::compare(&reference, &detection, numeric, 1.0, gate);
    let values = numeric.then(|| (samples::sorted(a.numbers()), samples::sorted(b.numbers())));
    let sample = values.as_ref().and_then(|(x, y)| sample_statistics(x, y));
    let statistics = compared.map(|c| Statistics {
        ks: sample.map(|s| s.ks),
        ks_p_value: sample.map(|s| s.ks_p_value),
        wasserstein: sample.map(|s| s.wasserstein),
        wasserstein_normed: sample.map(|s| s.wasserstein_normed),
        ..c.statistics
    });
    let effect = statistics.map_or(0.0, |s| s.effect);
    let p_value = statistics
        .map_or(1.0, |s| s.p_value)
        .min(sample.map_or(1.0, |s| s.ks_p_value));
    let plain = statistics.is_some_and(|s| effect - 2.0 * s.effect_error >= thresholds.drift_effect);
    let insufficient = compared.is_none_or(|c| c.null_error > thresholds.drift_effect / 2.0) && !plain;
    let verdict = if insufficient || p_value > gate || effect < thresholds.warning_effect {
        State::Stable
    } else if effect < thresholds.drift_effect {
        State::Warning
    } else {
        State::Drift
    };
    let terms = comparison::psi_terms(&reference, &detection);
    let edges = subject
        .numeric
        .as_ref()
        .map(|n| n.edges.clone())
        .unwrap_or_default();
    let moments_of = |sorted: &[f64]| {
        let m = moments(sorted);
        let sd = m.variance.unwrap_or(0.0).sqrt();
        Some(MomentsReport {
            mean: m.mean?,
            sd,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    };
    ColumnComparison {
        name: a.name.clone(),
        kind: subject.kind,
        verdict,
        insufficient,
        statistics,
        samples: sample,
        reference_moments: values.as_ref().and_then(|(x, _)| moments_of(x)),
        detection_moments: values.as_ref().and_then(|(_, y)| moments_of(y)),
        bins: comparison::bin_reports(
            &subject.bin_names(),
            &edges,
            &reference,
            &detection,
            &detection,
            &terms,
        ),
    }
}

fn sample_statistics(a: &[f64], b: &[f64]) -> Option<SampleStatistics> {
    let ks = samples::kolmogorov_smirnov(a, b)?;
    let cvm = samples::cramer_von_mises(a, b);
    Some(SampleStatistics {
        ks: ks.statistic,
        ks_p_value: ks.p_value(),
        wasserstein: samples::wasserstein(a, b)?,
        wasserstein_normed: samples::wasserstein_normed(a, b)?,
        energy: samples::energy_distance(a, b)?,
        cramer_von_mises: cvm.map(|c| c.statistic),
        cramer_von_mises_p_value: cvm.map(|c| c.p_value),
        anderson_darling: samples::anderson_darling(a, b),
    })
}

#[cfg(test)]
mod tests {
    use super::{Table, Thresholds, compare};
    use crate::SplitMix64;
    use crate::profile::Kind;
    use crate::report::State;

    fn table(seed: u64, rows: usize, shift: f64, yes: f64) -> Table {
        let mut rng = SplitMix64::new(seed);
        let mut table = Table::new(["x", "c", "gaps"]);
        for _ in 0..rows {
            let x = format!(" {} ", rng.uniform() + rng.uniform() + shift);
            let c = if rng.uniform() < yes { "yes" } else { "no" };
            let gap = if rng.uniform() < 0.1 { "" } else { "7" };
            table.push_row([x.as_str(), c, gap]);
        }
        table
    }

    #[test]
    fn two_halves_of_the_same_are_stable_and_a_changed_column_is_named() {
        let reference = table(1, 3_000, 0.0, 0.3);
        let same = compare(&reference, &table(2, 1_500, 0.0, 0.3), &Thresholds::default());
        assert_eq!(same.verdict, State::Stable);
        assert_eq!(
            same.columns.iter().map(|c| c.kind).collect::<Vec<_>>(),
            [Kind::Numeric, Kind::Categorical, Kind::Numeric]
        );
        let moved = compare(&reference, &table(3, 1_500, 0.3, 0.3), &Thresholds::default());
        let verdicts: Vec<State> = moved.columns.iter().map(|c| c.verdict).collect();
        assert_eq!(verdicts, [State::Drift, State::Stable, State::Stable]);
        let x = moved.columns.first().and_then(|c| c.samples).expect("numbers");
        assert!((x.wasserstein - 0.3).abs() < 0.03);
        let mixed = compare(&reference, &table(4, 1_500, 0.0, 0.4), &Thresholds::default());
        assert_eq!(mixed.verdict, State::Warning, "a small but certain change");
    }

    #[test]
    fn columns_and_kinds_that_do_not_match_are_told() {
        let mut a = Table::new(["n", "gone", "void"]);
        let mut b = Table::new(["void", "n", "new"]);
        for i in 0..400 {
            a.push_row([i.to_string().as_str(), "x"]);
            b.push_row(["", if i < 200 { "many" } else { "3" }, "y"]);
        }
        let result = compare(&a, &b, &Thresholds::default());
        assert_eq!(
            (result.only_in_reference, result.only_in_detection),
            (vec!["gone".to_owned()], vec!["new".to_owned()])
        );
        let n = result.columns.first().expect("a shared column");
        assert_eq!(
            (n.kind, n.verdict),
            (Kind::TextLength, State::Drift),
            "numbers against words"
        );
        let void = result.columns.last().expect("a shared column");
        assert_eq!((void.verdict, void.samples), (State::Stable, None));
    }

    #[test]
    fn few_rows_are_insufficient_and_none_are_no_panic() {
        let tiny = compare(
            &table(1, 20, 0.0, 0.3),
            &table(2, 20, 0.1, 0.3),
            &Thresholds::default(),
        );
        assert!(tiny.columns.iter().any(|c| c.insufficient));
        assert_eq!(tiny.verdict, State::Stable);
        let none = compare(&Table::new(["x"]), &Table::new(["x"]), &Thresholds::default());
        assert!(
            none.columns
                .iter()
                .all(|c| c.insufficient && c.statistics.is_none())
        );
    }
}
