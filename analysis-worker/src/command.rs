//! The command line: `serve`, and analyses of one file for terminals and workflows.

mod triage;

use std::io::Write as _;
use std::process::ExitCode;

use plumbline_log_fitting::Fitter;
use plumbline_service::config::{Common, Outcome, ParseSetting, Reader, Setting, load};
use plumbline_service::{Part, telemetry};

use crate::analysis::{Analysed, Analyst, Task};
use crate::app::App;
use crate::collect::logs;
use crate::config::{Config, PORTS, SETTINGS};
use crate::intake::{Taken, alertmanager, cloudevents};
use crate::metrics::Metrics;
use crate::redact::Redactor;
use crate::report::Subject;
use crate::signal::Signal;
use crate::store::SignalRow;

/// The part's name and version.
pub const PART: Part = Part {
    name: "analysis-worker",
    version: env!("CARGO_PKG_VERSION"),
};

const USAGE: &str = "\
plumbline-analysis-worker [serve] [SETTINGS]          receive alerts and events, write reports (the default)
plumbline-analysis-worker analyze --alert FILE [...]  analyse one Alertmanager notification
plumbline-analysis-worker drift --event FILE [...]    analyse one drift event
  --format markdown|json   how `analyze` and `drift` print
plumbline-analysis-worker fit --file FILE [...]       print what of a log a model would be shown
  --log-budget TOKENS      how much that is; --good-log FILE is a log in which all went well
plumbline-analysis-worker triage --run OWNER/REPO/ID  say why a workflow run failed, what it means and what to do
  --attempt N, --comment   which attempt; comment on the run's pull request or commit
plumbline-analysis-worker triage --job-log FILE [...] the same for the log of one job, without asking anybody
  --job NAME, --step NAME  what it is the log of; --good-log FILE, --report FILE a report in SARIF or JUnit's XML
FILE may be - for standard input.
  --help after a command lists its settings
";

/// Runs the program.
pub fn main(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let mut arguments: Vec<String> = arguments.into_iter().collect();
    let command = match arguments.first() {
        Some(first) if !first.starts_with('-') => arguments.remove(0),
        _ => "serve".to_owned(),
    };
    match command.as_str() {
        "serve" => {
            let common = Common::settings(PORTS.0, PORTS.1);
            plumbline_service::run(
                PART,
                &[&common, SETTINGS],
                arguments,
                Config::read,
                async |config, process| App::bind(config, &process).await?.serve().await,
            )
        }
        "analyze" => once(arguments, &ALERT, |reader| {
            What::Analyse(Input::Alert, reader.value("format"))
        }),
        "drift" => once(arguments, &EVENT, |reader| {
            What::Analyse(Input::Event, reader.value("format"))
        }),
        "fit" => once(arguments, &LOG, |reader| What::Fit {
            good_log: reader.optional("good_log"),
        }),
        "triage" => triage::run(arguments),
        "help" => {
            print(USAGE);
            ExitCode::SUCCESS
        }
        unknown => fail(2, &format!("there is no command `{unknown}`\n\n{USAGE}")),
    }
}

#[derive(Clone, Copy)]
enum Input {
    Alert,
    Event,
}

#[derive(Clone, Copy)]
enum Format {
    Markdown,
    Json,
}

impl ParseSetting for Format {
    fn parse_setting(text: &str) -> Result<Self, String> {
        match text {
            "markdown" | "md" => Ok(Self::Markdown),
            "json" => Ok(Self::Json),
            _ => Err("expected markdown or json".to_owned()),
        }
    }
}

const ALERT: [Setting; 2] = [
    Setting::new(
        "alert",
        "FILE",
        "Body of an Alertmanager webhook; - for standard input.",
    ),
    FORMAT,
];
const EVENT: [Setting; 2] = [
    Setting::new(
        "event",
        "FILE",
        "A drift CloudEvent as JSON; - for standard input.",
    ),
    FORMAT,
];
const LOG: [Setting; 2] = [
    Setting::new("file", "FILE", "A log; - for standard input."),
    Setting::new(
        "good_log",
        "FILE",
        "A log of the same job in which all went well: lines that it has, too, tell little.",
    ),
];
const FORMAT: Setting = Setting::new("format", "FORMAT", "markdown or json.").default("markdown");

struct Once {
    config: Config,
    file: String,
    what: What,
}

/// What is done with the file.
enum What {
    Analyse(Input, Format),
    Fit { good_log: Option<String> },
}

/// Handles the file that the first of its `own` settings names: exit status 0 with the outcome on standard output, 1 when
/// the file cannot be used, 2 for problems of the configuration.
fn once(arguments: Vec<String>, own: &[Setting; 2], what: impl Fn(&mut Reader) -> What) -> ExitCode {
    let common = Common::settings(PORTS.0, PORTS.1);
    let read = |reader: &mut Reader| {
        let (_, config) = Config::read(reader);
        Once {
            config,
            file: reader.required(own[0].name, String::new()),
            what: what(reader),
        }
    };
    let (once, runtime) = match begin(&[own, &common, SETTINGS], arguments, read, |once| &once.config) {
        Ok(begun) => begun,
        Err(status) => return status,
    };
    let done = match &once.what {
        What::Analyse(input, format) => runtime.block_on(analyse(&once, *input, *format)),
        What::Fit { good_log } => fit(&once, good_log.as_deref()),
    };
    match done {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &format!("{}: {error}", once.file)),
    }
}

