//! A million requests of every shape, and what the server's memory does meanwhile.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use plumbline_load_tests::client::{Http, Targets, Transport};
use plumbline_load_tests::exit;
use plumbline_load_tests::inputs;
use plumbline_load_tests::load::{self, Plan, Report};
use plumbline_load_tests::process::{Server, resident_memory};
use plumbline_load_tests::request::{Encoding, Request};
use plumbline_load_tests::table::median;

/// Sends JSON, binary, V1 and gRPC requests of 1 to 64 rows to two models and watches the server's memory.
///
/// The exit status is 0 when every answer was right and memory grew by no more than `--growth` after the warm-up.
#[derive(Debug, Parser)]
struct Arguments {
    /// Models as `NAME/model.onnx` in this directory.
    #[arg(long, default_value = ".setup/load-models")]
    models: PathBuf,
    /// The models.
    #[arg(long, value_delimiter = ',', default_value = "gb,mlp")]
    names: Vec<String>,
    /// Requests in all.
    #[arg(long, short = 'n', default_value_t = 1_000_000)]
    requests: u64,
    /// Share of them before memory is compared.
    #[arg(long, default_value_t = 0.1)]
    warm_up: f64,
    /// Seconds before memory is compared: whatever the load, a thread of the start ends after 10, which takes 0.8 MiB
    /// once.
    #[arg(long, default_value_t = 12.0)]
    settle: f64,
    /// Largest growth, percent.
    #[arg(long, default_value_t = 2.0)]
    growth: f64,
    /// Connections of each version of HTTP.
    #[arg(long, short, default_value_t = 16)]
    connections: usize,
    /// Rows of a request, at most.
    #[arg(long, default_value_t = 64)]
    rows: usize,
    /// Longest time in minutes; fewer requests by then are a failure.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Fail when the same bytes get another answer than before. A model whose rows depend on the size of the batch in
    /// the last bit, as matrix products do, fails rightly where the server batches.
    #[arg(long)]
    same_answer: bool,
    /// Further flags of the model-server.
    #[arg(long = "server-flag", allow_hyphen_values = true)]
    server_flags: Vec<String>,
    /// Where the release programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Where the series and the verdict are written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Different bodies of each model and encoding.
const BODIES: usize = 64;

/// Parts that the run is cut into; memory is looked at after each.
const PARTS: u64 = 40;

/// Memory of so many parts is compared, so that a moment's buffers do not decide.
const COMPARED: usize = 4;

fn main() -> ExitCode {
    exit::code("soak", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    ensure!(
        (0.0..1.0).contains(&arguments.warm_up),
        "--warm-up is a share below 1"
    );
    let mut flags = arguments.server_flags.clone();
    for name in &arguments.names {
        let path = arguments.models.join(name);
        flags.extend([
            "--model".to_owned(),
            path.to_str().context("a path that is text")?.to_owned(),
        ]);
    }
    let mut server = Server::start(&arguments.programs.join("plumbline-model-server"), &flags, None)?;
    server.wait_until_ready("/v2/health/ready")?;
    let idle = resident_memory(server.pid())?;

    let (rest, grpc) = requests(arguments, &server)?;
    let targets = Targets::new(vec![server.address()]);
    let plan = |http, requests| {
        let mut plan = Plan {
            connections: arguments.connections,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(arguments.minutes * 60),
            ..Plan::new(Arc::clone(&targets), Transport::plain(http), requests)
        };
        plan.expect.same_answer = arguments.same_answer;
        plan
    };
    let plans = [plan(Http::One, rest), plan(Http::Two, grpc)];
    let mut text = format!(
        "Soak: {} requests of 1 to {} rows to {}, V2 JSON, V2 binary, V1 over HTTP/1.1 and gRPC over HTTP/2, {} connections \
         each\n\nidle RSS {:.2} MiB\n\n| requests | seconds | RSS MiB |\n| --- | --- | --- |\n",
        arguments.requests,
        arguments.rows,
        arguments.names.join(" and "),
        arguments.connections,
        mib(idle),
    );
    let began = Instant::now();
    let mut series = Vec::new();
    let (mut done, mut failed) = (0, 0);
    for part in 0..PARTS {
        let wanted = arguments.requests * (part + 1) / PARTS - arguments.requests * part / PARTS;
        for report in side_by_side(&plans, wanted)? {
            done += report.tally.ok.len();
            failed += report.tally.failed();
            for example in &report.tally.examples {
                writeln!(std::io::stderr(), "failed: {example}")?;
            }
        }
        let memory = resident_memory(server.pid())
            .with_context(|| format!("the server is gone:\n{}", server.log()))?;
        let seconds = began.elapsed().as_secs_f64();
        series.push((seconds, memory as f64));
        let line = format!("| {done} | {seconds:.0} | {:.2} |\n", mib(memory));
        text += &line;
        std::io::stderr().write_all(line.as_bytes())?;
        if began.elapsed() > Duration::from_secs(arguments.minutes * 60) {
            break;
        }
    }

    let growth = growth(&series, arguments.warm_up, arguments.settle).with_context(|| {
        format!(
            "the run ended within the first {} s: more requests, or a smaller --settle",
            arguments.settle
        )
    })?;
    let good = failed == 0 && done >= arguments.requests && growth <= arguments.growth;
    let _never = writeln!(
        text,
        "\n{}: {done} of {} requests answered, {failed} failed, RSS {growth:+.2} % after the first {:.0} % and {} s (at most \
         {} %), {:.0} requests/s",
        if good { "good" } else { "NOT GOOD" },
        arguments.requests,
        arguments.warm_up * 100.0,
        arguments.settle,
        arguments.growth,
        done as f64 / began.elapsed().as_secs_f64(),
    );
    std::io::stdout().write_all(text.as_bytes())?;
    if let Some(output) = &arguments.output {
        std::fs::write(output, text).with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(good)
}

/// Three of four requests over HTTP/1.1, the others are gRPC's; both at once.
fn side_by_side(plans: &[Plan; 2], wanted: u64) -> anyhow::Result<Vec<Report>> {
    let [rest, grpc] = plans;
    let share = |plan: &Plan, count| Plan {
        count: Some(count),
        ..plan.clone()
    };
    let (rest, grpc) = (share(rest, wanted - wanted / 4), share(grpc, wanted / 4));
    std::thread::scope(|scope| {
        let grpc = scope.spawn(move || load::run(&grpc));
        let rest = load::run(&rest)?;
        let grpc = grpc
            .join()
            .map_err(|_| anyhow::anyhow!("a load's thread panicked"))??;
        Ok(vec![rest, grpc])
    })
}

/// Requests over HTTP/1.1, and gRPC's: models, encodings and sizes mixed.
fn requests(arguments: &Arguments, server: &Server) -> anyhow::Result<(Vec<Request>, Vec<Request>)> {
    let mut random = fastrand::Rng::with_seed(1);
    let (mut rest, mut grpc) = (Vec::new(), Vec::new());
    for name in &arguments.names {
        let specs = inputs::of_model(server.address(), &Transport::plain(Http::One), name)?;
        // Small requests are the most, as in life; the largest is there in any case.
        let mut sizes: Vec<usize> = (0..BODIES - 1)
            .map(|_| 1 + (random.f64().powi(3) * arguments.rows as f64) as usize)
            .collect();
        sizes.push(arguments.rows);
        for encoding in [Encoding::V2, Encoding::V2Binary, Encoding::V1, Encoding::Grpc] {
            let all = inputs::requests(encoding, name, &specs, None, &sizes, BODIES, random.u64(..))?;
            if encoding == Encoding::Grpc {
                grpc.extend(all);
            } else {
                rest.extend(all);
            }
        }
    }
    random.shuffle(&mut rest);
    random.shuffle(&mut grpc);
    Ok((rest, grpc))
}

/// Growth in percent from right after the warm-up to the end, each the median of a few looks. `series` has seconds and
/// memory of each look; `None` if all of them are from before `settle` seconds.
fn growth(series: &[(f64, f64)], warm_up: f64, settle: f64) -> Option<f64> {
    let settled = series.iter().position(|(seconds, _)| *seconds >= settle)?;
    let first = settled.max((series.len() as f64 * warm_up) as usize);
    let memory: Vec<f64> = series[first..].iter().map(|(_, memory)| *memory).collect();
    let after = &memory[..COMPARED.min(memory.len())];
    let end = &memory[memory.len().saturating_sub(COMPARED)..];
    Some((median(end) / median(after) - 1.0) * 100.0)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    #[test]
    fn growth_counts_from_the_end_of_the_warm_up() {
        let mut memory = vec![50.0, 80.0];
        memory.extend([100.0; 18]);
        let growth = |memory: &[f64], settle| {
            let seconds = (1..).map(f64::from);
            let series: Vec<_> = seconds.zip(memory.iter().copied()).collect();
            super::growth(&series, 0.1, settle)
        };
        assert_eq!(growth(&memory, 0.0), Some(0.0));
        memory.extend([103.0; 4]);
        assert!((growth(&memory, 0.0).unwrap() - 3.0).abs() < 1e-9);
        // One look that is out of line decides nothing.
        memory.push(200.0);
        assert!((growth(&memory, 3.0).unwrap() - 3.0).abs() < 1e-9);
        // What comes before it has settled does not count.
        assert_eq!(growth(&memory, 21.0), Some(0.0));
        assert_eq!(growth(&memory, 60.0), None);
    }
}
