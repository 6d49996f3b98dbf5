//! What happens beyond capacity, and how much of a request's time is the server's own.
//!
//! Overload: the peak is measured with a closed loop, then three times as much arrives, at random, whatever the server
//! does. Overhead: at half the peak, the server's own clocks for whole requests and for runs of the model.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use plumbline_load_tests::client::{Http, Targets, Transport};
use plumbline_load_tests::exit;
use plumbline_load_tests::inputs;
use plumbline_load_tests::load::{self, Plan, Report};
use plumbline_load_tests::process::{self, Server};
use plumbline_load_tests::request::{Encoding, Request};
use plumbline_load_tests::schedule::Arrivals;
use plumbline_load_tests::scrape::{Histogram, metrics};
use plumbline_load_tests::table::{Table, figure};

/// Goodput, latency and refusals at a multiple of capacity; overhead at half of it.
#[derive(Debug, Parser)]
struct Arguments {
    /// Models as `NAME/model.onnx` in this directory.
    #[arg(long, default_value = ".setup/load-models")]
    models: PathBuf,
    /// `MODEL:ROWS` of a request; each is a row of the table.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "gb:1,gb:32,mlp:1,heavy:1,heavy:8"
    )]
    cases: Vec<Case>,
    /// Arrivals as a multiple of the peak.
    #[arg(long, default_value_t = 3.0)]
    times: f64,
    /// Connections of the overload: more than the server's queue is long, fewer than a usual limit of open files.
    #[arg(long, default_value_t = 800)]
    connections: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Further flags of the model-server, such as `--max-queue=64`.
    #[arg(long = "server-flag", allow_hyphen_values = true)]
    server_flags: Vec<String>,
    /// CPUs of the server.
    #[arg(long, default_value = "0")]
    server_cpus: String,
    /// CPUs of the load generator.
    #[arg(long, default_value = "1")]
    load_cpus: String,
    /// Let the scheduler place both.
    #[arg(long)]
    no_pin: bool,
    /// Where the release programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Where the tables are written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// A model and the rows of a request.
#[derive(Clone, Debug)]
struct Case {
    model: String,
    rows: usize,
}

impl std::str::FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (model, rows) = text.split_once(':').ok_or("expected MODEL:ROWS")?;
        let rows = rows
            .parse()
            .map_err(|_| format!("`{rows}` is no number of rows"))?;
        Ok(Case {
            model: model.to_owned(),
            rows,
        })
    }
}

