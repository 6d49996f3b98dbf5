//! `POST /plumbline/v1/feedback`: labels in, what became of them out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::labels::{self, Label};
use super::{NotJoined, Outcome, Told};
use crate::observation::Observing;

/// Paths under it are the sidecar's own and never forwarded.
pub(crate) const RESERVED: &str = "/plumbline/";
const PATH: &str = "/plumbline/v1/feedback";
/// The largest body: some 50,000 labels.
const MAX_BODY: usize = 4 << 20;
/// Time to send it.
const BODY_TIME: Duration = Duration::from_secs(30);
/// A label can be here before the observer has read its prediction: how long that is waited for, and how often it is
/// looked for.
const PATIENCE: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The answer to a request under [`RESERVED`].
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// JSON.
    pub(crate) body: String,
    /// What is allowed, where a method is not.
    pub(crate) allow: Option<HeaderValue>,
}

/// A request of which nothing is used, with what its client is told.
struct Refusal(StatusCode, String);

/// Answers a request under [`RESERVED`].
pub(crate) async fn answer(observing: &Arc<Observing>, request: Request<Incoming>) -> Reply {
    let allowed = request.method() == Method::POST || request.uri().path() != PATH;
    match take(observing, request).await {
        Ok(told) => Reply {
            status: StatusCode::OK,
            body: serde_json::to_string(&told).expect("every map key is a text"),
            allow: None,
        },
        Err(Refusal(status, error)) => Reply {
            status,
            body: serde_json::json!({ "error": error }).to_string(),
            allow: (!allowed).then(|| HeaderValue::from_static("POST")),
        },
    }
}

async fn take(observing: &Arc<Observing>, request: Request<Incoming>) -> Result<Told, Refusal> {
    if request.uri().path() != PATH {
        let text = format!("no such path; labels are posted to {PATH}");
        return Err(Refusal(StatusCode::NOT_FOUND, text));
    }
    if request.method() != Method::POST {
        let text = format!("labels are posted, got {}", request.method());
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    if !observing.feedback.is_on() {
        let text = "feedback is off (feedback_bytes, analysis)".to_owned();
        return Err(Refusal(StatusCode::NOT_FOUND, text));
    }
    // Bounds the bodies in memory; the others wait in their connections.
    let _one_of_few = observing.feedback.intake.acquire().await;
    let (head, body) = request.into_parts();
    let labels = read(&head.headers, body).await?;
    Ok(join(observing, labels).await)
}

async fn read(headers: &HeaderMap, body: Incoming) -> Result<Vec<Label>, Refusal> {
    let whole = tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await;
    let body: Bytes = match whole {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let text = format!("the body is larger than {MAX_BODY} bytes; post the labels in parts");
            return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        Ok(Err(error)) => {
            let text = format!("the body ended early: {error}");
            return Err(Refusal(StatusCode::BAD_REQUEST, text));
        }
        Err(_elapsed) => {
            let text = format!("the body did not come within {BODY_TIME:?}");
            return Err(Refusal(StatusCode::REQUEST_TIMEOUT, text));
        }
    };
    let read = if is_lines(headers) {
        labels::read_lines(&body)
    } else {
        labels::read_document(&body)
    };
    read.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.to_string()))
}

fn is_lines(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    [
        "application/x-ndjson",
        "application/jsonl",
        "application/json-lines",
    ]
    .iter()
    .any(|lines| essence.trim().eq_ignore_ascii_case(lines))
}

/// Joins the labels; looks again for those whose prediction may be on its way through the observer.
async fn join(observing: &Arc<Observing>, labels: Vec<Label>) -> Told {
    let begun = observing.metrics.inferences.get();
    let caught_up = || observing.metrics.observed.get() + observing.metrics.skipped.get() >= begun;
    let complete = caught_up();
    let labels: Arc<[Label]> = labels.into();
    let mut results = look(observing, &labels, (0..labels.len()).collect()).await;
    let unknown = |(_, result): &(usize, Result<(), NotJoined>)| matches!(result, Err((Outcome::Unknown, _)));
    if !complete && results.iter().any(unknown) {
        let waiting = async {
            while !caught_up() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let _elapsed = tokio::time::timeout(PATIENCE, waiting).await;
        let again = results
            .iter()
            .filter(|result| unknown(result))
            .map(|(index, _)| *index)
            .collect();
        results.retain(|result| !unknown(result));
        results.extend(look(observing, &labels, again).await);
        results.sort_unstable_by_key(|(index, _)| *index);
    }
    observing.feedback.tell(&labels, results)
}

/// Joins some of the labels, on a thread that may wait for the observer.
async fn look(
    observing: &Arc<Observing>,
    labels: &Arc<[Label]>,
    which: Vec<usize>,
) -> Vec<(usize, Result<(), NotJoined>)> {
    let (observing, labels) = (Arc::clone(observing), Arc::clone(labels));
    let looking = tokio::task::spawn_blocking(move || {
        let models = observing.models.all();
        let join = |index: usize| (index, observing.feedback.join(&models, &labels[index]));
        which.into_iter().map(join).collect()
    });
    looking.await.unwrap_or_else(|error| {
        tracing::error!(%error, "labels could not be joined");
        Vec::new()
    })
}
