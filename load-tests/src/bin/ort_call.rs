//! CPU per call of ONNX Runtime on one thread, without a server: with the constant server's, the floor of serving.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use plumbline_load_tests::process;
use plumbline_model_server::{BareModel, Library};
use serde_json::json;

/// Calls between two looks at the clock.
const BATCH: u64 = 100;

/// Runs a model over and over, and prints one line of JSON: calls, CPU and p50 of a call in microseconds.
#[derive(Debug, Parser)]
struct Arguments {
    /// The model's file.
    model: PathBuf,
    /// Rows of a call.
    #[arg(long, default_value_t = 1)]
    rows: u32,
    /// Seconds to run for, after a tenth of that to warm up.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// ONNX Runtime's shared library; found as the model server finds it.
    #[arg(long)]
    onnxruntime: Option<PathBuf>,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _closed_pipe = writeln!(std::io::stderr(), "ort-call: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let library = Library::open(arguments.onnxruntime.as_deref())?;
    let mut model = BareModel::load(&library, &arguments.model, arguments.rows)
        .with_context(|| arguments.model.display().to_string())?;
    let seconds = Duration::from_secs_f64(arguments.seconds);
    calls(&mut model, seconds / 10)?;
    let before = process::cpu(std::process::id())?;
    let mut batches = calls(&mut model, seconds)?;
    let used = process::cpu(std::process::id())?.saturating_sub(before);
    let calls = batches.len() as u64 * BATCH;
    batches.sort_unstable();
    let micros = |time: Duration, count: u64| (time.as_secs_f64() * 1e9 / count as f64).round() / 1e3;
    let line = json!({
        "model": arguments.model,
        "rows": arguments.rows,
        "calls": calls,
        "cpu_us": micros(used, calls),
        "p50_us": micros(batches[batches.len() / 2], BATCH),
    });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

/// Times of batches of calls until `time` is over; at least one.
fn calls(model: &mut BareModel, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let until = Instant::now() + time;
    let mut batches = Vec::new();
    loop {
        let started = Instant::now();
        for _ in 0..BATCH {
            model.run().map_err(anyhow::Error::msg)?;
        }
        batches.push(started.elapsed());
        if Instant::now() >= until {
            return Ok(batches);
        }
    }
}
