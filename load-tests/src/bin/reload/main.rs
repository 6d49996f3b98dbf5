//! Changes of what is served while requests arrive: new versions, broken and half-copied files, roll-backs, restarts.
//! Not one request may fail.

mod repository;
mod rolling;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use plumbline_load_tests::exit;

use anyhow::Context as _;
use clap::Parser;

/// Reloads and restarts under load; the exit status is 0 when no request failed and each change had its effect.
#[derive(Debug, Parser)]
struct Arguments {
    /// What changes.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "poll,explicit,rolling"
    )]
    mode: Vec<Mode>,
    /// Models with the same inputs and outputs, as `NAME/model.onnx` in this directory; versions alternate.
    #[arg(long, default_value = ".setup/load-models")]
    models: PathBuf,
    /// Their names.
    #[arg(long, value_delimiter = ',', default_value = "gb,mlp")]
    names: Vec<String>,
    /// Changes of the repository, in each mode.
    #[arg(long, default_value_t = 100)]
    reloads: usize,
    /// Restarts, taking turns between two servers.
    #[arg(long, default_value_t = 4)]
    restarts: usize,
    /// Seconds for which endpoints are still used after SIGTERM.
    #[arg(long, default_value_t = 5.0)]
    lag: f64,
    /// Requests a second: half V2 JSON over HTTP/1.1, half gRPC.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Connections of each.
    #[arg(long, short, default_value_t = 32)]
    connections: usize,
    /// Further flags of the model-server.
    #[arg(long = "server-flag", allow_hyphen_values = true)]
    server_flags: Vec<String>,
    /// Where the release programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Where the report is written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Files, and the server looks.
    Poll,
    /// Files, and requests to load them.
    Explicit,
    /// Servers, one after the other.
    Rolling,
}

fn main() -> ExitCode {
    exit::code("reload", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let (mut text, mut good) = (String::new(), true);
    for mode in &arguments.mode {
        let outcome = match mode {
            Mode::Poll | Mode::Explicit => repository::run(arguments, *mode),
            Mode::Rolling => rolling::run(arguments),
        }
        .with_context(|| format!("{mode:?}"))?;
        std::io::stderr().write_all(outcome.text.as_bytes())?;
        good &= outcome.good;
        text += &outcome.text;
    }
    text += if good {
        "good: no request failed\n"
    } else {
        "NOT GOOD\n"
    };
    std::io::stdout().write_all(text.as_bytes())?;
    if let Some(output) = &arguments.output {
        std::fs::write(output, text).with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(good)
}

/// What a mode came to.
struct Outcome {
    text: String,
    good: bool,
}
