//! The command line: `serve`, and commands that do one thing for terminals and workflows.

mod analyse;
mod ask;
mod audit;
mod fit;
mod postmortem;
mod step;
mod triage;

use std::io::Write as _;
use std::process::ExitCode;

use plumbline_service::config::{Common, Outcome, ParseSetting, Problems, Reader, Setting, load};
use plumbline_service::{Part, telemetry};

use crate::app::App;
use crate::config::{Config, PORTS, SETTINGS};

/// The part's name and version.
pub const PART: Part = Part {
    name: "analysis-worker",
    version: env!("CARGO_PKG_VERSION"),
};

const USAGE: &str = "\
plumbline-analysis-worker [serve] [SETTINGS]          receive alerts and events, write reports (the default)
plumbline-analysis-worker analyze --alert FILE [...]  analyse one Alertmanager notification
plumbline-analysis-worker drift --event FILE [...]    analyse one drift event
plumbline-analysis-worker fit --file FILE [...]       print what of a log a model would be shown
  --log-budget TOKENS      how much that is; --good-log FILE is a log in which all went well
plumbline-analysis-worker triage --run OWNER/REPO/ID  say why a workflow run failed, what it means and what to do
  --attempt N, --comment   which attempt; comment on the run's pull request or commit
plumbline-analysis-worker triage --job-log FILE [...] the same for the log of one job, without asking anybody
  --job NAME, --step NAME  what it is the log of; --good-log FILE, --report FILE a report in SARIF or JUnit's XML
plumbline-analysis-worker ask \"QUESTION\" [...]        answer from --prometheus URL, with the query
plumbline-analysis-worker capacity --of MODEL [...]   how long its replicas will do, from --prometheus URL
  --days N                 how much history is looked at
plumbline-analysis-worker postmortem --incident ID    timeline, impact, causes, actions, from --store FILE
plumbline-analysis-worker audit verify --store FILE   follow the audit log of a store; --head HASH has to be in it
plumbline-analysis-worker audit export --store FILE   print it, one entry a line
FILE may be - for standard input; --format markdown|json is how it is printed.
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
        "analyze" => analyse::alert(arguments),
        "drift" => analyse::event(arguments),
        "fit" => fit::main(arguments),
        "triage" => triage::main(arguments),
        "ask" => ask::question(arguments),
        "capacity" => ask::capacity(arguments),
        "audit" => audit::main(arguments),
        "postmortem" => postmortem::main(arguments),
        "help" => {
            print(USAGE);
            ExitCode::SUCCESS
        }
        unknown => fail(2, &format!("there is no command `{unknown}`\n\n{USAGE}")),
    }
}

/// How a command prints.
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

const FORMAT: Setting = Setting::new("format", "FORMAT", "markdown or json.").default("markdown");

/// Does one thing with the settings that are a command's `own` and those of the worker: exit status 0 with the outcome on
/// standard output, 1 when it cannot be done, 2 for problems of the configuration.
fn once<T>(
    arguments: Vec<String>,
    own: &[Setting],
    read: impl Fn(&mut Reader, &Config) -> T,
    run: impl AsyncFnOnce(Config, T) -> Result<String, String>,
) -> ExitCode {
    let common = Common::settings(PORTS.0, PORTS.1);
    let read = |reader: &mut Reader| {
        let (_, config) = Config::read(reader);
        let own = read(reader, &config);
        (config, own)
    };
    let (config, own) = match load(
        PART.name,
        &[own, &common, SETTINGS],
        arguments,
        std::env::vars(),
        read,
    ) {
        Ok(Outcome::Start { config, .. }) => config,
        other => return not_started(other),
    };
    if let Err(problem) = telemetry::init(&config.common.log, config.common.log_format) {
        return fail(2, &problem);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("cannot start threads: {error}")),
    };
    match runtime.block_on(run(config, own)) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &error),
    }
}

/// Ends a command that only was to say something, or whose configuration has problems.
fn not_started<C>(outcome: Result<Outcome<C>, Problems>) -> ExitCode {
    match outcome {
        Ok(Outcome::Start { .. } | Outcome::Valid) => ExitCode::SUCCESS,
        Ok(Outcome::Help(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(Outcome::Version) => {
            print(&format!("plumbline-{} {}\n", PART.name, PART.version));
            ExitCode::SUCCESS
        }
        Err(problems) => fail(2, &problems.to_string()),
    }
}

/// A document in one line.
fn json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

/// A file whole, or standard input for `-`; the error names it.
fn read_file(path: &str) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let read = if path == "-" {
        let mut body = Vec::new();
        std::io::stdin().read_to_end(&mut body).map(|_| body)
    } else {
        std::fs::read(path)
    };
    read.map_err(|error| format!("{path}: {error}"))
}

/// Writes to standard output; a closed pipe is not an error.
pub(crate) fn print(text: &str) {
    let _closed_pipe = std::io::stdout().lock().write_all(text.as_bytes());
}

fn fail(status: u8, text: &str) -> ExitCode {
    let _closed_pipe = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(status)
}
