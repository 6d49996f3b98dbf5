//! GitHub's webhooks. Of a completed workflow run, a failure begins an incident of its workflow and branch, and a later
//! success ends it; everything else is told to be of no interest.

use http::HeaderMap;
use ring::hmac;
use serde::Deserialize;
use serde_json::json;

use super::{Malformed, clean_json, typed};
use crate::github::{Repository, Run};
use crate::redact::Redactor;
use crate::report::Urgency;
use crate::signal::{IncidentKey, Origin, PIPELINE, Signal, Status, now};
use crate::text::one_line;

/// Header with the signature of the body.
pub(crate) const SIGNATURE: &str = "x-hub-signature-256";
const EVENT: &str = "x-github-event";
const DELIVERY: &str = "x-github-delivery";

/// What a webhook tells.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// GitHub tries the address.
    Ping,
    /// A run that failed.
    Failed(Box<Signal>),
    /// A run that did not: what was red of this incident before `at` is green.
    Green { incident: IncidentKey, at: i64 },
    /// Something else.
    Other,
}

#[derive(Deserialize)]
struct Body {
    workflow_run: Run,
    repository: About,
}

#[derive(Deserialize)]
struct About {
    full_name: String,
    #[serde(default)]
    default_branch: String,
}

/// Whether `body` was signed with `key`; takes the same time for every wrong signature.
///
/// `X-Hub-Signature-256: sha256=` and the HMAC-SHA256 of the body's bytes in hex.
pub(crate) fn is_signed(key: &hmac::Key, headers: &HeaderMap, body: &[u8]) -> bool {
    let signature = headers
        .get(SIGNATURE)
        .and_then(|value| value.to_str().ok()?.strip_prefix("sha256="))
        .and_then(from_hex);
    signature.is_some_and(|signature| hmac::verify(key, body, &signature).is_ok())
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Reads a webhook whose signature was checked; also how many values were taken out of it.
///
/// # Errors
/// [`Malformed`], naming the header or field.
pub(crate) fn read(
    headers: &HeaderMap,
    body: &[u8],
    redactor: &Redactor,
) -> Result<(Delivery, u64), Malformed> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| Malformed::field(name, "the header is missing"))
    };
    let (event, delivery) = (header(EVENT)?, header(DELIVERY)?);
    match event {
        "ping" => return Ok((Delivery::Ping, 0)),
        "workflow_run" => {}
        _ => return Ok((Delivery::Other, 0)),
    }
    let (value, redactions) = clean_json(body, redactor)?;
    if value["action"] != "completed" {
        return Ok((Delivery::Other, redactions));
    }
    let Body {
        workflow_run: run,
        repository,
    } = typed(&value, "")?;
    let name = Repository::parse(&repository.full_name)
        .ok_or_else(|| Malformed::field("repository.full_name", "expected OWNER/NAME"))?;
    let told = of_run(&name, &repository.default_branch, &run, delivery)?;
    Ok((told, redactions))
}

/// What a run that has ended means; `delivery` says how it was told. Texts of the run are redacted already.
///
/// # Errors
/// [`Malformed`] for a time that is none.
pub(crate) fn of_run(
    repository: &Repository,
    default_branch: &str,
    run: &Run,
    delivery: &str,
) -> Result<Delivery, Malformed> {
    let incident = incident_key(repository, run);
    let at = started_at(run)?;
    Ok(match run.conclusion.as_deref() {
        Some("success") => Delivery::Green { incident, at },
        Some("failure" | "timed_out" | "startup_failure") => {
            let is_default = run.head_branch.as_deref() == Some(default_branch) && run.is_of(repository);
            let signal = signal(repository, run, incident, at, is_default, delivery);
            Delivery::Failed(Box::new(signal))
        }
        _ => Delivery::Other,
    })
}

/// One workflow on one branch. A fork's branch of the same name is another one.
fn incident_key(repository: &Repository, run: &Run) -> IncidentKey {
    let of = run
        .head_repository
        .as_ref()
        .map_or("", |of| of.full_name.as_str());
    let about = [
        &repository.to_string(),
        &run.workflow_id.to_string(),
        of,
        run.head_branch.as_deref().unwrap_or(""),
    ];
    IncidentKey::new(PIPELINE, None, &about)
}

fn started_at(run: &Run) -> Result<i64, Malformed> {
    match run.started_at() {
        "" => Ok(now()),
        text => {
            let at: Result<jiff::Timestamp, _> = text.parse();
            at.map(jiff::Timestamp::as_millisecond).map_err(|_| {
                let problem = format!("`{text}` is not an RFC 3339 time");
                Malformed::field("workflow_run.run_started_at", problem)
            })
        }
    }
}

