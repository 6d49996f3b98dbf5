//! `plumbline up`: the whole stack until Ctrl-C.

use std::process::ExitCode;
use std::sync::Arc;

use crate::logs;
use crate::signals::Signals;
use crate::stack::{Alerts, Stack, StackArgs};
use crate::terminal::{Style, Terminal};

/// Run the whole stack in this process: gateway, sidecar, model server, analysis worker.
///
/// Listens on 127.0.0.1 only. Prints the addresses once everything is ready; Ctrl-C finishes what is in flight, the
/// gateway first and the worker last. Reports are by Gemini when `GEMINI_API_KEY` is set in the environment, and by the
/// offline analysis otherwise. Each part also reads its own `PLUMBLINE_<PART>_<SETTING>` variables.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    stack: StackArgs,
}

const EXAMPLES: &str = "\
Examples:
  plumbline up model-source/artifacts/churn
  plumbline up churn=models/churn-7.onnx iris.onnx --port-offset 1000
  GEMINI_API_KEY=… plumbline up model-source/artifacts/churn";

/// Runs the command.
pub(crate) async fn run(args: Args, terminal: Arc<Terminal>) -> anyhow::Result<ExitCode> {
    args.stack.prepare()?;
    logs::start(&args.stack.log_file(), args.stack.log_filter(), &terminal)?;
    let mut signals = Signals::watch()?;
    let mut stack = tokio::select! {
        stack = Stack::start(&args.stack, Alerts::Direct) => stack?,
        () = signals.received() => return Ok(ExitCode::SUCCESS),
    };
    terminal.line(&terminal.paint(Style::Green, "plumbline is up"));
    for (what, address) in addresses(&stack) {
        terminal.line(&format!("  {what:<9}{address}"));
    }
    terminal.line(&format!("  {:<9}{}", "log", args.stack.log_file().display()));
    for model in &stack.unwatched {
        let text = format!("no profile.json beside model `{model}`: its drift is not watched");
        terminal.line(&terminal.paint(Style::Yellow, &text));
    }
    terminal.line("Ctrl-C ends it.");
    let outcome = tokio::select! {
        error = stack.failed() => Err(error),
        () = signals.received() => Ok(ExitCode::SUCCESS),
    };
    leave(stack, &mut signals, &terminal, outcome).await
}

/// Drains the stack and ends with `outcome`; a second Ctrl-C does not wait for the drain.
pub(crate) async fn leave(
    stack: Stack,
    signals: &mut Signals,
    terminal: &Terminal,
    outcome: anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    terminal.status("finishing what is in flight; Ctrl-C leaves at once");
    tokio::select! {
        () = stack.stop() => outcome,
        // What shells give to an interrupted program.
        () = signals.received() => Ok(ExitCode::from(130)),
    }
}

/// What a person wants to open, by purpose.
pub(crate) fn addresses(stack: &Stack) -> Vec<(&'static str, String)> {
    let at = &stack.addresses;
    let mut lines: Vec<(&str, String)> = stack
        .models
        .iter()
        .map(|model| {
            (
                "predict",
                format!("http://{}/v2/models/{model}/infer", at.gateway),
            )
        })
        .collect();
    lines.push(("gRPC", format!("{} (without TLS)", at.gateway)));
    lines.extend(
        at.admin
            .iter()
            .map(|(part, address)| ("metrics", format!("http://{address}/metrics ({part})"))),
    );
    lines.push(("drift", format!("http://{}/drift", at.sidecar_admin())));
    lines.push(("reports", format!("http://{}/", at.worker)));
    lines
}
