//! `plumbline feedback`: what turned out to be right, told to the sidecar.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::client::{Connection, Server, Wire, content_type};
use crate::column::known;
use crate::table::Table;
use crate::terminal::{Style, Terminal, columns, printable};

/// Where a sidecar takes labels.
const PATH: &str = "/plumbline/v1/feedback";
/// Labels that were not joined and are shown.
const MAX_SHOWN: usize = 10;

/// Tell a sidecar what turned out to be right, so that it knows how well the model does.
///
/// Each row of the file is the truth about one prediction, found by the id of its request (x-request-id, or else the id in
/// the body) and its row in that request. Ends with exit status 0 when every label found its prediction, 1 otherwise.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// File with a column of request ids and a column of labels.
    #[arg(value_name = "LABELS.csv")]
    file: PathBuf,
    /// Data port of the sidecar.
    #[arg(long, default_value = "http://127.0.0.1:8081")]
    url: Server,
    /// Name of the model; may be left out when the sidecar observes only one.
    #[arg(long)]
    model: Option<String>,
    /// Column with the id of the request.
    #[arg(long, value_name = "COLUMN", default_value = "id")]
    id: String,
    /// Column with the row of the request, from 0; `row` when there is such a column, else every label is of row 0.
    #[arg(long, value_name = "COLUMN")]
    row: Option<String>,
    /// Column with the class that was right.
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    label: String,
    /// Labels in each request.
    #[arg(long, value_name = "N", default_value = "1000")]
    batch: NonZeroUsize,
}

const EXAMPLES: &str = "\
Examples:
  plumbline feedback labels.csv --model churn
  plumbline feedback october.csv --id request_id --label churned --url http://sidecar:8081
  plumbline replay heldout.csv --model churn --ignore-extra && plumbline feedback labels.csv";

/// Time for one request: the sidecar may wait for its observer.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Label<'a> {
    id: &'a str,
    row: u32,
    #[serde(rename = "label")]
    truth: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
}

/// The sidecar's answer.
#[derive(Debug, Deserialize)]
struct Told {
    problems: Vec<Problem>,
    #[serde(flatten)]
    outcomes: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    index: usize,
    outcome: String,
    reason: String,
}

/// Labels by what became of them, and the first that were not joined.
#[derive(Debug, Default)]
struct Outcomes {
    counts: BTreeMap<String, u64>,
    shown: Vec<Vec<String>>,
}

