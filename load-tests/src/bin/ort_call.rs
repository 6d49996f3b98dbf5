//! One call of ONNX Runtime without a server around it: the part of a request's cost that no server can save.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use hdrhistogram::Histogram;
use ort::ep;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use plumbline_load_tests::exit;
use plumbline_load_tests::process;
use serde_json::json;

/// Different inputs, run in turn: trees are cheaper when every row takes the same branches.
const INPUTS: usize = 16;

/// Runs a model with one FP32 input in a loop and prints a line of JSON for each number of rows.
#[derive(Debug, Parser)]
struct Arguments {
    /// The model's file.
    model: PathBuf,
    /// Values a row.
    #[arg(long, default_value_t = 20)]
    features: usize,
    /// Rows of a call.
    #[arg(long, value_delimiter = ',', default_value = "1,32")]
    rows: Vec<usize>,
    /// Seconds for each, after a tenth of that to warm up.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// ONNX Runtime's shared library; where `make setup` puts it if `ORT_DYLIB_PATH` says nothing else.
    #[arg(
        long,
        env = "ORT_DYLIB_PATH",
        default_value = ".setup/onnxruntime/lib/libonnxruntime.so"
    )]
    onnxruntime: PathBuf,
}

fn main() -> ExitCode {
    exit::code("ort-call", measure(&Arguments::parse()).map(|()| true))
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let library = std::path::absolute(&arguments.onnxruntime)?;
    anyhow::ensure!(library.exists(), "no library at {}", library.display());
    let environment = ort::init_from(&library)?.with_telemetry(false).build()?;
    let model = std::fs::read(&arguments.model)
        .with_context(|| format!("cannot read {}", arguments.model.display()))?;
    let mut session = session(&environment, &model)?;
    let seconds = Duration::try_from_secs_f64(arguments.seconds)?;
    for rows in &arguments.rows {
        let mut random = fastrand::Rng::with_seed(1);
        let mut values = || {
            (0..rows * arguments.features)
                .map(|_| random.f32() * 2.0 - 1.0)
                .collect()
        };
        let inputs: Vec<Vec<f32>> = (0..INPUTS).map(|_| values()).collect();
        let shape = [*rows, arguments.features];
        calls(&mut session, shape, &inputs, seconds / 10)?;
        let before = process::cpu(std::process::id())?;
        let nanos = calls(&mut session, shape, &inputs, seconds)?;
        let used = process::cpu(std::process::id())?.saturating_sub(before);
        let line = json!({
            "rows": rows,
            "calls": nanos.len(),
            "p50_us": nanos.value_at_quantile(0.5) as f64 / 1e3,
            "cpu_us": used.as_secs_f64() * 1e6 / nanos.len() as f64,
        });
        writeln!(std::io::stdout(), "{line}")?;
    }
    Ok(())
}

/// Nanoseconds of each call until `time` is over.
fn calls(
    session: &mut Session,
    shape: [usize; 2],
    inputs: &[Vec<f32>],
    time: Duration,
) -> anyhow::Result<Histogram<u64>> {
    let name = session.inputs().first().context("an input")?.name().to_owned();
    let mut nanos = Histogram::new_with_max(60_000_000_000, 3)?;
    let until = Instant::now() + time;
    for input in inputs.iter().cycle() {
        let start = Instant::now();
        let tensor = TensorRef::from_array_view((shape, &**input))?;
        let outputs = session.run(ort::inputs![name.as_str() => tensor])?;
        anyhow::ensure!(outputs.len() > 0, "no outputs");
        drop(outputs);
        nanos.saturating_record(start.elapsed().as_nanos() as u64);
        if start >= until {
            break;
        }
    }
    Ok(nanos)
}

/// Set up as the model-server does.
fn session(environment: &ort::environment::Environment, model: &[u8]) -> ort::Result<Session> {
    Session::builder(environment)?
        .with_execution_providers([ep::CPU::default().with_arena_allocator(false).build()])?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        .with_config_entry("session.intra_op.allow_spinning", "0")?
        .with_memory_pattern(false)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .commit_from_memory(model)
}
