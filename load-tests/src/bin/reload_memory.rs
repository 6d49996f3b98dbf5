//! A model that comes and goes a thousand times, and what the server's memory does meanwhile.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use plumbline_load_tests::client::{Http, Transport, once_blocking};
use plumbline_load_tests::exit;
use plumbline_load_tests::process::{Server, resident_memory};
use plumbline_load_tests::request::Request;
use plumbline_load_tests::table::median;

/// Loads and unloads a model again and again and watches the server's memory.
///
/// The exit status is 0 when every load and unload succeeded and memory grew by no more than `--growth` after the
/// warm-up.
#[derive(Debug, Parser)]
struct Arguments {
    /// The model's file.
    #[arg(long, default_value = ".setup/load-models/gb/model.onnx")]
    model: PathBuf,
    /// Who loads and unloads: the files that come and go, or requests.
    #[arg(long, value_enum, default_value_t = By::Request)]
    by: By,
    /// Loads, and as many unloads.
    #[arg(long, short = 'n', default_value_t = 1_000)]
    cycles: u32,
    /// Share of them before memory is compared.
    #[arg(long, default_value_t = 0.1)]
    warm_up: f64,
    /// Largest growth, MiB.
    #[arg(long, default_value_t = 5.0)]
    growth: f64,
    /// Where the release programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Where the series and the verdict are written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Files,
    Request,
}

/// Lines of the series.
const PARTS: u32 = 20;

/// Looks at memory that are compared at either end: what an allocator holds for a moment does not decide.
const COMPARED: usize = 10;

/// Longest time for a load or an unload.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    exit::code("reload-memory", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    ensure!(
        (0.0..1.0).contains(&arguments.warm_up) && arguments.cycles >= 2 * PARTS,
        "--warm-up is a share below 1, --cycles at least {}",
        2 * PARTS
    );
    let repository = std::env::temp_dir().join(format!("plumbline-reload-{}", std::process::id()));
    std::fs::create_dir(&repository).with_context(|| format!("cannot create {}", repository.display()))?;
    let outcome = cycles(arguments, &repository);
    std::fs::remove_dir_all(&repository)
        .with_context(|| format!("cannot remove {}", repository.display()))?;
    outcome
}

fn cycles(arguments: &Arguments, repository: &Path) -> anyhow::Result<bool> {
    let place = repository.join("m");
    let bytes = std::fs::read(&arguments.model)
        .with_context(|| format!("cannot read {}", arguments.model.display()))?;
    let control = match arguments.by {
        By::Files => "poll",
        By::Request => "explicit",
    };
    if arguments.by == By::Request {
        put(&place, &bytes)?;
    }
    let mut server = Server::start(
        &arguments.programs.join("plumbline-model-server"),
        &flags(repository, control)?,
        None,
    )?;
    server.wait_until_ready("/v2/health/ready")?;
    let idle = resident_memory(server.pid())?;
    let transport = Transport::plain(Http::One);
    let ask = |request: &Request| once_blocking(server.address(), &transport, request);
    let ready = Request::get("/v2/models/m/ready")?;
    let until = |status: u16| -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while ask(&ready)?.0 != status {
            ensure!(
                Instant::now() < deadline,
                "the model's readiness is not {status} after {PATIENCE:?}"
            );
        }
        Ok(())
    };
    let order = |verb: &str| -> anyhow::Result<()> {
        let path = format!("/v2/repository/models/m/{verb}");
        let (status, body) = ask(&Request::post(&path, &serde_json::json!({}))?)?;
        ensure!(
            status == 200,
            "{verb}: {status} {}",
            String::from_utf8_lossy(&body)
        );
        Ok(())
    };
    let mut text = format!(
        "Memory over {} loads and unloads by {:?} of {} ({} bytes)\n\nidle RSS {:.2} MiB\n\n\
         | cycles | seconds | RSS MiB |\n| --- | --- | --- |\n",
        arguments.cycles,
        arguments.by,
        arguments.model.display(),
        bytes.len(),
        mib(idle),
    );
    let started = Instant::now();
    let mut memory = Vec::with_capacity(arguments.cycles as usize);
    for cycle in 1..=arguments.cycles {
        match arguments.by {
            By::Files => {
                put(&place, &bytes)?;
                until(200)?;
                std::fs::remove_dir_all(&place)?;
                until(404)?;
            }
            By::Request => {
                order("load")?;
                until(200)?;
                order("unload")?;
                until(404)?;
            }
        }
        memory.push(mib(resident_memory(server.pid())?));
        if cycle % (arguments.cycles / PARTS) == 0 {
            let rss = memory.last().copied().unwrap_or_default();
            writeln!(
                text,
                "| {cycle} | {:.1} | {rss:.2} |",
                started.elapsed().as_secs_f64()
            )?;
        }
    }
    let warm = (f64::from(arguments.cycles) * arguments.warm_up) as usize;
    let first = median(&memory[warm..(warm + COMPARED).min(memory.len())]);
    let last = median(&memory[memory.len() - COMPARED..]);
    let is_good = last - first <= arguments.growth;
    writeln!(
        text,
        "\nafter {warm} cycles {first:.2} MiB, at the end {last:.2} MiB: {:+.2} MiB, at most {:+.2} MiB: {}",
        last - first,
        arguments.growth,
        if is_good { "passed" } else { "FAILED" },
    )?;
    std::io::stdout().write_all(text.as_bytes())?;
    if let Some(output) = &arguments.output {
        std::fs::write(output, text).with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(is_good)
}

fn flags(repository: &Path, control: &str) -> anyhow::Result<Vec<String>> {
    let flags = [
        "--model-repository",
        repository.to_str().context("a path that is text")?,
        "--model-control",
        control,
        "--poll-interval",
        "10ms",
        "--ready-without-models",
        "true",
    ];
    Ok(flags.map(str::to_owned).to_vec())
}

fn put(place: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::create_dir(place)?;
    std::fs::write(place.join("model.onnx"), bytes)?;
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