impl Outcomes {
    fn not_joined(&self) -> u64 {
        let others = self.counts.iter().filter(|(outcome, _)| *outcome != "joined");
        others.map(|(_, count)| count).sum()
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let table = Table::read(&args.file)?;
    let labels = labels(&table, &args)?;
    let mut connection = Connection::new(args.url.clone(), Wire::Http1, TIMEOUT);
    let mut outcomes = Outcomes::default();
    let mut sent = 0;
    for some in labels.chunks(args.batch.get()) {
        let mut body = Vec::new();
        for label in some {
            serde_json::to_writer(&mut body, label)?;
            body.push(b'\n');
        }
        let told = post(&mut connection, &args.url, body.into()).await?;
        for (outcome, count) in told.outcomes {
            *outcomes.counts.entry(outcome).or_default() += count;
        }
        let room = MAX_SHOWN.saturating_sub(outcomes.shown.len());
        for problem in told.problems.into_iter().take(room) {
            let row = sent + problem.index;
            outcomes.shown.push(vec![
                table.line(row).to_string(),
                printable(&problem.outcome),
                printable(&problem.reason),
            ]);
        }
        sent += some.len();
        terminal.status(&format!("{sent} of {} labels", labels.len()));
    }
    terminal.clear_status();
    for line in summary(&outcomes, terminal) {
        terminal.line(&line);
    }
    Ok(if outcomes.not_joined() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The labels of the file, or the first row that is none.
fn labels<'a>(table: &'a Table, args: &'a Args) -> anyhow::Result<Vec<Label<'a>>> {
    known(table, "--id", std::iter::once(args.id.as_str()))?;
    known(table, "--label", std::iter::once(args.label.as_str()))?;
    known(table, "--row", args.row.as_deref().into_iter())?;
    let position = |column: &str| table.position(column).expect("just looked for");
    let (id, label) = (position(&args.id), position(&args.label));
    let row = table.position(args.row.as_deref().unwrap_or("row"));
    let place =
        |at: usize, column: &str| format!("{}:{}: column `{column}`", table.path().display(), table.line(at));
    (0..table.len())
        .map(|at| {
            for (column, name) in [(id, &args.id), (label, &args.label)] {
                anyhow::ensure!(!table.cell(at, column).is_empty(), "{} is empty", place(at, name));
            }
            let row = row.map_or(Ok(0), |column| {
                let cell = table.cell(at, column);
                let name = args.row.as_deref().unwrap_or("row");
                let not_a_row = || format!("{}: `{cell}` is not a row: expected 0, 1, 2 …", place(at, name));
                cell.parse().with_context(not_a_row)
            })?;
            Ok(Label {
                id: table.cell(at, id),
                row,
                truth: table.cell(at, label),
                model: args.model.as_deref(),
            })
        })
        .collect()
}

async fn post(connection: &mut Connection, server: &Server, body: Bytes) -> anyhow::Result<Told> {
    let headers = content_type("application/x-ndjson");
    let answer = connection.send(Method::POST, PATH, headers, body).await?;
    if answer.status != StatusCode::OK {
        #[derive(Deserialize)]
        struct Error {
            error: String,
        }
        let told = serde_json::from_slice::<Error>(&answer.body).map(|told| told.error);
        let text = told.unwrap_or_else(|_| String::from_utf8_lossy(&answer.body).into_owned());
        anyhow::bail!(
            "{server} refuses the labels with {}: {}",
            answer.status,
            printable(text.trim())
        );
    }
    serde_json::from_slice(&answer.body)
        .with_context(|| format!("{server} is no sidecar: its answer is not a list of outcomes"))
}

fn summary(outcomes: &Outcomes, terminal: &Terminal) -> Vec<String> {
    let mut lines: Vec<String> = outcomes
        .counts
        .iter()
        .map(|(outcome, count)| {
            let style = match (outcome.as_str(), count) {
                ("joined", _) => Style::Green,
                (_, 0) => Style::Dim,
                _ => Style::Red,
            };
            format!(
                "{:<10} {}",
                printable(outcome),
                terminal.paint(style, &count.to_string())
            )
        })
        .collect();
    if !outcomes.shown.is_empty() {
        lines.push(String::new());
        lines.extend(columns(&["line", "outcome", "reason"], &outcomes.shown));
        let more = outcomes.not_joined() - outcomes.shown.len() as u64;
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(arguments: &[&str]) -> Args {
        let given = ["feedback", "labels.csv"].iter().chain(arguments);
        Cli::try_parse_from(given).expect("arguments").args
    }

    fn read(csv: &str, arguments: &[&str]) -> Result<Vec<String>, String> {
        let table = Table::parse("labels.csv".as_ref(), csv.as_bytes()).expect("a table");
        let args = args(arguments);
        let labels = labels(&table, &args).map_err(|error| format!("{error:#}"))?;
        Ok(labels
            .iter()
            .map(|label| serde_json::to_string(label).expect("JSON"))
            .collect())
    }

    #[test]
    fn a_label_is_found_by_its_columns() {
        let plain = read("id,label\na,yes\n", &[]).expect("labels");
        assert_eq!(plain, [r#"{"id":"a","row":0,"label":"yes"}"#]);
        let csv = "request,row,truth,place\na,1,yes,7\nb,0,no,8\n";
        let arguments = ["--id", "request", "--label", "truth", "--model", "churn"];
        assert_eq!(
            read(csv, &arguments).expect("labels"),
            [
                r#"{"id":"a","row":1,"label":"yes","model":"churn"}"#,
                r#"{"id":"b","row":0,"label":"no","model":"churn"}"#
            ]
        );
        let by_place = [&arguments[..], &["--row", "place"]].concat();
        assert!(read(csv, &by_place).expect("labels")[1].contains("\"row\":8"));
    }

    #[test]
    fn a_row_that_is_no_label_is_told_with_its_place() {
        let problem = |csv, arguments: &[&str]| read(csv, arguments).expect_err("refused");
        assert_eq!(
            problem("id,label\na,\n", &[]),
            "labels.csv:2: column `label` is empty"
        );
        assert!(
            problem("id,row,label\na,x,yes\n", &[])
                .starts_with("labels.csv:2: column `row`: `x` is not a row")
        );
        assert!(
            problem("id,label\na,yes\n", &["--id", "key"])
                .starts_with("--id: labels.csv has no column `key`")
        );
    }
}
