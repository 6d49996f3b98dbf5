//! Alertmanager's webhook, version 4. Liberal: unknown fields are ignored, missing ones have defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Malformed, Taken, clean_json, typed};
use crate::redact::Redactor;
use crate::report::Urgency;
use crate::signal::{DRIFT, IncidentKey, Origin, Signal, Status, digest, now};
use crate::text::one_line;

/// Most alerts of one notification; Alertmanager's own `max_alerts` keeps it smaller.
const MAX_ALERTS: usize = 10_000;
/// Labels that name the model.
const MODEL_LABELS: [&str; 4] = ["model", "model_name", "inferenceservice", "inference_service"];
/// Labels that tell incidents of the same alert apart when no model is named.
const IDENTITY_LABELS: [&str; 5] = ["cluster", "namespace", "service", "deployment", "job"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Webhook {
    alerts: Vec<Alert>,
    #[serde(default)]
    truncated_alerts: u64,
}

/// One alert, as it is stored with its signal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Alert {
    #[serde(default)]
    status: String,
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default)]
    starts_at: Option<String>,
    #[serde(default)]
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    pub(crate) generator_url: String,
    #[serde(default)]
    fingerprint: String,
}

/// Reads a notification.
///
/// # Errors
/// [`Malformed`], naming the field.
pub(crate) fn read(body: &[u8], redactor: &Redactor) -> Result<Taken, Malformed> {
    let (value, redactions) = clean_json(body, redactor)?;
    let webhook: Webhook = typed(&value, "")?;
    if webhook.alerts.is_empty() {
        return Err(Malformed::field("alerts", "is empty"));
    }
    if webhook.alerts.len() > MAX_ALERTS {
        return Err(Malformed::field("alerts", format!("more than {MAX_ALERTS}")));
    }
    if webhook.truncated_alerts > 0 {
        tracing::warn!(
            truncated = webhook.truncated_alerts,
            "Alertmanager cut alerts off a notification; raise max_alerts of the receiver"
        );
    }
    let signals = webhook
        .alerts
        .into_iter()
        .enumerate()
        .map(|(index, alert)| signal(index, alert))
        .collect::<Result<_, _>>()?;
    Ok(Taken { signals, redactions })
}

fn signal(index: usize, alert: Alert) -> Result<Signal, Malformed> {
    let time = |field: &str, text: &Option<String>| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => {
            let at: Result<jiff::Timestamp, _> = text.parse();
            let at = at.map_err(|_| {
                Malformed::field(
                    format!("alerts[{index}].{field}"),
                    format!("`{text}` is not an RFC 3339 time"),
                )
            })?;
            // Year 1 is how Alertmanager spells "not yet".
            Ok(Some(at.as_millisecond()).filter(|at| *at > 0))
        }
    };
    let starts_at = time("startsAt", &alert.starts_at)?;
    let ends_at = time("endsAt", &alert.ends_at)?;
    let status = match alert.status.as_str() {
        "resolved" => Status::Resolved,
        _ => Status::Firing,
    };
    let fingerprint = match alert.fingerprint.as_str() {
        "" => {
            let labels: Vec<&str> = alert
                .labels
                .iter()
                .flat_map(|(k, v)| [k.as_str(), v.as_str()])
                .collect();
            digest(&labels)[..16].to_owned()
        }
        fingerprint => one_line(fingerprint, 64),
    };
    let urgency = urgency(alert.labels.get("severity").map(String::as_str));
    Ok(Signal {
        origin: Origin::Alertmanager,
        dedup_key: format!("alert:{fingerprint}:{}", starts_at.unwrap_or(0)),
        episode: None,
        status,
        incident: incident_key(&alert.labels),
        title: title(&alert),
        urgency,
        weight: match urgency {
            Urgency::P0 => 2,
            Urgency::P1 => 1,
            Urgency::P2 => 0,
        },
        starts_at: starts_at.unwrap_or_else(now),
        ends_at: ends_at.filter(|_| status == Status::Resolved),
        body: serde_json::to_value(alert).unwrap_or_default(),
    })
}

