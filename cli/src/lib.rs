//! The plumbline command: the stack on a laptop, offline drift tools.
//!
//! A command is a module with its arguments and a `run`: [`up`] runs the [`stack`], [`demo`] shows the main job on it,
//! [`replay`] sends rows as traffic, [`feedback`] the labels that came later, [`profile`] describes rows, [`drift`]
//! compares them, [`check`] reads models. Whatever is written to the terminal goes through [`terminal`]; rows of files
//! come from [`table`].

mod check;
mod client;
mod column;
mod demo;
mod drift;
mod feedback;
mod logs;
mod profile;
mod replay;
mod shift;
mod signals;
mod stack;
mod table;
mod terminal;
mod up;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::terminal::Terminal;

/// Serve ONNX models, watch every prediction for drift, and turn alerts into reports.
#[derive(Debug, clap::Parser)]
#[command(
    name = "plumbline",
    version,
    max_term_width = 110,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Up(up::Args),
    Demo(demo::Args),
    Replay(replay::Args),
    Profile(Box<profile::Args>),
    Drift(drift::Args),
    Feedback(feedback::Args),
    Check(check::Args),
}

/// Runs the command line `arguments`, the program's name first.
///
/// Exit status: what the command says about it, 1 after an error, 2 for arguments that cannot be read.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let terminal = Arc::new(Terminal::standard());
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &terminal),
    };
    let (outcome, error_status) = match cli.command {
        Command::Up(args) => (block_on(up::run(args, Arc::clone(&terminal))), 1),
        Command::Demo(args) => (block_on(demo::run(args, Arc::clone(&terminal))), 1),
        Command::Replay(args) => (block_on(replay::run(args, &terminal)), 1),
        Command::Profile(args) => (profile::run(&args, &terminal), 1),
        Command::Feedback(args) => (block_on(feedback::run(args, &terminal)), 1),
        // 1 says that there is drift.
        Command::Drift(args) => (drift::run(&args, &terminal), 2),
        Command::Check(args) => (check::run(&args, &terminal), 1),
    };
    terminal.clear_status();
    outcome.unwrap_or_else(|error| {
        terminal.complain(&format!("plumbline: {}", plumbline_service::error_chain(&*error)));
        ExitCode::from(error_status)
    })
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Help goes to standard output with status 0, a mistake to standard error with status 2.
fn usage(error: &clap::Error, terminal: &Terminal) -> ExitCode {
    // clap colours by the stream that it thinks it prints to; it is rendered without, whatever the stream.
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            terminal.raw(&text);
            ExitCode::SUCCESS
        }
        _ => {
            terminal.complain(text.trim_end());
            ExitCode::from(2)
        }
    }
}
