//! `plumbline replay`: rows of a file as traffic.

mod cell;
mod metadata;
mod rate;
mod request;
mod rows;
mod tally;
mod traffic;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::rate::Rate;
pub(crate) use self::request::{Dialect, inputs};
pub(crate) use self::rows::{Rows, RowsError};
pub(crate) use self::tally::{Counts, Tally, show as show_latency};
pub(crate) use self::traffic::{Order, Traffic};
use crate::client::{Connection, Server, Wire};
use crate::shift::Shift;
use crate::signals::Signals;
use crate::table::Table;
use crate::terminal::{Style, Terminal, columns, printable};

/// Send the rows of a CSV file to a model as traffic.
///
/// Names, datatypes and shapes of the inputs come from the model's own metadata. Requests go out at a fixed rate,
/// whether earlier ones are answered or not; a latency counts from when its request was due. Ends with exit status 0
/// when every request got a prediction, 1 otherwise.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct Args {
    /// CSV file with a column for each input of the model.
    #[arg(value_name = "ROWS.csv")]
    file: PathBuf,
    /// Server or gateway.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: Server,
    /// Name of the model.
    #[arg(long)]
    model: String,
    /// V2 over gRPC.
    #[arg(long, group = "dialect")]
    grpc: bool,
    /// V2 REST with binary tensors.
    #[arg(long, group = "dialect")]
    binary: bool,
    /// V2 REST with JSON tensors; this is what happens without another choice.
    #[arg(long, group = "dialect")]
    json: bool,
    /// V1 REST.
    #[arg(long, group = "dialect")]
    v1: bool,
    /// All four in turn; rows with a missing number, which JSON has no form for, go out in binary.
    #[arg(long, group = "dialect")]
    mixed: bool,
    /// Rows per second (500, 500/s), per minute (30/m), or max.
    #[arg(long, default_value = "500/s")]
    rate: Rate,
    /// Rows to send; the file is repeated as often as needed. Without it, each row is sent once.
    #[arg(long = "rows", id = "limit", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Rows in each request.
    #[arg(long, value_name = "K", default_value = "1")]
    batch: NonZeroUsize,
    /// Connections, each with one request at a time.
    #[arg(long, value_name = "C", default_value = "16")]
    concurrency: NonZeroUsize,
    /// Change a column: COLUMN=VALUE, COLUMN=null, COLUMN*=NUMBER, COLUMN+=NUMBER, COLUMN-=NUMBER or COLUMN~=FROM->TO,
    /// each with @SHARE at the end for a part of the rows. May be given several times.
    #[arg(long, value_name = "CHANGE")]
    shift: Vec<Shift>,
    /// Leave out columns that the model does not have, such as the target.
    #[arg(long)]
    ignore_extra: bool,
    /// Send each pass over the file in another random order.
    #[arg(long)]
    shuffle: bool,
    /// Seed of the order and of the rows that a shift with a share changes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds to wait for each answer.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
}

const EXAMPLES: &str = "\
Examples:
  plumbline replay heldout.csv --model churn --ignore-extra
  plumbline replay heldout.csv --model churn --grpc --rate 2000/s --batch 8
  plumbline replay heldout.csv --model churn --shift 'MonthlyCharges*=1.35' --shift 'Contract=Month-to-month@0.6'
  plumbline replay heldout.csv --model churn --shift 'PaymentMethod~=Mailed check->Wallet' --shift 'tenure=null@0.1'";

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "expected a number of seconds above 0".to_owned())
}

