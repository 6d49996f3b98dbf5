//! CloudEvents 1.0 over HTTP, structured, batched and binary.
//!
//! A gateway tells `canary.stopped`; a sidecar tells `detected` and `recovered` with ids that are stable for the episode, at least once each.

use http::HeaderMap;
use plumbline_drift::report::{CANARY_STOPPED, CanaryEvent, DETECTED, DriftEvent, EndReason, RECOVERED};
use serde::Deserialize;
use serde_json::Value;

use super::{Malformed, Taken, clean, clean_json, typed};
use crate::drift::{Drift, Role, State};
use crate::redact::Redactor;
use crate::report::Urgency;
use crate::signal::{CANARY, DRIFT, IncidentKey, Origin, Signal, Status};
use crate::text::{one_line, sanitise};
use crate::urgency;

/// Most events of one batch.
const MAX_EVENTS: usize = 1_000;
/// Weight of a drift event above any alert: it carries the comparison itself.
const WEIGHT: i64 = 10;

#[derive(Deserialize)]
struct Envelope {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    data_base64: Option<String>,
}

/// Reads one event, or a batch of them.
///
/// # Errors
/// [`Malformed`], naming the field.
pub(crate) fn read(headers: &HeaderMap, body: &[u8], redactor: &Redactor) -> Result<Taken, Malformed> {
    let content_type = headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
        .to_ascii_lowercase();
    let is_binary =
        headers.contains_key("ce-specversion") && !content_type.starts_with("application/cloudevents");
    let (document, mut redactions) = clean_json(body, redactor)?;
    let envelopes = if is_binary {
        vec![binary(headers, document)?]
    } else if let Value::Array(items) = &document {
        if items.is_empty() || items.len() > MAX_EVENTS {
            return Err(Malformed::field(
                "body",
                format!("expected 1 to {MAX_EVENTS} events"),
            ));
        }
        items
            .iter()
            .enumerate()
            .map(|(index, item)| typed(item, &format!("[{index}]")))
            .collect::<Result<_, _>>()?
    } else {
        vec![typed(&document, "")?]
    };
    let mut signals = Vec::with_capacity(envelopes.len());
    for mut envelope in envelopes {
        if let Some(data) = envelope.data_base64.take() {
            let (data, more) = decode(&data, redactor)?;
            envelope.data = data;
            redactions += more;
        }
        signals.push(signal(envelope)?);
    }
    Ok(Taken { signals, redactions })
}

fn decode(data: &str, redactor: &Redactor) -> Result<(Value, u64), Malformed> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(data)
        .map_err(|error| Malformed::field("data_base64", error.to_string()))?;
    let data =
        serde_json::from_slice(&bytes).map_err(|error| Malformed::field("data_base64", error.to_string()))?;
    Ok(clean(data, redactor))
}

fn binary(headers: &HeaderMap, data: Value) -> Result<Envelope, Malformed> {
    let get = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        let text = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
        Some(sanitise(&text))
    };
    let required =
        |name: &str| get(name).ok_or_else(|| Malformed::field(name, "header is missing or not text"));
    Ok(Envelope {
        specversion: required("ce-specversion")?,
        id: required("ce-id")?,
        source: required("ce-source")?,
        kind: required("ce-type")?,
        subject: get("ce-subject"),
        data,
        data_base64: None,
    })
}

fn signal(envelope: Envelope) -> Result<Signal, Malformed> {
    let Envelope {
        specversion,
        id,
        source,
        kind,
        subject,
        data,
        ..
    } = envelope;
    if !specversion.starts_with("1.") {
        return Err(Malformed::field(
            "specversion",
            format!("`{specversion}`, expected 1.0"),
        ));
    }
    for (field, value) in [("id", &id), ("source", &source)] {
        if value.is_empty() || value.len() > 1_024 {
            return Err(Malformed::field(field, "is empty or longer than 1024 bytes"));
        }
    }
    let dedup_key = format!("event:{source}:{id}");
    let status = match kind.as_str() {
        DETECTED => Status::Firing,
        RECOVERED => Status::Resolved,
        CANARY_STOPPED => return canary(&source, &data, dedup_key),
        other => return Err(Malformed::Type(one_line(other, 80))),
    };
    let event: DriftEvent = typed(&data, "data")?;
    let drift = Drift::from(&event.report);
    let model = subject
        .filter(|subject| !subject.is_empty())
        .unwrap_or_else(|| event.model.clone());
    let title = title(&model, &drift, status, event.reason);
    Ok(Signal {
        origin: Origin::DriftEvent,
        dedup_key,
        episode: Some(format!("{model}:{}", event.episode)),
        status,
        incident: IncidentKey::new(DRIFT, Some(&one_line(&model, 200)), &[]),
        title,
        urgency: urgency::of_drift(&drift),
        weight: match drift.state {
            State::Stable => 0,
            State::Warning => WEIGHT + 1,
            State::Drift => WEIGHT + 2,
        },
        starts_at: event.started_at_unix_ms,
        ends_at: (status == Status::Resolved).then_some(event.at_unix_ms),
        body: serde_json::json!({"source": source, "type": kind, "data": data}),
    })
}

