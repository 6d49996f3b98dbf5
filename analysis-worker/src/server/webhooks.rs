//! Takes alerts, events and GitHub's webhooks: 2xx only after the commit.
//!
//! Alertmanager comes again after 5xx and never after 4xx, so whatever may pass is a 503.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Shared;
use super::api::json;
use crate::intake::{Malformed, Taken, alertmanager, cloudevents, github};
use crate::metrics::{Delivered, Intake, Received, Rejection};
use crate::store::{Accepted, StoreError};

/// `POST /api/v1/alerts`
pub(super) async fn alerts(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    take(&shared, request, Intake::Alerts, |_headers, body| {
        alertmanager::read(body, &shared.redactor)
    })
    .await
}

/// `POST /api/v1/events`
pub(super) async fn events(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    take(&shared, request, Intake::Events, |headers, body| {
        cloudevents::read(headers, body, &shared.redactor)
    })
    .await
}

/// `POST /api/v1/github`
///
/// GitHub does not come again by itself; its page lists what was refused, and sends it again when asked.
pub(super) async fn github(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let rejected = |reason, status, message: &str| {
        shared.metrics.rejected(Intake::GitHub, reason);
        problem(status, message)
    };
    let (head, body) = request.into_parts();
    let body = match whole(body, shared.max_body_bytes).await {
        Ok(body) => body,
        Err(Unread::TooLarge) => {
            let message = format!("the body is larger than {} bytes", shared.max_body_bytes);
            return rejected(Rejection::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, &message);
        }
        Err(Unread::Broken(error)) => return rejected(Rejection::Malformed, StatusCode::BAD_REQUEST, &error),
    };
    let Some(key) = &shared.github_key else {
        let message = "no webhook of GitHub is taken: github_webhook_secret is not set";
        return rejected(Rejection::Unauthorized, StatusCode::UNAUTHORIZED, message);
    };
    if !github::is_signed(key, &head.headers, &body) {
        let message = format!("{} is missing or wrong", github::SIGNATURE);
        return rejected(Rejection::Unauthorized, StatusCode::UNAUTHORIZED, &message);
    }
    let (delivery, redactions) = match github::read(&head.headers, &body, &shared.redactor) {
        Ok(delivery) => delivery,
        Err(error) => return rejected(Rejection::Malformed, StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match delivery {
        github::Delivery::Ping => {
            shared.metrics.delivered(Delivered::Ping);
            json(StatusCode::OK, &json!({"pong": true}))
        }
        github::Delivery::Other => {
            shared.metrics.delivered(Delivered::Other);
            StatusCode::NO_CONTENT.into_response()
        }
        github::Delivery::Failed(signal) => {
            shared.metrics.delivered(Delivered::Failed);
            shared.metrics.redacted(redactions);
            answer(&shared, Intake::GitHub, shared.store.accept(vec![*signal]).await)
        }
        github::Delivery::Green { incident, at } => {
            shared.metrics.delivered(Delivered::Green);
            answer(
                &shared,
                Intake::GitHub,
                shared.store.recover(incident.digest, at).await,
            )
        }
    }
}

async fn take(
    shared: &Shared,
    request: Request,
    intake: Intake,
    read: impl FnOnce(&HeaderMap, &[u8]) -> Result<Taken, Malformed>,
) -> Response {
    let rejected = |reason, status, message: &str| {
        shared.metrics.rejected(intake, reason);
        problem(status, message)
    };
    let (head, body) = request.into_parts();
    if !is_allowed(shared, &head.headers) {
        shared.metrics.rejected(intake, Rejection::Unauthorized);
        return unauthorized();
    }
    let body = match whole(body, shared.max_body_bytes).await {
        Ok(body) => body,
        Err(Unread::TooLarge) => {
            let message = format!("the body is larger than {} bytes", shared.max_body_bytes);
            return rejected(Rejection::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, &message);
        }
        Err(Unread::Broken(error)) => return rejected(Rejection::Malformed, StatusCode::BAD_REQUEST, &error),
    };
    let taken = match read(&head.headers, &body) {
        Ok(taken) => taken,
        Err(error) => return rejected(Rejection::Malformed, StatusCode::BAD_REQUEST, &error.to_string()),
    };
    shared.metrics.redacted(taken.redactions);
    let accepted = shared.store.accept(taken.signals).await;
    answer(shared, intake, accepted)
}

/// The answer after the commit, or that the sender has to come again.
fn answer(shared: &Shared, intake: Intake, accepted: Result<Accepted, StoreError>) -> Response {
    match accepted {
        Ok(accepted) => {
            shared.metrics.received(intake, Received::New, accepted.new);
            shared
                .metrics
                .received(intake, Received::Duplicate, accepted.duplicates);
            if accepted.jobs > 0 {
                shared.wake.notify_one();
            }
            if !accepted.resolved.is_empty() {
                shared.outbox.all();
            }
            for incident in &accepted.resolved {
                tracing::info!(incident.id = incident, "incident resolved");
            }
            json(
                StatusCode::OK,
                &json!({
                    "accepted": accepted.new,
                    "duplicates": accepted.duplicates,
                    "resolved": accepted.resolved,
                    "incidents": accepted.incidents,
                }),
            )
        }
        Err(error) => {
            tracing::error!(error = %plumbline_service::error_chain(&error), "signals cannot be committed; the sender has to come again");
            shared.metrics.rejected(intake, Rejection::Store);
            let mut response = problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "the store cannot commit at the moment; send again",
            );
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
    }
}

pub(super) fn unauthorized() -> Response {
    let mut response = problem(StatusCode::UNAUTHORIZED, "a bearer token is needed");
    response
        .headers_mut()
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Whether the request has the token that senders have to present, if there is one.
pub(super) fn is_allowed(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some(expected) = &shared.token else {
        return true;
    };
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token.is_some_and(|token| {
        let digest: [u8; 32] = Sha256::digest(token).into();
        digest == *expected
    })
}

pub(super) enum Unread {
    TooLarge,
    Broken(String),
}

pub(super) async fn whole(body: Body, limit: usize) -> Result<Bytes, Unread> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Err(error) => Err(Unread::Broken(format!("the body cannot be read: {error}"))),
    }
}

pub(super) fn problem(status: StatusCode, message: &str) -> Response {
    json(status, &json!({"error": message})).into_response()
}
