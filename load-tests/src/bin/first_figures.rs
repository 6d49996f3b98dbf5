//! Requests per second and CPU per request at a fixed number of connections: a constant-answer server, the
//! model-server alone, behind the sidecar, and behind gateway and sidecar, interleaved in one run.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use plumbline_load_tests::process::Server;
use plumbline_load_tests::{closed_loop, request};

/// Requests/s and CPU per request of each step of the path, interleaved.
#[derive(Debug, Parser)]
struct Arguments {
    /// Model directory: `model.onnx` and `profile.json`.
    #[arg(long, default_value = "model-source/artifacts/churn")]
    model: PathBuf,
    /// Table whose first row is sent.
    #[arg(long, default_value = "model-source/artifacts/churn/heldout.csv")]
    rows: PathBuf,
    /// Where the release programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Connections kept busy.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Rounds; each measures every step once.
    #[arg(long, default_value_t = 7)]
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
    entry: &'a Server,
    servers: Vec<&'a Server>,
    rates: Vec<f64>,
    cpu_micros: Vec<f64>,
    p50_micros: Vec<f64>,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _closed_pipe = writeln!(std::io::stderr(), "first-figures: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let program = |name: &str| arguments.programs.join(name);
    let path = |path: &PathBuf| path.to_str().map(str::to_owned).context("a path that is text");
    let name = arguments
        .model
        .file_name()
        .and_then(|name| name.to_str())
        .context("a model directory")?;

    let constant = Server::start(&program("constant-server"), &[])?;
    let model_path = path(&arguments.model)?;
    let model = Server::start(
        &program("plumbline-model-server"),
        &["--model".into(), model_path],
    )?;
    let profile = path(&arguments.model.join("profile.json"))?;
    let upstream = format!("http://{}", model.address());
    let sidecar = ["--upstream".into(), upstream, "--profile".into(), profile];
    let sidecar = Server::start(&program("plumbline-sidecar"), &sidecar)?;
    let route = format!("{name}=http://{}", sidecar.address());
    let gateway = Server::start(&program("plumbline-gateway"), &["--route".into(), route])?;

    let request = request::first_row(model.address(), name, &arguments.rows)?;
    let step = |name, entry, servers| Step {
        name,
        entry,
        servers,
        rates: Vec::new(),
        cpu_micros: Vec::new(),
        p50_micros: Vec::new(),
    };
    let mut steps = [
        step("constant-answer hyper server", &constant, vec![&constant]),
        step("model-server", &model, vec![&model]),
        step("sidecar + model-server", &sidecar, vec![&sidecar, &model]),
        step(
            "gateway + sidecar + model-server",
            &gateway,
            vec![&gateway, &sidecar, &model],
        ),
    ];
    let duration = Duration::from_secs_f64(arguments.seconds);
    for round in 0..=arguments.rounds {
        for step in &mut steps {
            let before = cpu_seconds(&step.servers)?;
            let summary = closed_loop::run(step.entry.address(), &request, arguments.connections, duration)
                .with_context(|| step.name)?;
            anyhow::ensure!(
                summary.failed == 0,
                "{}: {} answers were not 200",
                step.name,
                summary.failed
            );
            // Round 0 warms up: connections, pages, branch predictors.
            if round > 0 {
                step.rates.push(summary.requests_per_second());
                step.cpu_micros
                    .push((cpu_seconds(&step.servers)? - before) * 1e6 / summary.ok as f64);
                step.p50_micros
                    .push(summary.latency_micros.value_at_quantile(0.5) as f64);
            }
        }
    }
    let table = table(arguments, &mut steps)?;
    std::io::stdout().write_all(table.as_bytes())?;
    if let Some(output) = &arguments.output {
        std::fs::write(output, table).with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(())
}

fn cpu_seconds(servers: &[&Server]) -> anyhow::Result<f64> {
    servers.iter().map(|server| server.cpu_seconds()).sum()
}

fn table(arguments: &Arguments, steps: &mut [Step<'_>]) -> anyhow::Result<String> {
    let mut text = format!(
        "V2 JSON, 1 row, {} connections, closed loop, {} rounds of {} s interleaved, medians; load generator on the \
         same machine\n\n| path | requests/s | of constant | CPU µs/request | p50 µs | RSS MiB |\n| --- | --- | --- | --- | --- | --- |\n",
        arguments.connections, arguments.rounds, arguments.seconds
    );
    let floor = median(&mut steps[0].rates);
    for step in steps {
        let rate = median(&mut step.rates);
        let memory: u64 = step
            .servers
            .iter()
            .map(|server| server.resident_bytes())
            .sum::<Result<_, _>>()?;
        writeln!(
            text,
            "| {} | {rate:.0} | {:.2} | {:.1} | {:.0} | {:.0} |",
            step.name,
            rate / floor,
            median(&mut step.cpu_micros),
            median(&mut step.p50_micros),
            memory as f64 / f64::from(1 << 20),
        )?;
    }
    Ok(text)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}
