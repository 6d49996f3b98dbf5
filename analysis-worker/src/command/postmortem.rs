//! `postmortem`: what happened in one incident, from the store of a worker.

use std::process::ExitCode;

use plumbline_service::config::Setting;
use plumbline_service::error_chain;

use super::step::{OUTPUT, SUMMARY, Step};
use super::{FORMAT, Format, json, once};
use crate::http::HttpClient;
use crate::postmortem;
use crate::prometheus::Prometheus;
use crate::provider::Model;
use crate::store::Store;

const OWN: [Setting; 4] = [
    Setting::new("incident", "ID", "Id of the incident, as reports have it."),
    SUMMARY,
    OUTPUT,
    FORMAT,
];

/// `postmortem --incident ID --store FILE`
pub(super) fn main(arguments: Vec<String>) -> ExitCode {
    once(
        arguments,
        &OWN,
        |reader, _| {
            let incident: String = reader.required("incident", String::new());
            (incident, Step::read(reader), reader.value("format"))
        },
        async |config, (id, step, format)| {
            let store = Store::open_read_only(&config.store).map_err(|error| error_chain(&error))?;
            let prometheus = Prometheus::configured(&config.sources, HttpClient::new());
            let material = postmortem::gather(&store, prometheus.as_ref(), &id)
                .await
                .map_err(|error| error_chain(&error))?
                .ok_or_else(|| format!("{}: there is no incident `{id}`", config.store.display()))?;
            let mut postmortem = postmortem::write(&material);
            if let Some(model) = Model::for_command(&config) {
                match postmortem::worded::word(&model, &postmortem).await {
                    Ok(worded) => postmortem.worded = Some(worded),
                    Err(reason) => postmortem.not_worded = Some(reason),
                }
            }
            step.summarise(&postmortem.markdown())?;
            let text = match format {
                Format::Markdown => postmortem.markdown(),
                Format::Json => json(&postmortem),
            };
            step.output(&text)?;
            Ok(text)
        },
    )
}