/// A canary that a gateway has stopped: a person decides what becomes of it.
fn canary(source: &str, data: &Value, dedup_key: String) -> Result<Signal, Malformed> {
    let event: CanaryEvent = typed(data, "data")?;
    let (model, revision) = (one_line(&event.model, 200), one_line(&event.canary.revision, 200));
    Ok(Signal {
        origin: Origin::CanaryEvent,
        dedup_key,
        episode: None,
        status: Status::Firing,
        incident: IncidentKey::new(CANARY, Some(&model), &[&revision]),
        title: one_line(
            &format!(
                "{model}: canary {revision} was stopped for its {}",
                event.cause.label()
            ),
            200,
        ),
        urgency: Urgency::P1,
        weight: WEIGHT,
        starts_at: event.at_unix_ms,
        ends_at: None,
        body: serde_json::json!({"source": source, "type": CANARY_STOPPED, "data": data}),
    })
}

/// Names the features in the worst state; outputs only when no feature is.
fn title(model: &str, drift: &Drift, status: Status, reason: Option<EndReason>) -> String {
    if status == Status::Resolved {
        let what = match reason {
            None => "like the reference again",
            Some(EndReason::ReferenceReplaced) => "the reference was replaced",
        };
        return one_line(&format!("{model}: {what}"), 200);
    }
    let worst = |role: Option<Role>| -> Vec<&str> {
        let subjects = drift.affected().filter(|subject| subject.state == drift.state);
        let subjects = subjects.filter(|subject| role.is_none_or(|role| subject.role == role));
        subjects.map(|subject| subject.name.as_str()).collect()
    };
    let model = format!("{model}{}", drift.of_segment());
    let mut names = worst(Some(Role::Feature));
    if names.is_empty() {
        names = worst(None);
    }
    let verb = match drift.state {
        State::Drift => "drifted",
        State::Stable | State::Warning => "may be drifting",
    };
    let text = match names.as_slice() {
        [] => format!("{model}: drift"),
        [one] => format!("{model}: {one} {verb}"),
        [one, two] => format!("{model}: {one} and {two} {verb}"),
        [one, two, rest @ ..] => format!("{model}: {one}, {two} and {} more {verb}", rest.len()),
    };
    one_line(&text, 200)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::tests::contract_shift;

    #[test]
    fn the_end_of_an_episode_says_why() {
        let detected = include_bytes!("../../tests/golden/drift-detected.json");
        let mut event: Value = serde_json::from_slice(detected).expect("JSON");
        event["type"] = RECOVERED.into();
        event["data"]["state"] = "recovered".into();
        for (reason, title) in [
            (Value::Null, "churn: like the reference again"),
            ("reference_replaced".into(), "churn: the reference was replaced"),
        ] {
            event["data"]["reason"] = reason;
            let body = event.to_string();
            let taken =
                read(&HeaderMap::new(), body.as_bytes(), &Redactor::new(&[], false)).expect("an event");
            let [signal] = &taken.signals[..] else {
                panic!("{:?}", taken.signals)
            };
            assert_eq!((signal.title.as_str(), signal.status), (title, Status::Resolved));
        }
    }

    #[test]
    fn a_stopped_canary_is_an_incident_of_its_own() {
        let seen = |revision: &str| serde_json::json!({"revision": revision, "answers": 40, "failed": 0.5});
        let event = serde_json::json!({
            "specversion": "1.0", "id": "churn/v2@1769860800000", "source": "http://gateway:9901", "type": CANARY_STOPPED,
            "data": {
                "model": "churn", "canary": seen("v2"), "stable": seen("v1"), "cause": "errors",
                "at_unix_ms": 1_769_860_800_000_i64, "log10_evidence": 3.5,
            },
        });
        let read = |event: &Value| {
            read(
                &HeaderMap::new(),
                event.to_string().as_bytes(),
                &Redactor::new(&[], false),
            )
        };
        let taken = read(&event).expect("an event");
        let [signal] = &taken.signals[..] else {
            panic!("{:?}", taken.signals)
        };
        assert_eq!(signal.title, "churn: canary v2 was stopped for its errors");
        assert_eq!((signal.urgency, signal.status), (Urgency::P1, Status::Firing));
        assert_eq!(signal.incident, IncidentKey::new(CANARY, Some("churn"), &["v2"]));
        let mut unknown = event;
        unknown["data"]["cause"] = "mood".into();
        let problem = read(&unknown).expect_err("refused").to_string();
        assert!(problem.contains("data.cause"), "{problem}");
    }

    #[test]
    fn the_title_names_the_segment_that_drifted() {
        let mut drift = contract_shift();
        assert_eq!(
            title("churn", &drift, Status::Firing, None),
            "churn: Contract drifted"
        );
        drift.segment = Some("north".to_owned());
        assert_eq!(
            title("churn", &drift, Status::Firing, None),
            "churn, segment north: Contract drifted"
        );
    }
}
