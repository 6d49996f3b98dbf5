//! Ours and what somebody would pick instead, side by side: the same model file, the same CPU, rounds interleaved.

mod contender;
mod measure;
mod report;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use plumbline_load_tests::exit;
use plumbline_load_tests::process;

use self::contender::{Kind, Place, Running};
use self::measure::{Cell, Figures, Floor};

/// Requests/s, latency, CPU per request, memory and time to ready of each server, and their ratios.
#[derive(Debug, Parser)]
struct Arguments {
    /// Models as `NAME/model.onnx` in this directory.
    #[arg(long, default_value = ".setup/load-models")]
    models: PathBuf,
    /// The model of the whole table.
    #[arg(long, default_value = "gb")]
    model: String,
    /// Further models, measured in fewer cells.
    #[arg(long, value_delimiter = ',', default_value = "mlp")]
    also: Vec<String>,
    /// Who takes part; everybody unless told.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Rounds; each measures every cell once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// One round of half a second for a few cells: does it work at all.
    #[arg(long)]
    quick: bool,
    /// CPUs of the servers, of which one is measured at a time.
    #[arg(long, default_value = "0")]
    server_cpus: String,
    /// CPUs of the load generator.
    #[arg(long, default_value = "1")]
    load_cpus: String,
    /// Let the scheduler place servers and generator.
    #[arg(long)]
    no_pin: bool,
    /// Where the release programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Where the peers' Python files are.
    #[arg(long, default_value = "load-tests/peers")]
    peers: PathBuf,
    /// Where their environments are.
    #[arg(long, default_value = ".setup")]
    setup: PathBuf,
    /// Where the tables are written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    exit::code("peers", run(&Arguments::parse()))
}

/// Whether everything could be measured.
fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    if !arguments.no_pin {
        process::pin(&arguments.load_cpus)?;
    }
    let place = Place {
        programs: arguments.programs.clone(),
        peers: arguments.peers.clone(),
        setup: arguments.setup.clone(),
        server_cpus: (!arguments.no_pin).then(|| arguments.server_cpus.clone()),
    };
    let (rounds, seconds) = if arguments.quick {
        (1, 0.5)
    } else {
        (arguments.rounds, arguments.seconds)
    };
    let takes_part = |kind: &Kind| arguments.only.is_empty() || arguments.only.contains(kind);
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(takes_part).collect();
    let mut text = report::head(rounds, seconds, place.server_cpus.is_some());

    let cells = if arguments.quick { Cell::few() } else { Cell::all() };
    let figures = model(
        arguments,
        &place,
        &arguments.model,
        &kinds,
        &cells,
        (rounds, seconds),
    )?;
    text += &report::model(&arguments.model, &figures, &cells);
    let mut whole = figures.is_whole();
    let few: Vec<Kind> = kinds
        .into_iter()
        .filter(|kind| {
            matches!(
                kind,
                Kind::Constant | Kind::Plumbline | Kind::Unbatched | Kind::Starlette | Kind::Kserve
            )
        })
        .collect();
    for name in arguments.also.iter().filter(|_| !arguments.quick) {
        let cells = Cell::few();
        let figures = model(arguments, &place, name, &few, &cells, (rounds, seconds))?;
        text += &report::model(name, &figures, &cells);
        whole &= figures.is_whole();
    }
    std::io::stdout().write_all(text.as_bytes())?;
    if let Some(output) = &arguments.output {
        std::fs::write(output, text).with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(whole)
}

/// Measures `cells` of every contender that speaks them, forwards and backwards in turn.
fn model(
    arguments: &Arguments,
    place: &Place,
    name: &str,
    kinds: &[Kind],
    cells: &[Cell],
    (rounds, seconds): (usize, f64),
) -> anyhow::Result<Figures> {
    let file = arguments.models.join(name).join("model.onnx");
    anyhow::ensure!(
        file.exists(),
        "no model at {}: `make load-models` makes it",
        file.display()
    );
    let mut figures = Figures::new(kinds);
    let mut running = Vec::new();
    for kind in kinds {
        progress(&format!("{name}: starting {}", kind.label()));
        running.push(Running::start(*kind, &file, place)?);
    }
    // Ours starts in no time, so that one start says little.
    if kinds.contains(&Kind::Plumbline) {
        for _ in 0..rounds {
            figures
                .ready
                .push(Running::start(Kind::Plumbline, &file, place)?.ready);
        }
    }
    let requests = measure::requests(name, cells)?;
    for round in 0..rounds {
        progress(&format!("{name}: round {} of {rounds}", round + 1));
        figures.floor.push(Floor::measure(place, &file)?);
        for (cell, requests) in cells.iter().zip(&requests) {
            let mut order: Vec<&Running> = running
                .iter()
                .filter(|running| running.kind.takes_part(*cell))
                .collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for running in order {
                match cell.measure(running, requests, seconds) {
                    Ok(report) => figures.add(running.kind, *cell, &report),
                    // What one server does not manage does not end a run of minutes.
                    Err(error) => {
                        progress(&format!("{}, {cell}: {error:#}", running.kind.label()));
                        figures.failed(running.kind, *cell);
                    }
                }
            }
        }
    }
    figures.finish(&running);
    Ok(figures)
}

/// A long run says where it is.
fn progress(text: &str) {
    let _closed_pipe = writeln!(std::io::stderr(), "{text}");
}
