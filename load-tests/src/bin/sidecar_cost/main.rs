//! What the sidecar costs in front of a model server, beside nginx as a plain proxy there: CPU time a request, added
//! latency, memory. The model server is the constant-answer one, so that the proxies are what is measured; everything is
//! interleaved in one run.

mod contender;
mod measure;
mod report;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use plumbline_load_tests::process;
use plumbline_load_tests::table::median;
use plumbline_load_tests::traffic::{Cell, Traffic};

use self::contender::{Contender, Place, Running, memory};
use self::measure::{Care, Figures, Load, arrivals};
use self::report::Memory;

/// CPU a request, added latency and memory of the sidecar, beside nginx and nothing, interleaved.
#[derive(Debug, Parser)]
struct Arguments {
    /// Kinds of requests; all unless told.
    #[arg(long, value_enum, value_delimiter = ',')]
    cells: Vec<Cell>,
    /// Who is measured; everybody unless told.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Contender>,
    /// Rounds; each measures everything once.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Connections of the closed loop.
    #[arg(long, short, default_value_t = 16)]
    connections: usize,
    /// Arrivals of the open loops, in percent of what the slowest manages in the closed one.
    #[arg(long, value_delimiter = ',', default_value = "25,50,75")]
    percents: Vec<u32>,
    /// No open loops: throughput and CPU time only.
    #[arg(long)]
    saturated_only: bool,
    /// A measurement of which the hypervisor kept a larger share is repeated, and left out after the third time.
    #[arg(long, default_value_t = 0.02)]
    most_steal: f64,
    /// CPUs of the model server and the proxies, of which one is measured at a time.
    #[arg(long, default_value = "0")]
    server_cpus: String,
    /// CPUs of the load generator.
    #[arg(long, default_value = "1")]
    load_cpus: String,
    /// Let the scheduler place them.
    #[arg(long)]
    no_pin: bool,
    /// Where the release programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// nginx.
    #[arg(long, default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    /// Its settings.
    #[arg(long, default_value = "load-tests/nginx/nginx.conf")]
    nginx_settings: PathBuf,
    /// Where the tables are written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// The sidecar's memory is looked at when what its start needed has been given back.
const SETTLE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _closed_pipe = writeln!(std::io::stderr(), "sidecar-cost: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.no_pin {
        process::pin(&arguments.load_cpus)?;
    }
    let place = Place {
        programs: arguments.programs.clone(),
        nginx: arguments.nginx.clone(),
        nginx_settings: arguments.nginx_settings.clone(),
        cpus: (!arguments.no_pin).then(|| arguments.server_cpus.clone()),
    };
    let cells = chosen(&arguments.cells, &Cell::ALL);
    let contenders = chosen(&arguments.only, &Contender::ALL);
    let profiles = tempfile::tempdir()?;
    let traffics: Vec<Traffic> = cells
        .iter()
        .map(|cell| Traffic::new(*cell))
        .collect::<Result<_, _>>()?;
    let flags: Vec<String> = traffics
        .iter()
        .map(|traffic| traffic.write_profile(profiles.path()))
        .collect::<Result<_, _>>()?;