fn main() -> ExitCode {
    exit::code("overload", run(&Arguments::parse()).map(|()| true))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.no_pin {
        process::pin(&arguments.load_cpus)?;
    }
    let mut beyond = Table::new(&[
        "model, rows",
        "peak req/s (c64)",
        "due req/s",
        "good req/s",
        "goodput ÷ peak",
        "p50 / p99 µs alone (c1)",
        "p50 / p99 µs of accepted",
        "refused",
        "of them without Retry-After",
        "p50 / p99 µs to refuse",
        "failed",
        "steal",
    ]);
    let mut within = Table::new(&[
        "model, rows",
        "req/s",
        "request µs: mean, p99",
        "run µs: mean, p99",
        "queue µs: mean",
        "overhead µs: mean, p50, p99 (request − run − queue)",
        "wire p50 / p99 µs",
        "steal",
    ]);
    for case in &arguments.cases {
        measure(arguments, case, &mut beyond, &mut within)
            .with_context(|| format!("{}, {} rows", case.model, case.rows))?;
    }
    let text = format!(
        "## At {} times the peak\n\nPoisson arrivals for {} s over {} connections, V2 JSON, latency from the time a request was \
         due; rates are counted over the whole run, up to the last answer.\n\n{}\n## Overhead at half the peak\n\nThe \
         server's own histograms over {} s of Poisson arrivals, V2 JSON; quantiles are interpolated within their \
         buckets.\n\n{}",
        arguments.times,
        arguments.seconds,
        arguments.connections,
        beyond.text(),
        arguments.seconds,
        within.text()
    );
    std::io::stdout().write_all(text.as_bytes())?;
    if let Some(output) = &arguments.output {
        std::fs::write(output, text).with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(())
}

fn measure(arguments: &Arguments, case: &Case, beyond: &mut Table, within: &mut Table) -> anyhow::Result<()> {
    let directory = arguments.models.join(&case.model);
    let mut flags = vec![
        "--model".to_owned(),
        directory.to_str().context("a path that is text")?.to_owned(),
    ];
    flags.extend(arguments.server_flags.iter().cloned());
    let cpus = (!arguments.no_pin).then_some(arguments.server_cpus.as_str());
    let mut server = Server::start(&arguments.programs.join("plumbline-model-server"), &flags, cpus)?;
    server.wait_until_ready("/v2/health/ready")?;
    let transport = Transport::plain(Http::One);
    let specs = inputs::of_model(server.address(), &transport, &case.model)?;
    let requests = inputs::requests(Encoding::V2, &case.model, &specs, None, &[case.rows], 16, 1)?;
    let load = |arrivals, connections, seconds| -> anyhow::Result<Report> {
        load(&server, &requests, arrivals, connections, seconds)
    };
    let seconds = Duration::try_from_secs_f64(arguments.seconds)?;
    let name = format!("{}, {}", case.model, case.rows);
    let pair = |histogram: &hdrhistogram::Histogram<u64>| {
        let micros = |quantile| figure(histogram.value_at_quantile(quantile) as f64 / 1e3);
        format!("{} / {}", micros(0.5), micros(0.99))
    };

    let alone = load(Arrivals::Closed, 1, seconds / 2)?;
    let peak = load(Arrivals::Closed, 64, seconds / 2)?.rate();

    let (text, half) = {
        let before = metrics(server.admin()?)?;
        let half = load(Arrivals::Poisson(peak / 2.0), 256, seconds)?;
        ((before, metrics(server.admin()?)?), half)
    };
    let histogram = |what: &str| {
        let labels = [format!("model=\"{}\"", case.model)];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let name = format!("plumbline_server_{what}_duration_seconds");
        Histogram::of(&text.1, &name, &labels).since(&Histogram::of(&text.0, &name, &labels))
    };
    let overhead = histogram("overhead");
    let (request, compute, queue) = (histogram("request"), histogram("compute"), histogram("queue"));
    within.row(&[
        name.clone(),
        figure(half.rate()),
        format!(
            "{}, {}",
            figure(request.mean() * 1e6),
            figure(request.quantile(0.99) * 1e6)
        ),
        format!(
            "{}, {}",
            figure(compute.mean() * 1e6),
            figure(compute.quantile(0.99) * 1e6)
        ),
        figure(queue.mean() * 1e6),
        format!(
            "{}, {}, {}",
            figure(overhead.mean() * 1e6),
            figure(overhead.quantile(0.5) * 1e6),
            figure(overhead.quantile(0.99) * 1e6)
        ),
        pair(&half.tally.ok),
        format!("{:.3}", half.steal),
    ]);

    let over = load(
        Arrivals::Poisson(peak * arguments.times),
        arguments.connections,
        seconds,
    )?;
    let due = peak * arguments.times;
    beyond.row(&[
        name,
        figure(peak),
        figure(due),
        figure(over.rate()),
        figure(over.rate() / peak),
        pair(&alone.tally.ok),
        pair(&over.tally.ok),
        over.tally.refused.len().to_string(),
        over.tally.refused_without_retry_after.to_string(),
        pair(&over.tally.refused),
        over.tally.failed().to_string(),
        format!("{:.3}", over.steal),
    ]);
    for (what, report) in [("half the peak", &half), ("overload", &over)] {
        if let Some(doubt) = report.doubt() {
            writeln!(
                std::io::stderr(),
                "{}, {} rows, {what}: {doubt}",
                case.model,
                case.rows
            )?;
        }
        if report.tally.failed() > 0 {
            writeln!(
                std::io::stderr(),
                "{}, {} rows, {what}: {:?}",
                case.model,
                case.rows,
                report.tally.faults
            )?;
        }
    }
    Ok(())
}

fn load(
    server: &Server,
    requests: &[Request],
    arrivals: Arrivals,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Report> {
    let mut plan = Plan {
        arrivals,
        connections,
        duration,
        ..Plan::new(
            Targets::new(vec![server.address()]),
            Transport::plain(Http::One),
            requests.to_vec(),
        )
    };
    plan.expect.may_refuse = true;
    // Within this time the answers of an overload come or do not.
    plan.timeout = Duration::from_secs(5);
    load::run(&plan)
}
