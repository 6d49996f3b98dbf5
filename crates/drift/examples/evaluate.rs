//! Runs tables through the monitor and the detectors of this crate, and tells where they alarm.
//!
//! Usage: `evaluate --reference ROWS [--rate RATE] FILE...`. A FILE is a CSV table with a header, rows in the order of time; its first
//! ROWS rows are the reference. One line of JSON per file goes to the standard output: an [`Outcome`]. Rows are counted from 0, the
//! reference included.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

use plumbline_drift::monitor::Settings;
use plumbline_drift::offline::{Column, Table};
use plumbline_drift::profile::{Datatype, Kind, Profile, Subject};
use plumbline_drift::sequential::{Adwin, AdwinSettings, Bets, ConformalDetector, Cusum, Ewma, PageHinkley};
use plumbline_drift::{Monitor, SplitMix64};
use serde::Serialize;

/// What the detectors say about a table.
#[derive(Serialize)]
struct Outcome {
    file: String,
    /// All rows, the reference included.
    rows: usize,
    reference: usize,
    /// Rows at which the model left the stable state.
    model: Vec<usize>,
    columns: Vec<ColumnOutcome>,
}

/// What they say about one of its columns.
#[derive(Default, Serialize)]
struct ColumnOutcome {
    name: String,
    /// As the monitor bins it.
    kind: String,
    /// Rows of the alarms, by detector; those of means take numeric columns only.
    alarms: BTreeMap<&'static str, Vec<usize>>,
    /// For each alarm of the monitor, the row from which it says the change began.
    onsets: Vec<Option<usize>>,
    /// The monitor's windows.
    windows: Vec<WindowOutcome>,
}

/// Statistics of a window of the monitor.
#[derive(Serialize)]
struct WindowOutcome {
    /// Its last row.
    row: usize,
    psi: f64,
    effect: f64,
    p_value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ks_p_value: Option<f64>,
    /// Whether values were found to depend on each other, so that evidence does not count.
    dependent: bool,
}

struct Options {
    reference: usize,
    /// False alarms a row: of the model for the monitor, of a column for its sequential test alone.
    rate: f64,
    files: Vec<String>,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        reference: 0,
        rate: Settings::default().false_alarm_rate,
        files: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument}: a value is missing"));
        match argument.as_str() {
            "--reference" => options.reference = parse(&argument, &value()?)?,
            "--rate" => options.rate = parse(&argument, &value()?)?,
            _ => options.files.push(argument),
        }
    }
    if options.reference == 0 || options.files.is_empty() {
        return Err("expected --reference ROWS [--rate RATE] FILE...".to_owned());
    }
    Ok(options)
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(flag: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|e| format!("{flag} {value}: {e}"))
}

fn main() -> ExitCode {
    let run = || {
        let options = options()?;
        let mut out = std::io::stdout().lock();
        for file in &options.files {
            let outcome = evaluate(file, &options).map_err(|e| format!("{file}: {e}"))?;
            let line = serde_json::to_string(&outcome).map_err(|e| format!("{file}: {e}"))?;
            writeln!(out, "{line}").map_err(|e| e.to_string())?;
        }
        Ok::<(), String>(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "evaluate: {problem}");
            ExitCode::from(2)
        }
    }
}

/// The whole table, and the part of it that is the reference.
fn read(file: &str, reference: usize) -> Result<(Table, Table), String> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_path(file)
        .map_err(|e| e.to_string())?;
    let header = reader.headers().map_err(|e| e.to_string())?.clone();
    let (mut whole, mut part) = (Table::new(&header), Table::new(&header));
    for record in reader.records() {
        let record = record.map_err(|e| e.to_string())?;
        whole.push_row(&record);
        if part.rows() < reference as u64 {
            part.push_row(&record);
        }
    }
    if whole.rows() <= reference as u64 {
        return Err(format!(
            "{} rows, expected more than the reference's {reference}",
            whole.rows()
        ));
    }
    Ok((whole, part))
}

fn evaluate(file: &str, options: &Options) -> Result<Outcome, String> {
    let (whole, part) = read(file, options.reference)?;
    let subjects: Vec<Subject> = whole
        .columns()
        .iter()
        .zip(part.columns())
        .map(|(all, known)| {
            let (datatype, kind) = if all.is_numeric() {
                (Datatype::Fp64, Kind::Numeric)
            } else {
                (Datatype::Bytes, Kind::Categorical)
            };
            known.builder(&known.name, 0, datatype, kind).finish()
        })
        .collect();
    let mut columns: Vec<ColumnOutcome> = whole
        .columns()
        .iter()
        .zip(&subjects)
        .map(|(column, subject)| ColumnOutcome {
            name: column.name.clone(),
            kind: format!("{:?}", subject.kind).to_lowercase(),
            ..charts(column, subject, options)
        })
        .collect();
    let model = watch(&whole, subjects, options, &mut columns)?;
    Ok(Outcome {
        file: file.to_owned(),
        rows: whole.rows() as usize,
        reference: options.reference,
        model,
        columns,
    })
}