    let upstream = place.constant_server()?;
    let running: Vec<Running> = contenders
        .iter()
        .map(|contender| Running::start(*contender, &place, upstream.address(), &flags))
        .collect::<Result<_, _>>()?;
    let idle = idle(&place, upstream.address(), &running)?;
    let care = Care {
        seconds: arguments.seconds,
        most_steal: arguments.most_steal,
        upstream: upstream.pid(),
    };
    let loads: Vec<Load> = [Load::Closed(arguments.connections)]
        .into_iter()
        .chain(arguments.percents.iter().copied().map(Load::Open))
        .take(if arguments.saturated_only { 1 } else { usize::MAX })
        .collect();
    let mut figures = Figures::default();
    for traffic in &traffics {
        let peak = peak(&care, &running, traffic, arguments.connections)?;
        for load in &loads {
            if let Some(rate) = arrivals(*load, peak).0.rate() {
                figures.rates.insert((traffic.cell, *load), rate);
            }
        }
    }
    for round in 0..arguments.rounds {
        progress(&format!("round {} of {}", round + 1, arguments.rounds));
        for traffic in &traffics {
            for load in &loads {
                self::round(&care, &running, traffic, *load, round, &mut figures)?;
            }
        }
    }
    let memories: Vec<Memory> = idle
        .into_iter()
        .chain(running.iter().filter_map(|running| {
            // One that ended has failed requests, which ended the run.
            let (resident, proportional) = running.memory().ok().filter(|memory| memory.0 > 0)?;
            Some(Memory {
                what: format!("{}, after the load", running.contender.label()),
                resident,
                proportional,
            })
        }))
        .collect();
    let text = report::text(&figures, &traffics, &loads, &contenders, &memories, arguments);
    std::io::stdout().write_all(text.as_bytes())?;
    if let Some(output) = &arguments.output {
        std::fs::write(output, text).with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(())
}

/// One measurement of each contender, whose order takes turns.
fn round(
    care: &Care,
    running: &[Running],
    traffic: &Traffic,
    load: Load,
    round: usize,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let rate = figures.rates.get(&(traffic.cell, load)).copied();
    let (arrivals, connections) = match load {
        Load::Open(_) => arrivals(Load::Open(100), rate.context("every open loop has a rate")?),
        Load::Closed(_) => arrivals(load, 0.0),
    };
    for place in 0..running.len() {
        let running = &running[(place + round) % running.len()];
        let sample = care
            .measure(running, traffic, arrivals, round as u64, connections)
            .with_context(|| format!("{}, {}, {load}", running.contender.label(), traffic.cell.label()))?;
        figures.add(traffic.cell, load, running.contender, sample);
    }
    Ok(())
}

/// What the slowest contender manages, as a first look.
fn peak(care: &Care, running: &[Running], traffic: &Traffic, connections: usize) -> anyhow::Result<f64> {
    let mut slowest = f64::INFINITY;
    for running in running {
        let rates: Vec<f64> = (0..3)
            .map(|seed| {
                let (arrivals, connections) = arrivals(Load::Closed(connections), 0.0);
                care.measure(running, traffic, arrivals, seed, connections)
                    .map(|sample| sample.map_or(f64::NAN, |sample| sample.rate))
            })
            .collect::<Result<_, _>>()
            .with_context(|| format!("{}, {}", running.contender.label(), traffic.cell.label()))?;
        let rates: Vec<f64> = rates.into_iter().filter(|rate| rate.is_finite()).collect();
        anyhow::ensure!(
            !rates.is_empty(),
            "the hypervisor keeps more than --most-steal of the machine's time: try later"
        );
        slowest = slowest.min(median(&rates));
    }
    Ok(slowest)
}

/// Memory before the first request, of a sidecar with the profile of 30 features, of one without, and of nginx.
fn idle(place: &Place, upstream: std::net::SocketAddr, running: &[Running]) -> anyhow::Result<Vec<Memory>> {
    let directory = tempfile::tempdir()?;
    let small = Traffic::new(Cell::SmallJson)?.write_profile(directory.path())?;
    let mut memories = Vec::new();
    for (what, profiles) in [
        ("sidecar, idle, no profile", vec![]),
        ("sidecar, idle, a profile of 30 features", vec![small]),
    ] {
        let sidecar = place.sidecar(upstream, "on", &profiles)?;
        std::thread::sleep(SETTLE);
        let (resident, proportional) = memory(sidecar.pid())?;
        memories.push(Memory {
            what: what.to_owned(),
            resident,
            proportional,
        });
    }
    if let Some(nginx) = running
        .iter()
        .find(|running| running.contender == Contender::Nginx)
    {
        let (resident, proportional) = nginx.memory()?;
        memories.push(Memory {
            what: "nginx, idle, master and worker".to_owned(),
            resident,
            proportional,
        });
    }
    Ok(memories)
}

fn chosen<T: Copy>(some: &[T], all: &[T]) -> Vec<T> {
    if some.is_empty() { all } else { some }.to_vec()
}

/// A long run says where it is.
fn progress(text: &str) {
    let _closed_pipe = writeln!(std::io::stderr(), "{text}");
}
