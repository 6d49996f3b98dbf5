//! `plumbline drift`: two files of rows, compared.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use plumbline_drift::offline::{self, ColumnComparison, TableComparison, Thresholds};
use plumbline_drift::report::State;

use crate::column::known;
use crate::table::Table;
use crate::terminal::{Format, Style, Terminal, columns, printable};

/// Compare the rows of two files, column by column.
///
/// Rows are CSV with a header, NDJSON or Parquet with flat columns, also one with the other.
/// A column has drifted when the difference is both certain (a p-value below --alpha, split over columns and tests) and
/// large enough to matter (an effect on the scale of the PSI, with the part that sampling alone explains taken off).
/// Exit status: 0 without drift (warnings are not drift), 1 with drift, 2 after an error.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The reference.
    #[arg(value_name = "A")]
    reference: PathBuf,
    /// The rows on trial.
    #[arg(value_name = "B")]
    detection: PathBuf,
    /// How to write the result.
    #[arg(long, default_value = "text")]
    format: Format,
    /// Columns to leave out: row numbers, timestamps.
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    exclude: Vec<String>,
    /// Probability of any false alarm over all columns.
    #[arg(long, default_value_t = Thresholds::default().alpha, value_parser = probability)]
    alpha: f64,
    /// Effect size from which a difference is drift.
    #[arg(long, value_name = "EFFECT", default_value_t = Thresholds::default().drift_effect, value_parser = effect)]
    drift_effect: f64,
    /// Effect size from which a difference is a warning.
    #[arg(long, value_name = "EFFECT", default_value_t = Thresholds::default().warning_effect, value_parser = effect)]
    warning_effect: f64,
}

const EXAMPLES: &str = "\
Examples:
  plumbline drift reference.csv october.csv
  plumbline drift reference.csv october.csv --exclude id,timestamp --format json | jq '.columns[] | {name, verdict}'
  plumbline drift reference.parquet october.ndjson
  plumbline drift reference.csv october.csv || echo 'drift, or an error'";

fn probability(text: &str) -> Result<f64, &'static str> {
    text.parse()
        .ok()
        .filter(|x| *x > 0.0 && *x < 1.0)
        .ok_or("expected a number between 0 and 1")
}

fn effect(text: &str) -> Result<f64, &'static str> {
    text.parse()
        .ok()
        .filter(|x: &f64| *x >= 0.0 && x.is_finite())
        .ok_or("expected a number of at least 0")
}