/// Reads the configuration of a command and starts what it needs, or ends with a status.
fn begin<T>(
    settings: &[&[Setting]],
    arguments: Vec<String>,
    read: impl FnOnce(&mut Reader) -> T,
    config: impl Fn(&T) -> &Config,
) -> Result<(T, tokio::runtime::Runtime), ExitCode> {
    let begun = match load(PART.name, settings, arguments, std::env::vars(), read) {
        Ok(Outcome::Start { config, .. }) => config,
        Ok(Outcome::Valid) => return Err(ExitCode::SUCCESS),
        Ok(Outcome::Help(text)) => {
            print(&text);
            return Err(ExitCode::SUCCESS);
        }
        Ok(Outcome::Version) => {
            print(&format!("plumbline-{} {}\n", PART.name, PART.version));
            return Err(ExitCode::SUCCESS);
        }
        Err(problems) => return Err(fail(2, &problems.to_string())),
    };
    let common = &config(&begun).common;
    if let Err(problem) = telemetry::init(&common.log, common.log_format) {
        return Err(fail(2, &problem));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => Ok((begun, runtime)),
        Err(error) => Err(fail(1, &format!("cannot start threads: {error}"))),
    }
}

/// What of a log a model would be shown.
fn fit(once: &Once, good_log: Option<&str>) -> Result<String, String> {
    let redactor = Redactor::new(&once.config.secrets(), once.config.redact_addresses);
    let mut redaction = redactor.begin([]);
    let mut read = |file: &str| {
        let bytes = read_file(file).map_err(|error| error.to_string())?;
        Ok::<_, String>(logs::lines(&String::from_utf8_lossy(&bytes), 0, &mut redaction))
    };
    let baseline = good_log
        .map(|file| read(file).map_err(|error| format!("{file}: {error}")))
        .transpose()?;
    let mut fitter = Fitter::new(baseline.map(|lines| lines.iter().collect()));
    fitter.extend(read(&once.file)?);
    Ok(fitter.fit(once.config.sources.log_budget).text)
}

async fn analyse(once: &Once, input: Input, format: Format) -> Result<String, String> {
    let body = read_file(&once.file).map_err(|error| error.to_string())?;
    let redactor = Redactor::new(&once.config.secrets(), once.config.redact_addresses);
    let taken = match input {
        Input::Alert => alertmanager::read(&body, &redactor),
        Input::Event => cloudevents::read(&http::HeaderMap::new(), &body, &redactor),
    };
    let Taken { signals, .. } = taken.map_err(|error| error.to_string())?;
    let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
    let analyst = Analyst::new(&once.config, redactor, &metrics);
    let mut text = String::new();
    for signals in by_incident(&signals) {
        let task = task(&signals);
        let context = analyst.collect(&task, false).await;
        let Analysed { report, markdown, .. } = analyst.conclude(&task, context, false).await;
        match format {
            Format::Markdown => text.push_str(&markdown),
            Format::Json => {
                text.push_str(&serde_json::to_string(&report).map_err(|error| error.to_string())?);
            }
        }
        text.push('\n');
    }
    Ok(text)
}

/// Signals that belong together, in the order in which they came.
fn by_incident(signals: &[Signal]) -> Vec<Vec<&Signal>> {
    let mut groups: Vec<Vec<&Signal>> = Vec::new();
    for signal in signals {
        match groups
            .iter_mut()
            .find(|group| group[0].incident == signal.incident)
        {
            Some(group) => group.push(signal),
            None => groups.push(vec![signal]),
        }
    }
    groups
}

fn task(signals: &[&Signal]) -> Task {
    let first = signals[0];
    let started_at = signals
        .iter()
        .map(|signal| signal.starts_at)
        .min()
        .unwrap_or(first.starts_at);
    let urgency = signals
        .iter()
        .map(|signal| signal.urgency)
        .min()
        .unwrap_or(first.urgency);
    Task {
        subject: Subject {
            id: crate::signal::digest(&[&first.incident.digest, &first.dedup_key])[..12].to_owned(),
            kind: first.incident.kind.clone(),
            model: first.incident.model.clone(),
            title: first.title.clone(),
            started_at: crate::signal::rfc3339(started_at),
        },
        started_at,
        urgency,
        revision: 1,
        signals: signals.iter().map(|signal| SignalRow::from(*signal)).collect(),
    }
}

fn read_file(path: &str) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    if path == "-" {
        let mut body = Vec::new();
        std::io::stdin().read_to_end(&mut body)?;
        return Ok(body);
    }
    std::fs::read(path)
}

/// Writes to standard output; a closed pipe is not an error.
pub(crate) fn print(text: &str) {
    let _closed_pipe = std::io::stdout().lock().write_all(text.as_bytes());
}

fn fail(status: u8, text: &str) -> ExitCode {
    let _closed_pipe = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(status)
}