impl Args {
    fn dialects(&self) -> Vec<Dialect> {
        match self {
            Self { mixed: true, .. } => Dialect::ALL.to_vec(),
            Self { grpc: true, .. } => vec![Dialect::Grpc],
            Self { binary: true, .. } => vec![Dialect::V2Binary],
            Self { v1: true, .. } => vec![Dialect::V1],
            _ => vec![Dialect::V2Json],
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let table = Table::read(&args.file)?;
    let dialects = args.dialects();
    // The first dialect's wire: a port that speaks only gRPC cannot be asked over HTTP/1.1.
    let wire = if dialects == [Dialect::Grpc] {
        Wire::Http2
    } else {
        Wire::Http1
    };
    let mut connection = Connection::new(args.url.clone(), wire, args.timeout);
    let described = inputs(&mut connection, wire, &args.model).await;
    let described = described.map_err(|refusal| anyhow::anyhow!("{}", printable(&refusal.to_string())));
    let described =
        described.with_context(|| format!("metadata of model `{}` at {}", args.model, args.url))?;
    let rows = Rows::fit(table, &args.model, &described, args.shift, args.ignore_extra)?;
    rows.check_batch(&args.model, args.batch.get())?;
    if matches!(dialects[..], [Dialect::V2Json | Dialect::V1]) {
        rows.check_json()?;
    }
    let traffic = Traffic {
        server: args.url,
        limit: Some(args.limit.unwrap_or(rows.len() as u64)),
        model: args.model,
        rows,
        dialects,
        batch: args.batch.get(),
        rate: args.rate,
        order: if args.shuffle {
            Order::Shuffled
        } else {
            Order::File
        },
        seed: args.seed,
        concurrency: args.concurrency.get(),
        timeout: args.timeout,
    };
    let tally = Arc::new(Tally::default());
    let stop = CancellationToken::new();
    let started = Instant::now();
    let limit = traffic.limit.unwrap_or_default();
    let mut sending = tokio::spawn(Arc::new(traffic).send(Arc::clone(&tally), stop.clone()));
    let mut signals = Signals::watch()?;
    let mut interrupted = false;
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let outcome = loop {
        tokio::select! {
            outcome = &mut sending => break outcome,
            _ = ticks.tick() => terminal.status(&progress(&tally.counts(), limit, started.elapsed())),
            () = signals.received(), if !interrupted => {
                interrupted = true;
                stop.cancel();
            }
        }
    };
    outcome.context("sending stopped")??;
    let counts = tally.counts();
    for line in summary(&counts, started.elapsed(), terminal) {
        terminal.line(&line);
    }
    let complete = counts.failures() == 0 && !interrupted;
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn progress(counts: &Counts, limit: u64, elapsed: Duration) -> String {
    let failed = counts.failures();
    format!(
        "{} of {limit} rows  {:.0} rows/s  p50 {}  p99 {}{}",
        counts.rows,
        counts.rows as f64 / elapsed.as_secs_f64().max(1e-3),
        show_latency(counts.latency(0.5)),
        show_latency(counts.latency(0.99)),
        if failed == 0 {
            String::new()
        } else {
            format!("  {failed} failed")
        },
    )
}

fn summary(counts: &Counts, elapsed: Duration, terminal: &Terminal) -> Vec<String> {
    let seconds = elapsed.as_secs_f64().max(1e-6);
    let failures = counts.failures();
    let style = if failures == 0 { Style::Green } else { Style::Red };
    let mut lines = vec![
        format!(
            "sent     {} rows in {} requests over {seconds:.1} s",
            counts.rows, counts.sent
        ),
        format!("ok       {}", counts.ok),
        format!("failed   {}", terminal.paint(style, &failures.to_string())),
        format!("rate     {:.0} rows/s", counts.rows as f64 / seconds),
        format!(
            "latency  p50 {}, p99 {}",
            show_latency(counts.latency(0.5)),
            show_latency(counts.latency(0.99))
        ),
    ];
    if failures > 0 {
        let rows: Vec<Vec<String>> = counts
            .failed
            .iter()
            .map(|(status, failure)| {
                vec![
                    printable(status),
                    failure.requests.to_string(),
                    printable(&failure.first),
                ]
            })
            .collect();
        lines.push(String::new());
        lines.extend(columns(&["failed with", "requests", "the first said"], &rows));
    }
    lines
}