/// Runs the command.
pub(crate) fn run(args: &Args, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let thresholds = Thresholds {
        alpha: args.alpha,
        warning_effect: args.warning_effect.min(args.drift_effect),
        drift_effect: args.drift_effect,
    };
    let (reference, detection) = (Table::read(&args.reference)?, Table::read(&args.detection)?);
    // A column may be in one file only; a name that is in neither is a mistake.
    let in_either = |name: &&str| detection.position(name).is_none();
    known(
        &reference,
        "--exclude",
        args.exclude.iter().map(String::as_str).filter(in_either),
    )?;
    let comparison = offline::compare(
        &values(&reference, &args.exclude),
        &values(&detection, &args.exclude),
        &thresholds,
    );
    anyhow::ensure!(
        !comparison.columns.is_empty(),
        "{} and {} have no column in common",
        args.reference.display(),
        args.detection.display()
    );
    match args.format {
        Format::Json => terminal.line(&serde_json::to_string_pretty(&comparison)?),
        Format::Text => {
            for line in describe(&comparison, &args.reference, &args.detection, terminal) {
                terminal.line(&line);
            }
        }
    }
    Ok(if comparison.verdict == State::Drift {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

fn values(table: &Table, exclude: &[String]) -> offline::Table {
    let kept: Vec<usize> = (0..table.columns().len())
        .filter(|i| !exclude.contains(&table.columns()[*i]))
        .collect();
    let mut values = offline::Table::new(kept.iter().map(|i| table.columns()[*i].as_str()));
    for row in 0..table.len() {
        values.push_row(kept.iter().map(|column| table.cell(row, *column)));
    }
    values
}

fn describe(comparison: &TableComparison, a: &Path, b: &Path, terminal: &Terminal) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{} ({} rows) → {} ({} rows)",
            printable(&a.display().to_string()),
            comparison.reference_rows,
            printable(&b.display().to_string()),
            comparison.detection_rows
        ),
        String::new(),
    ];
    let rows: Vec<Vec<String>> = comparison.columns.iter().map(row).collect();
    let header = [
        "column", "PSI", "critical", "effect", "JS", "chi²", "p", "KS", "p", "W₁/sd", "verdict",
    ];
    for (i, line) in columns(&header, &rows).into_iter().enumerate() {
        let style = i
            .checked_sub(1)
            .map_or(Some(Style::Bold), |i| style(comparison.columns[i].verdict));
        lines.push(style.map_or(line.clone(), |style| terminal.paint(style, &line)));
    }
    lines.push(String::new());
    for (names, file) in [
        (&comparison.only_in_reference, a),
        (&comparison.only_in_detection, b),
    ] {
        if !names.is_empty() {
            lines.push(format!(
                "only in {}: {}",
                file.display(),
                printable(&names.join(", "))
            ));
        }
    }
    let count = |state| {
        comparison
            .columns
            .iter()
            .filter(|column| column.verdict == state)
            .count()
    };
    let (drifted, warned) = (count(State::Drift), count(State::Warning));
    let total = comparison.columns.len();
    let text = format!(
        "{}: {drifted} of {total} columns drifted, {warned} with a warning (p-values below {:.1e} count)",
        match comparison.verdict {
            State::Drift => "drift",
            _ => "no drift",
        },
        comparison.p_value_gate
    );
    let style = style(comparison.verdict).unwrap_or(Style::Green);
    lines.push(terminal.paint(style, &text));
    lines
}

fn style(verdict: State) -> Option<Style> {
    match verdict {
        State::Drift => Some(Style::Red),
        State::Warning => Some(Style::Yellow),
        State::Stable | State::Recovered => None,
    }
}

fn row(column: &ColumnComparison) -> Vec<String> {
    let statistics = column.statistics.as_ref();
    let samples = column.samples.as_ref();
    let verdict = match column.verdict {
        State::Drift => "drift",
        State::Warning => "warning",
        _ if column.insufficient => "too few rows",
        _ => "stable",
    };
    vec![
        printable(&column.name),
        number(statistics.map(|s| s.psi)),
        number(statistics.map(|s| s.psi_critical)),
        number(statistics.map(|s| s.effect)),
        number(statistics.map(|s| s.js_distance)),
        statistics.map_or_else(|| "–".to_owned(), |s| format!("{:.1}", s.chi_square)),
        p_value(statistics.map(|s| s.p_value)),
        number(samples.map(|s| s.ks)),
        p_value(samples.map(|s| s.ks_p_value)),
        number(samples.map(|s| s.wasserstein_normed)),
        verdict.to_owned(),
    ]
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value != 0.0 && (value.abs() < 5e-5 || value.abs() >= 1e5) => format!("{value:.1e}"),
        Some(value) => format!("{value:.4}"),
    }
}

fn p_value(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(p) if p < 1e-99 => "<1e-99".to_owned(),
        Some(p) if p < 1e-3 => format!("{p:.0e}"),
        Some(p) => format!("{p:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_have_to_be() {
        assert_eq!(
            [
                number(Some(0.0)),
                number(Some(0.25)),
                number(Some(1e-6)),
                number(None)
            ],
            ["0.0000", "0.2500", "1.0e-6", "–"]
        );
        assert_eq!(
            [
                p_value(Some(1.0)),
                p_value(Some(4e-7)),
                p_value(Some(0.0)),
                p_value(None)
            ],
            ["1.000", "4e-7", "<1e-99", "–"]
        );
    }

    #[test]
    fn thresholds_are_checked() {
        assert!(probability("0.01").is_ok() && probability("0").is_err() && probability("1").is_err());
        assert!(effect("0.1").is_ok() && effect("-0.1").is_err() && effect("NaN").is_err());
    }
}
