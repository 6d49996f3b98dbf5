//! `analyze` and `drift`: a report of one file.

use std::process::ExitCode;

use plumbline_service::config::{Reader, Setting};

use super::step::{OUTPUT, SUMMARY, Step};
use super::{FORMAT, Format, once, read_file};
use crate::analysis::{Analysed, Analyst, Task};
use crate::config::Config;
use crate::intake::{Taken, alertmanager, cloudevents};
use crate::metrics::Metrics;
use crate::redact::Redactor;
use crate::report::Subject;
use crate::signal::Signal;
use crate::store::SignalRow;

const ALERT: [Setting; 4] = [
    Setting::new(
        "alert",
        "FILE",
        "Body of an Alertmanager webhook; - for standard input.",
    ),
    SUMMARY,
    OUTPUT,
    FORMAT,
];
const EVENT: [Setting; 4] = [
    Setting::new(
        "event",
        "FILE",
        "A drift CloudEvent as JSON; - for standard input.",
    ),
    SUMMARY,
    OUTPUT,
    FORMAT,
];

#[derive(Clone, Copy)]
enum Input {
    Alert,
    Event,
}

struct What {
    file: String,
    step: Step,
    format: Format,
}

impl What {
    fn read(reader: &mut Reader, name: &'static str) -> Self {
        Self {
            file: reader.required(name, String::new()),
            step: Step::read(reader),
            format: reader.value("format"),
        }
    }
}

/// `analyze --alert FILE`
pub(super) fn alert(arguments: Vec<String>) -> ExitCode {
    once(
        arguments,
        &ALERT,
        |reader, _| What::read(reader, "alert"),
        async |config, what| Box::pin(analyse(config, Input::Alert, what)).await,
    )
}

/// `drift --event FILE`
pub(super) fn event(arguments: Vec<String>) -> ExitCode {
    once(
        arguments,
        &EVENT,
        |reader, _| What::read(reader, "event"),
        async |config, what| Box::pin(analyse(config, Input::Event, what)).await,
    )
}

async fn analyse(config: Config, input: Input, what: What) -> Result<String, String> {
    let body = read_file(&what.file)?;
    let redactor = Redactor::new(&config.secrets(), config.redact_addresses);
    let taken = match input {
        Input::Alert => alertmanager::read(&body, &redactor),
        Input::Event => cloudevents::read(&http::HeaderMap::new(), &body, &redactor),
    };
    let Taken { signals, .. } = taken.map_err(|error| format!("{}: {error}", what.file))?;
    let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
    let analyst = Analyst::new(&config, redactor, &metrics, None);
    let mut text = String::new();
    for signals in by_incident(&signals) {
        let task = task(&signals);
        let context = analyst.collect(&task, false).await;
        let Analysed { report, markdown, .. } = analyst.conclude(&task, context, false).await;
        what.step.summarise(&markdown)?;
        match what.format {
            Format::Markdown => text.push_str(&markdown),
            Format::Json => {
                text.push_str(&serde_json::to_string(&report).map_err(|error| error.to_string())?);
            }
        }
        text.push('\n');
    }
    what.step.output(&text)?;
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
