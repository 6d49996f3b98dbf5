//! Ten thousand stationary streams of every shape, and how many of them ever raise an alarm, as a table in Markdown.
//!
//! Usage: `false_alarms [--streams N] [--subjects N] [--threads N] [--output FILE]`; with `--subjects`, models of so many only. Ends with
//! status 1 when a promise is broken.

mod simulation;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use simulation::{Case, Law, Outcome, clopper_pearson, run};

/// Every law, and what the table calls it.
const LAWS: [(Law, &str); 7] = [
    (Law::Uniform, "uniform"),
    (Law::Normal, "normal"),
    (Law::Skewed, "skewed (exponential)"),
    (Law::HeavyTailed, "heavy-tailed (Pareto 1.5)"),
    (Law::Category, "12 categories"),
    (Law::Levels, "5 levels"),
    (Law::Flag, "flag 0.05"),
];
/// Subjects and the rows that their streams have.
const SHAPES: [(usize, usize); 4] = [(1, 1_000), (10, 1_000), (50, 1_000), (200, 500)];
/// A promise that 10,000 streams can tell from a broken one.
const VISIBLE: f64 = 0.05;
/// The monitor's default, false alarms a row of the whole model.
const DEFAULT_RATE: f64 = 1e-6;
/// A promise counts as broken when the lower end of this interval is above it: once in 2,000 rows of the table by chance.
const DOUBTLESS: f64 = 0.999;

struct Options {
    streams: u64,
    subjects: Option<u64>,
    threads: u64,
    output: Option<std::path::PathBuf>,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        streams: 10_000,
        subjects: None,
        threads: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        output: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or(format!("{flag}: a value is missing"))?;
        let number = || {
            value
                .parse()
                .ok()
                .filter(|n| *n > 0)
                .ok_or(format!("{flag} {value}: expected a number above 0"))
        };
        match flag.as_str() {
            "--streams" => options.streams = number()?,
            "--subjects" => options.subjects = Some(number()?),
            "--threads" => options.threads = number()?,
            "--output" => options.output = Some(value.into()),
            _ => {
                return Err(format!(
                    "{flag}: expected --streams, --subjects, --threads or --output"
                ));
            }
        }
    }
    Ok(options)
}

/// The streams of a case, shared out over threads.
fn outcome(case: &Case, options: &Options) -> Outcome {
    let part = |thread: u64| {
        let at = |i: u64| options.streams * i / options.threads;
        run(case, at(thread)..at(thread + 1))
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..options.threads)
            .map(|i| scope.spawn(move || part(i)))
            .collect();
        parts
            .into_iter()
            .map(|part| part.join().expect("a simulation does not panic"))
            .fold(Outcome::default(), |sum, part| Outcome {
                streams: sum.streams + part.streams,
                evidence: sum.evidence + part.evidence,
                verdict: sum.verdict + part.verdict,
            })
    })
}

/// One half of a row: alarms, their rate with its interval, and whether the promise holds.
fn cells(alarms: u64, streams: u64, promise: f64) -> (String, bool) {
    let (low, high) = clopper_pearson(alarms, streams, 0.95);
    let kept = clopper_pearson(alarms, streams, DOUBTLESS).0 <= promise;
    let rate = alarms as f64 / streams as f64;
    let text = format!(
        "{alarms} | {rate:.4} ({low:.4}–{high:.4}){}",
        if kept { "" } else { " **broken**" }
    );
    (text, kept)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "false_alarms: {problem}");
            return ExitCode::from(2);
        }
    };
    let mut table = String::from(
        "| law | subjects | rows | reference | promise | streams | evidence: alarms | rate (95 % interval) | verdict: alarms | rate (95 % interval) |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | --- |\n",
    );
    let mut all_kept = true;
    let wanted = |case: &Case| options.subjects.is_none_or(|n| case.subjects as u64 == n);
    for (case, law) in cases().filter(|(case, _)| wanted(case)) {
        let Outcome {
            streams,
            evidence,
            verdict,
        } = outcome(&case, &options);
        let (by_evidence, evidence_kept) = cells(evidence, streams, case.promise);
        let (by_verdict, verdict_kept) = cells(verdict, streams, case.promise);
        all_kept &= evidence_kept && verdict_kept;
        let together = if case.together { " together" } else { "" };
        let line = format!(
            "| {law} | {}{together} | {} | {} | {} | {streams} | {by_evidence} | {by_verdict} |",
            case.subjects, case.rows, case.reference, case.promise,
        );
        let _ = writeln!(std::io::stderr(), "{line}");
        let _ = writeln!(table, "{line}");
    }
    let written = match &options.output {
        Some(path) => std::fs::write(path, &table).map_err(|e| format!("{}: {e}", path.display())),
        None => std::io::stdout()
            .write_all(table.as_bytes())
            .map_err(|e| e.to_string()),
    };
    if let Err(problem) = &written {
        let _ = writeln!(std::io::stderr(), "false_alarms: {problem}");
    }
    ExitCode::from(u8::from(written.is_err() || !all_kept))
}

/// Every law with every shape, subjects apart and together, at the visible promise; one subject at the default rate, and against a
/// small reference whose pool grows twentyfold.
fn cases() -> impl Iterator<Item = (Case, &'static str)> {
    LAWS.into_iter().flat_map(|(law, name)| {
        let shapes = SHAPES.into_iter().flat_map(move |(subjects, rows)| {
            let apart = Case::new(law, subjects, rows, VISIBLE);
            let together = Case {
                together: true,
                ..apart
            };
            [Some(apart), (subjects > 1).then_some(together)]
                .into_iter()
                .flatten()
        });
        let default = Case::new(law, 1, 1_000, DEFAULT_RATE * 1_000.0);
        let small = Case {
            reference: 100,
            ..Case::new(law, 1, 2_000, VISIBLE)
        };
        shapes.chain([default, small]).map(move |case| (case, name))
    })
}
