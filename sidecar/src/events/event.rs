//! CloudEvents 1.0 in structured JSON.

use bytes::Bytes;
use plumbline_drift::report::{DETECTED, DriftEvent, RECOVERED, State};
use serde::Serialize;

/// Where events come from: this process.
#[derive(Debug)]
pub(crate) struct Source {
    /// The admin port as others reach it.
    url: String,
}

/// An event that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The same each time it is sent.
    pub(crate) id: String,
    /// The episode that it tells of.
    pub(crate) episode: String,
    /// The CloudEvent as JSON.
    pub(crate) body: Bytes,
}

impl Event {
    /// Reads an event as [`Source::event`] has written it; none when it is not one.
    pub(super) fn parse(body: String) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_str(&body).ok()?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        Some(Self {
            id: text(json.get("id")?)?,
            episode: text(json.get("data")?.get("episode")?)?,
            body: body.into(),
        })
    }
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
        Self { url }
    }

    /// The event that tells `data`.
    pub(super) fn event(&self, data: DriftEvent) -> Event {
        let (name, kind) = match data.state {
            State::Drift => ("detected", DETECTED),
            State::Recovered | State::Stable | State::Warning => ("recovered", RECOVERED),
        };
        let id = format!("{}-{name}", data.episode);
        let event = CloudEvent {
            specversion: "1.0",
            id: &id,
            source: &self.url,
            r#type: kind,
            subject: &data.model,
            time: rfc3339(data.at_unix_ms),
            datacontenttype: "application/json",
            data: &data,
        };
        let body = serde_json::to_vec(&event).expect("every map key is a text");
        Event {
            id,
            episode: data.episode,
            body: body.into(),
        }
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
