//! What each step of the path costs: a constant-answer server, the model-server alone, behind the sidecar, and behind
//! gateway and sidecar, interleaved in one run.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use plumbline_load_tests::client::{Http, Targets, Transport};
use plumbline_load_tests::exit;
use plumbline_load_tests::inputs::{self, Table as Rows};
use plumbline_load_tests::load::{self, Plan};
use plumbline_load_tests::process::{self, Server};
use plumbline_load_tests::request::{Encoding, Request};
use plumbline_load_tests::table::{Table, figure, median};

/// Requests/s and CPU per request of each step of the path, interleaved.
#[derive(Debug, Parser)]
struct Arguments {
    /// Model directory: `model.onnx` and `profile.json`.
    #[arg(long, default_value = "model-source/artifacts/churn")]
    model: PathBuf,
    /// Table whose rows are sent, one a request.
    #[arg(long, default_value = "model-source/artifacts/churn/heldout.csv")]
    rows: PathBuf,
    /// Where the release programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Connections kept busy.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Rounds; each measures every step once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Where the table is written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// One step of the path: where requests go in, and whose CPU time counts.
struct Step<'a> {
    name: &'static str,
    servers: Vec<&'a Server>,
    rates: Vec<f64>,
    cpu_micros: Vec<f64>,
    p50_micros: Vec<f64>,
}

fn main() -> ExitCode {
    exit::code("path-cost", measure(&Arguments::parse()).map(|()| true))
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let start = |name: &str, flags: &[String]| Server::start(&arguments.programs.join(name), flags, None);
    let path = |path: &PathBuf| path.to_str().map(str::to_owned).context("a path that is text");
    let name = arguments
        .model
        .file_name()
        .and_then(|name| name.to_str())
        .context("a model directory")?;

    let constant = start("constant-server", &[])?;
    let mut model = start(
        "plumbline-model-server",
        &["--model".into(), path(&arguments.model)?],
    )?;
    model.wait_until_ready(&format!("/v2/models/{name}/ready"))?;
    let profile = path(&arguments.model.join("profile.json"))?;
    let upstream = format!("http://{}", model.address());
    let sidecar = start(
        "plumbline-sidecar",
        &["--upstream".into(), upstream, "--profile".into(), profile],
    )?;
    let route = format!("{name}=http://{}", sidecar.address());
    let gateway = start("plumbline-gateway", &["--route".into(), route])?;

    let specs = inputs::of_model(model.address(), &Transport::plain(Http::One), name)?;
    let rows = Rows::read(&arguments.rows)?;
    let requests = inputs::requests(Encoding::V2, name, &specs, Some(&rows), &[1], 16, 1)?;
    // Requests enter at the first server of a step.
    let steps: [(&str, Vec<&Server>); 4] = [
        ("constant-answer hyper server", vec![&constant]),
        ("model-server", vec![&model]),
        ("sidecar + model-server", vec![&sidecar, &model]),
        (
            "gateway + sidecar + model-server",
            vec![&gateway, &sidecar, &model],
        ),
    ];
    let mut steps = steps.map(|(name, servers)| Step {
        name,
        servers,
        rates: Vec::new(),
        cpu_micros: Vec::new(),
        p50_micros: Vec::new(),
    });
    for _round in 0..arguments.rounds {
        for step in &mut steps {
            step.measure(arguments, &requests).with_context(|| step.name)?;
        }
    }
    let table = table(arguments, &steps)?;
    std::io::stdout().write_all(table.as_bytes())?;
    if let Some(output) = &arguments.output {
        std::fs::write(output, table).with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(())
}

impl Step<'_> {
    fn measure(&mut self, arguments: &Arguments, requests: &[Request]) -> anyhow::Result<()> {
        let targets = Targets::new(vec![self.servers[0].address()]);
        let report = load::run(&Plan {
            connections: arguments.connections,
            duration: Duration::try_from_secs_f64(arguments.seconds)?,
            processes: self.servers.iter().map(|server| server.pid()).collect(),
            ..Plan::new(targets, Transport::plain(Http::One), requests.to_vec())
        })?;
        anyhow::ensure!(report.tally.failed() == 0, "requests failed:\n{report}");
        self.rates.push(report.rate());
        self.cpu_micros.push(report.cpu_micros());
        self.p50_micros.push(report.micros(0.5));
        Ok(())
    }
}

fn table(arguments: &Arguments, steps: &[Step<'_>]) -> anyhow::Result<String> {
    let mut table = Table::new(&[
        "path",
        "requests/s",
        "of constant",
        "CPU µs/request",
        "p50 µs",
        "PSS MiB",
    ]);
    let floor = median(&steps[0].rates);
    for step in steps {
        let memory: u64 = step
            .servers
            .iter()
            .map(|server| process::proportional_memory(server.pid()))
            .sum::<Result<_, _>>()?;
        let rate = median(&step.rates);
        table.row(&[
            step.name.to_owned(),
            figure(rate),
            figure(rate / floor),
            figure(median(&step.cpu_micros)),
            figure(median(&step.p50_micros)),
            figure(memory as f64 / f64::from(1 << 20)),
        ]);
    }
    Ok(format!(
        "V2 JSON, 1 row, {} connections, closed loop, {} rounds of {} s interleaved, medians; load generator on the \
         same machine\n\n{}",
        arguments.connections,
        arguments.rounds,
        arguments.seconds,
        table.text()
    ))
}