fn signal(
    repository: &Repository,
    run: &Run,
    incident: IncidentKey,
    at: i64,
    is_default_branch: bool,
    delivery: &str,
) -> Signal {
    let workflow = run.name.as_deref().unwrap_or(&run.path);
    let branch = run.head_branch.as_deref().unwrap_or("an unknown branch");
    Signal {
        origin: Origin::WorkflowRun,
        // Not the delivery's own id: who presses "redeliver" after a repair must not open it again.
        dedup_key: format!("run:{repository}:{}:{}", run.id, run.run_attempt),
        episode: None,
        status: Status::Firing,
        incident,
        title: one_line(&format!("{workflow} of {repository} is red on {branch}"), 200),
        urgency: if is_default_branch {
            Urgency::P1
        } else {
            Urgency::P2
        },
        // A later run may fail for another reason; a further attempt of the same run is not worth another report.
        weight: i64::try_from(run.run_number).unwrap_or(i64::MAX),
        starts_at: at,
        ends_at: None,
        body: json!({
            "repository": repository.to_string(),
            "run": run.id,
            "attempt": run.run_attempt,
            "workflow": workflow,
            "branch": branch,
            "commit": run.head_sha,
            "title": one_line(&run.display_title, 200),
            "event": run.event,
            "conclusion": run.conclusion,
            "url": run.html_url,
            "delivery": one_line(delivery, 64),
        }),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(event: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(EVENT, HeaderValue::from_str(event).expect("a value"));
        headers.insert(DELIVERY, HeaderValue::from_static("72d3162e"));
        headers
    }

    fn body(change: &serde_json::Value) -> serde_json::Value {
        let mut run = json!({
            "id": 5, "name": "CI", "path": ".github/workflows/ci.yaml", "workflow_id": 9, "run_number": 7,
            "run_attempt": 2, "event": "push", "status": "completed", "conclusion": "failure",
            "head_branch": "main", "head_sha": "c0ffee", "created_at": "2026-11-22T22:00:00Z",
            "run_started_at": "2026-11-22T22:05:00Z", "head_repository": {"full_name": "acme/churn"},
        });
        for (name, value) in change.as_object().expect("fields") {
            run[name] = value.clone();
        }
        json!({
            "action": "completed", "workflow_run": run,
            "repository": {"full_name": "acme/churn", "default_branch": "main"},
        })
    }

    fn delivered(change: &serde_json::Value) -> Delivery {
        let text = body(change).to_string();
        read(
            &headers("workflow_run"),
            text.as_bytes(),
            &Redactor::new(&[], false),
        )
        .expect("taken")
        .0
    }

    fn failed(change: &serde_json::Value) -> Signal {
        match delivered(change) {
            Delivery::Failed(signal) => *signal,
            other => panic!("a failure, not {other:?}"),
        }
    }

    #[test]
    fn a_signature_is_of_every_byte_and_of_the_secret() {
        // The example of GitHub's documentation.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"It's a Secret to Everybody");
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let signed = |signature: &str, body: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SIGNATURE, HeaderValue::from_str(signature).expect("a value"));
            is_signed(&key, &headers, body.as_bytes())
        };
        assert!(signed(signature, "Hello, World!"));
        assert!(!signed(signature, "Hello, World"));
        for wrong in [
            "",
            "sha256=",
            "sha1=757107ea",
            &signature[..70],
            &signature.replace('7', "8"),
        ] {
            assert!(!signed(wrong, "Hello, World!"), "{wrong}");
        }
        assert!(!is_signed(&key, &HeaderMap::new(), b"Hello, World!"));
    }

    #[test]
    fn a_failure_begins_and_a_success_ends_one_incident_of_workflow_and_branch() {
        let first = failed(&json!({}));
        assert_eq!(first.title, "CI of acme/churn is red on main");
        assert_eq!((first.urgency, first.weight), (Urgency::P1, 7));
        assert_eq!(first.dedup_key, "run:acme/churn:5:2");
        let Delivery::Green { incident, at } = delivered(&json!({"id": 6, "conclusion": "success"})) else {
            panic!("a success")
        };
        assert_eq!((incident, at), (first.incident.clone(), first.starts_at));
        for other in [
            json!({"head_branch": "fix/x"}),
            json!({"workflow_id": 10}),
            json!({"head_repository": {"full_name": "somebody/churn"}}),
        ] {
            let other = failed(&other);
            assert_ne!(other.incident.digest, first.incident.digest);
        }
        assert_eq!(failed(&json!({"head_branch": "fix/x"})).urgency, Urgency::P2);
        let fork = json!({"head_repository": {"full_name": "somebody/churn"}});
        assert_eq!(failed(&fork).urgency, Urgency::P2, "a fork's main is not ours");
    }

    #[test]
    fn everything_else_is_of_no_interest_and_what_is_wrong_is_named() {
        assert!(matches!(
            delivered(&json!({"conclusion": "cancelled"})),
            Delivery::Other
        ));
        let redactor = Redactor::new(&[], false);
        let of = |event: &str, body: &str| read(&headers(event), body.as_bytes(), &redactor);
        assert!(matches!(of("ping", "{}"), Ok((Delivery::Ping, 0))));
        assert!(matches!(of("push", "{}"), Ok((Delivery::Other, _))));
        assert!(matches!(
            of("workflow_run", r#"{"action": "requested"}"#),
            Ok((Delivery::Other, _))
        ));
        let error = of("workflow_run", r#"{"action": "completed"}"#)
            .expect_err("no run")
            .to_string();
        assert!(error.contains("workflow_run"), "{error}");
        let error = read(&HeaderMap::new(), b"{}", &redactor)
            .expect_err("no header")
            .to_string();
        assert!(error.contains("x-github-event"), "{error}");
    }
}
