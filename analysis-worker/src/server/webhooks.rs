//! Takes alerts and events: 2xx only after the commit.
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
use crate::intake::{Malformed, Taken, alertmanager, cloudevents};
use crate::metrics::{Intake, Received, Rejection};

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
        let mut response = rejected(
            Rejection::Unauthorized,
            StatusCode::UNAUTHORIZED,
            "a bearer token is needed",
        );
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
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
    match shared.store.accept(taken.signals).await {
        Ok(accepted) => {
            shared.metrics.received(intake, Received::New, accepted.new);
            shared
                .metrics
                .received(intake, Received::Duplicate, accepted.duplicates);
            shared.metrics.redacted(taken.redactions);
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
            let mut response = rejected(
                Rejection::Store,
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

fn is_allowed(shared: &Shared, headers: &HeaderMap) -> bool {
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