/// Drift of one model is one incident, whoever tells it; other alerts go by name and what they are about.
fn incident_key(labels: &BTreeMap<String, String>) -> IncidentKey {
    let get = |name: &&str| {
        labels
            .get(*name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    let model = MODEL_LABELS.iter().find_map(get);
    let name = labels.get("alertname").map_or("alert", String::as_str);
    let is_drift =
        name.to_ascii_lowercase().contains("drift") || labels.get("kind").is_some_and(|kind| kind == DRIFT);
    let about: Vec<&str> = IDENTITY_LABELS
        .iter()
        .map(|label| get(label).unwrap_or(""))
        .collect();
    match (is_drift, model) {
        (true, Some(model)) => IncidentKey::new(DRIFT, Some(model), &[]),
        (true, None) => IncidentKey::new(DRIFT, None, &about),
        (false, Some(model)) => IncidentKey::new(&one_line(name, 120), Some(model), &[]),
        (false, None) => IncidentKey::new(&one_line(name, 120), None, &about),
    }
}

fn title(alert: &Alert) -> String {
    let name = alert.labels.get("alertname").map_or("alert", String::as_str);
    let said = alert
        .annotations
        .get("summary")
        .or_else(|| alert.annotations.get("description"));
    if let Some(said) = said {
        return one_line(&format!("{name}: {said}"), 200);
    }
    let about = MODEL_LABELS
        .iter()
        .chain(&IDENTITY_LABELS)
        .find_map(|label| alert.labels.get(*label));
    let text = about.map_or_else(|| name.to_owned(), |about| format!("{name}: {about}"));
    one_line(&text, 200)
}

/// What the `severity` label says; an alert without one is taken seriously.
fn urgency(severity: Option<&str>) -> Urgency {
    match severity.unwrap_or("").to_ascii_lowercase().as_str() {
        "critical" | "page" | "p0" | "emergency" | "fatal" | "disaster" => Urgency::P0,
        "info" | "information" | "low" | "none" | "p2" | "notice" => Urgency::P2,
        _ => Urgency::P1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(body: &serde_json::Value) -> Result<Vec<Signal>, Malformed> {
        read(body.to_string().as_bytes(), &Redactor::new(&[], false)).map(|taken| taken.signals)
    }

    #[test]
    fn a_minimal_alert_is_enough() {
        let signals = take(&json!({"alerts": [{"labels": {"alertname": "X"}}]})).expect("taken");
        assert_eq!(signals[0].title, "X");
        assert_eq!(
            (signals[0].status, signals[0].urgency),
            (Status::Firing, Urgency::P1)
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, expected) in [
            (json!({}), "missing field `alerts`"),
            (json!({"alerts": []}), "alerts: is empty"),
            (
                json!({"alerts": [{"labels": {"a": 1}}]}),
                "alerts[0].labels.a: invalid type",
            ),
            (
                json!({"alerts": [{"labels": {}, "startsAt": "noon"}]}),
                "alerts[0].startsAt: `noon` is not",
            ),
            (json!([1]), "body: invalid"),
        ] {
            let error = take(&body).expect_err("malformed").to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = read(b"{", &Redactor::new(&[], false))
            .expect_err("cut")
            .to_string();
        assert!(error.starts_with("the body is not JSON"), "{error}");
    }

    #[test]
    fn drift_of_a_model_is_one_incident_and_pods_share_theirs() {
        let key = |labels: serde_json::Value| {
            take(&json!({"alerts": [{"labels": labels}]})).expect("taken")[0]
                .incident
                .clone()
        };
        let drift = key(json!({"alertname": "ModelDriftDetected", "model": "churn", "subject": "tenure"}));
        assert_eq!(drift, IncidentKey::new(DRIFT, Some("churn"), &[]));
        assert_eq!(
            key(json!({"alertname": "ErrorRate", "service": "scorer", "pod": "scorer-0"})),
            key(json!({"alertname": "ErrorRate", "service": "scorer", "pod": "scorer-1"}))
        );
        assert_ne!(
            key(json!({"alertname": "ErrorRate", "service": "scorer"})).digest,
            key(json!({"alertname": "ErrorRate", "service": "gateway"})).digest
        );
    }
}
