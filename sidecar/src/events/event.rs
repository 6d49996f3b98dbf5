//! CloudEvents 1.0 in structured JSON.

use plumbline_drift::report::{DETECTED, DriftEvent, RECOVERED, State};
use serde::Serialize;

use crate::models::Model;
use crate::observer::Change;

/// Where events come from: this process.
#[derive(Debug)]
pub(crate) struct Source {
    /// The admin port as others reach it.
    url: String,
    /// Sets the episodes of this process apart from those of others and of earlier ones.
    instance: u64,
}

/// An event that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The same each time it is sent.
    pub(crate) id: String,
    /// The CloudEvent as JSON.
    pub(crate) body: String,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    r#type: &'static str,
    subject: &'a str,
    time: String,
    datacontenttype: &'static str,
    data: &'a DriftEvent,
}

impl Source {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            instance: fastrand::u64(..),
        }
    }

    /// The event that tells `change`.
    pub(super) fn event(&self, model: &Model, change: Change) -> Event {
        let Change {
            state,
            episode,
            started_at_unix_ms,
            rows,
            report,
        } = change;
        let (name, kind) = match state {
            State::Drift => ("detected", DETECTED),
            State::Recovered | State::Stable | State::Warning => ("recovered", RECOVERED),
        };
        let episode = format!("{}-{:016x}-{episode}", model.name, self.instance);
        let id = format!("{episode}-{name}");
        let at_unix_ms = report.window.closed_at_unix_ms;
        let data = DriftEvent {
            model: model.name.clone(),
            version: model.version.clone(),
            episode,
            state,
            started_at_unix_ms,
            at_unix_ms,
            rows,
            report,
        };
        let event = CloudEvent {
            specversion: "1.0",
            id: &id,
            source: &self.url,
            r#type: kind,
            subject: &model.name,
            time: rfc3339(at_unix_ms),
            datacontenttype: "application/json",
            data: &data,
        };
        let body = serde_json::to_string(&event).expect("every map key is a text");
        Event { id, body }
    }
}

fn rfc3339(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms)
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_utc() {
        assert_eq!(rfc3339(1_769_860_800_250), "2026-01-31T12:00:00.25Z");
        assert_eq!(rfc3339(i64::MAX), "1970-01-01T00:00:00Z");
    }
}
