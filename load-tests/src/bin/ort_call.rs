//! One call of ONNX Runtime without a server around it: the part of a request's cost that no server can save.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use ort::ep;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use plumbline_load_tests::process;
use serde_json::json;

/// Runs a model with one FP32 input in a loop and prints a line of JSON for each batch size.
#[derive(Debug, Parser)]
struct Arguments {
    /// The model.
    model: PathBuf,
    /// Values a row.
    #[arg(long, default_value_t = 20)]
    features: usize,
    /// Rows of a call.
    #[arg(long, value_delimiter = ',', default_value = "1,32")]
    batch: Vec<usize>,
    /// Seconds for each size.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// ONNX Runtime's shared library; where `make setup` puts it if `ORT_DYLIB_PATH` says nothing else.
    #[arg(
        long,
        env = "ORT_DYLIB_PATH",
        default_value = ".setup/onnxruntime/lib/libonnxruntime.so"
    )]
    library: PathBuf,
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
    let library = std::path::absolute(&arguments.library)?;
    anyhow::ensure!(library.exists(), "no library at {}", library.display());
    let environment = ort::init_from(&library)?.with_telemetry(false).build()?;
    let model = std::fs::read(&arguments.model)
        .with_context(|| format!("cannot read {}", arguments.model.display()))?;
    let mut session = session(&environment, &model)?;
    let names: Vec<String> = session
        .outputs()
        .iter()
        .map(|outlet| outlet.name().to_owned())
        .collect();
    let input = session.inputs().first().context("an input")?.name().to_owned();
    for rows in &arguments.batch {
        let mut random = fastrand::Rng::with_seed(1);
        let values: Vec<f32> = (0..rows * arguments.features)
            .map(|_| random.f32() * 2.0 - 1.0)
            .collect();
        let mut call = || -> anyhow::Result<()> {
            let tensor = TensorRef::from_array_view(([*rows, arguments.features], &*values))?;
            let outputs = session.run(ort::inputs![input.as_str() => tensor])?;
            anyhow::ensure!(
                names.iter().all(|name| outputs.contains_key(name)),
                "an output is missing"
            );
            Ok(())
        };
        for _ in 0..200 {
            call()?;
        }
        let mut micros = hdrhistogram::Histogram::<u64>::new_with_max(60_000_000_000, 3)?;
        let (before, began) = (process::cpu(std::process::id())?, Instant::now());
        while began.elapsed() < Duration::try_from_secs_f64(arguments.seconds)? {
            let start = Instant::now();
            call()?;
            micros.saturating_record(start.elapsed().as_nanos() as u64);
        }
        let cpu = process::cpu(std::process::id())?.saturating_sub(before);
        let line = json!({
            "rows": rows,
            "p50_us": micros.value_at_quantile(0.5) as f64 / 1e3,
            "cpu_us": cpu.as_secs_f64() * 1e6 / micros.len() as f64,
        });
        writeln!(std::io::stdout(), "{line}")?;
    }
    Ok(())
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