/// Whatever takes one value at a time and may alarm.
type Detector = Box<dyn FnMut(f64) -> bool>;

/// The detectors of means, on values in standard deviations of the reference.
fn charts(column: &Column, subject: &Subject, options: &Options) -> ColumnOutcome {
    let mut outcome = ColumnOutcome::default();
    if subject.kind != Kind::Numeric {
        return outcome;
    }
    let numeric = subject.numeric.as_ref();
    let mean = numeric.and_then(|n| n.mean).unwrap_or(0.0);
    // A constant reference has no scale of its own: whatever differs from it is far off.
    let least = 1e-9 * mean.abs().max(1.0);
    let sd = numeric
        .and_then(|n| n.variance)
        .map_or(least, |v| v.sqrt().max(least));
    let (mut adwin, mut strict) = (
        Adwin::default(),
        Adwin::new(AdwinSettings {
            delta: options.rate,
            ..AdwinSettings::default()
        }),
    );
    let (mut page_hinkley, mut cusum, mut ewma) = (PageHinkley::default(), Cusum::default(), Ewma::default());
    let mut detectors: [(&str, Detector); 5] = [
        ("adwin", Box::new(move |z| adwin.update(z))),
        ("adwin_strict", Box::new(move |z| strict.update(z))),
        ("page_hinkley", Box::new(move |z| page_hinkley.update(z))),
        ("cusum", Box::new(move |z| cusum.update(z))),
        ("ewma", Box::new(move |z| ewma.update(z))),
    ];
    for (name, detector) in &mut detectors {
        let mut alarms = Vec::new();
        for (row, value) in column.values.iter().enumerate() {
            let Ok(x) = value.parse::<f64>() else { continue };
            if detector((x - mean) / sd) && row >= options.reference {
                alarms.push(row);
            }
        }
        outcome.alarms.insert(name, alarms);
    }
    outcome
}

/// Runs the monitor over the rows after the reference, and beside it the sequential test of each column on its own, at the full rate.
fn watch(
    table: &Table,
    subjects: Vec<Subject>,
    options: &Options,
    outcomes: &mut [ColumnOutcome],
) -> Result<Vec<usize>, String> {
    let mut tests: Vec<_> = subjects
        .iter()
        .map(|subject| {
            let counts = subject.reference_counts();
            ConformalDetector::new(&counts, Bets::for_reference(&counts))
        })
        .collect();
    let profile = profile(subjects, options.reference as u64);
    let settings = Settings {
        false_alarm_rate: options.rate,
        ..Settings::default()
    };
    let mut monitor = Monitor::new(&profile, settings, 0).map_err(|e| e.to_string())?;
    let mut ties = SplitMix64::new(settings.seed);
    let mut model = Vec::new();
    for outcome in &mut *outcomes {
        outcome.alarms.insert("monitor", Vec::new());
        outcome.alarms.insert("evidence", Vec::new());
    }
    for row in options.reference..table.rows() as usize {
        for (i, column) in table.columns().iter().enumerate() {
            let before = monitor.cumulative(i).to_vec();
            match column.values[row].as_str() {
                "" => monitor.observe_missing(i),
                text => monitor.observe_text(i, text.as_bytes()),
            }
            // The monitor knows the cell: the one that has grown.
            let cell = monitor
                .cumulative(i)
                .iter()
                .zip(&before)
                .position(|(now, then)| now != then);
            let cell = cell.ok_or(format!(
                "row {row}, column {}: the monitor counted nothing",
                column.name
            ))?;
            let test = &mut tests[i];
            test.update(cell, ties.uniform());
            if test.evidence() >= 1.0 / options.rate {
                outcomes[i].alarms.entry("evidence").or_default().push(row);
                test.restart();
            }
        }
        if !monitor.end_row() {
            continue;
        }
        let report = monitor.close_window(row as i64);
        for (outcome, subject) in outcomes.iter_mut().zip(&report.subjects) {
            if let Some(statistics) = subject.statistics {
                outcome.windows.push(WindowOutcome {
                    row,
                    psi: statistics.psi,
                    effect: statistics.effect,
                    p_value: statistics.p_value,
                    ks_p_value: statistics.ks_p_value,
                    dependent: !subject.evidence.calibrated,
                });
            }
        }
        for transition in &report.transitions {
            if transition.from.level() > 0 || transition.to.level() == 0 {
                continue;
            }
            let Some(name) = &transition.subject else {
                model.push(row);
                continue;
            };
            let subjects = outcomes.iter_mut().zip(&report.subjects);
            for (outcome, subject) in subjects.filter(|(_, subject)| subject.name == *name) {
                outcome.alarms.entry("monitor").or_default().push(row);
                // The reported rows include this one.
                outcome
                    .onsets
                    .push(subject.onset.map(|onset| row + 1 - onset.rows_ago as usize));
            }
        }
    }
    Ok(model)
}

fn profile(features: Vec<Subject>, rows: u64) -> Profile {
    Profile::new("table", "1", rows, features, Vec::new())
}
