//! `ask` and `capacity`: answers from Prometheus.

use std::process::ExitCode;

use plumbline_service::config::{Reader, Setting};

use super::{FORMAT, Format, json, once};
use crate::ask::Asker;
use crate::config::Config;
use crate::http::HttpClient;
use crate::prometheus::Prometheus;
use crate::provider::Model;
use crate::redact::Redactor;
use crate::{ask, capacity};

const QUESTION: [Setting; 3] = [
    Setting::new(
        "question",
        "TEXT",
        "What is asked, such as \"What's the p95 latency of model churn?\"; the first argument is one, too.",
    ),
    Setting::switch("list", "Lists what can be asked for, with the queries, instead."),
    FORMAT,
];
const CAPACITY: [Setting; 3] = [
    Setting::new("of", "MODEL", "Name of the model."),
    Setting::new("days", "N", "Days of history that are looked at, 1 to 365.").default("28"),
    FORMAT,
];

/// `ask "QUESTION"`
pub(super) fn question(mut arguments: Vec<String>) -> ExitCode {
    if arguments.first().is_some_and(|first| !first.starts_with('-')) {
        arguments[0].insert_str(0, "--question=");
    }
    once(
        arguments,
        &QUESTION,
        |reader, config| {
            let list = reader.switch("list");
            let question: String = if list {
                String::new()
            } else {
                needs_prometheus(reader, config);
                reader.required("question", String::new())
            };
            (list, question, reader.value("format"))
        },
        async |config, (list, question, format)| {
            if list {
                return Ok(measurements(format));
            }
            let answer = Box::pin(asker(&config)?.answer(&question))
                .await
                .map_err(|error| error.to_string())?;
            Ok(match format {
                Format::Markdown => answer.markdown(),
                Format::Json => json(&answer),
            })
        },
    )
}

fn measurements(format: Format) -> String {
    let all = ask::measurements();
    match format {
        Format::Json => json(&all),
        Format::Markdown => {
            let lines: Vec<String> = all
                .iter()
                .map(|each| format!("- {}\n  `{}`\n", each.title, each.query))
                .collect();
            lines.concat()
        }
    }
}

/// `capacity --of MODEL`
pub(super) fn capacity(arguments: Vec<String>) -> ExitCode {
    once(
        arguments,
        &CAPACITY,
        |reader, config| {
            needs_prometheus(reader, config);
            let days: u32 = reader.value("days");
            reader.check("days", (1..=365).contains(&days), "must be 1 to 365");
            let model: String = reader.required("of", String::new());
            (model, days, reader.value("format"))
        },
        async |config, (model, days, format)| {
            let advice = capacity::advise(&prometheus(&config)?, &model, days)
                .await
                .map_err(|error| error.to_string())?;
            Ok(match format {
                Format::Markdown => advice.markdown(),
                Format::Json => json(&advice),
            })
        },
    )
}

fn asker(config: &Config) -> Result<Asker, String> {
    Ok(Asker {
        prometheus: prometheus(config)?,
        model: Model::for_command(config),
        redactor: Redactor::new(&config.secrets(), config.redact_addresses),
    })
}

fn needs_prometheus(reader: &mut Reader, config: &Config) {
    if config.sources.prometheus.is_none() {
        reader.reject("prometheus", "is required: --prometheus URL");
    }
}

fn prometheus(config: &Config) -> Result<Prometheus, String> {
    let configured = Prometheus::configured(&config.sources, HttpClient::new());
    configured.ok_or_else(|| "no Prometheus is configured".to_owned())
}
