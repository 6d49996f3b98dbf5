//! Logs of containers, those that were restarted included, cut down to the lines that tell most.

use tokio::task::spawn_blocking;

use super::Found;
use super::api::{Api, ApiError};
use super::pods::Pod;
use crate::collect::logs::{self, Log};
use crate::collect::{Fact, Place};
use crate::config::Sources;
use crate::redact::Redactor;
use crate::signal::rfc3339;

/// Logs that are read.
const MAX_LOGS: usize = 8;

pub(super) async fn ask(
    api: &Api,
    pods: &[Pod],
    place: &Place,
    started_at: i64,
    sources: &Sources,
    redactor: &Redactor,
    found: &mut Found,
) {
    let since = sources.logs_since(started_at);
    let mut logs = Vec::new();
    let wanted = wanted(pods, place);
    if wanted.len() > MAX_LOGS {
        let more = wanted.len() - MAX_LOGS;
        found
            .log_gaps
            .push(format!("{more} more logs of containers were not read"));
    }
    for (pod, container, previous) in wanted.into_iter().take(MAX_LOGS) {
        let run = if previous { ", before its restart" } else { "" };
        let name = format!("pod {} container {container}{run}", pod.name);
        // What ended is most likely the cause, whenever that was.
        let since = (!previous).then_some(since);
        let from = since.map(rfc3339);
        match api
            .log(&pod.namespace, &pod.name, &container, previous, from.as_deref())
            .await
        {
            Ok(text) => logs.push(Log {
                name,
                text: String::from_utf8_lossy(&text).into_owned(),
                skipped: 0,
                since,
            }),
            Err(error @ ApiError::Forbidden { .. }) => {
                found.log_gaps.push(error.to_string());
                return;
            }
            Err(error) => found.log_gaps.push(format!("{name}: {error}")),
        }
    }
    if logs.is_empty() {
        return;
    }
    let (budget, mut redaction) = (sources.log_budget / logs.len(), redactor.begin([]));
    let fitted = spawn_blocking(move || {
        let fitted: Vec<Result<Fact, String>> = logs
            .into_iter()
            .map(|log| logs::fit(log, budget, &mut redaction))
            .collect();
        (fitted, redaction.count())
    });
    match fitted.await {
        Ok((fitted, redactions)) => {
            found.redactions += redactions;
            for log in fitted {
                match log {
                    Ok(fact) => found.logs.push(fact),
                    Err(gap) => found.log_gaps.push(gap),
                }
            }
        }
        Err(error) => found.log_gaps.push(format!("reading failed: {error}")),
    }
}

/// Containers whose logs are of interest, and whether it is that of the run before the restart; those of the one that
/// the alert names come first, and earlier runs before running ones.
fn wanted<'a>(pods: &'a [Pod], place: &Place) -> Vec<(&'a Pod, String, bool)> {
    let mut wanted: Vec<(bool, &Pod, String, bool)> = Vec::new();
    for pod in pods {
        for container in pod.containers() {
            let Some(name) = container["name"].as_str() else {
                continue;
            };
            let restarted = container["restartCount"].as_i64().unwrap_or(0) > 0;
            let never_ran = container["state"]["waiting"].is_object() && !restarted;
            let is_other = place.container.as_deref().is_some_and(|named| named != name);
            if restarted {
                wanted.push((is_other, pod, name.to_owned(), true));
            }
            if !never_ran {
                wanted.push((is_other, pod, name.to_owned(), false));
            }
        }
    }
    wanted.sort_by_key(|(is_other, _, _, previous)| (*is_other, !previous));
    wanted
        .into_iter()
        .map(|(_, pod, name, previous)| (pod, name, previous))
        .collect()
}
