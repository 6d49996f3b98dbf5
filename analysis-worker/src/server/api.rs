//! The API: incidents and their reports as JSON and Markdown.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::Shared;
use crate::store::StoreError;

/// Incidents in one list.
pub(super) const LIST: u32 = 200;
/// Signals of one incident in one answer.
pub(super) const SIGNALS: u32 = 100;

/// `GET /api/v1/incidents`
pub(super) async fn incidents(State(shared): State<Arc<Shared>>) -> Response {
    match shared.store.incidents(LIST).await {
        Ok(incidents) => json(StatusCode::OK, &json!({"incidents": incidents})),
        Err(error) => failed(&error),
    }
}

/// `GET /api/v1/incidents/{id}`
pub(super) async fn incident(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let read = async {
        let Some(incident) = shared.store.incident(&id).await? else {
            return Ok(None);
        };
        let signals = shared.store.signals(&id, SIGNALS).await?;
        let interventions = shared.store.interventions(&id).await?;
        Ok(Some((incident, signals, interventions)))
    };
    match read.await {
        Ok(Some((incident, signals, interventions))) => json(
            StatusCode::OK,
            &json!({"incident": incident, "signals": signals, "interventions": interventions}),
        ),
        Ok(None) => missing("no such incident"),
        Err(error) => failed(&error),
    }
}

/// `GET /api/v1/incidents/{id}/report`, `…/report.json`
pub(super) async fn report_json(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    match shared.store.report(&id).await {
        Ok(Some((report, _))) => with_type(report, "application/json"),
        Ok(None) => missing("no report of this incident yet"),
        Err(error) => failed(&error),
    }
}

/// `GET /api/v1/incidents/{id}/report.md`
pub(super) async fn report_markdown(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    match shared.store.report(&id).await {
        Ok(Some((_, report))) => with_type(report, "text/markdown; charset=utf-8"),
        Ok(None) => missing("no report of this incident yet"),
        Err(error) => failed(&error),
    }
}

/// `GET /api/v1/ledger`: what became of every delivery of a signal.
pub(super) async fn ledger(State(shared): State<Arc<Shared>>) -> Response {
    match shared.store.ledger().await {
        Ok(ledger) => {
            let mut body = json!(ledger);
            body["unaccounted"] = json!(ledger.unaccounted());
            json(StatusCode::OK, &body)
        }
        Err(error) => failed(&error),
    }
}

pub(super) fn missing(message: &str) -> Response {
    json(StatusCode::NOT_FOUND, &json!({"error": message}))
}

pub(super) fn failed(error: &StoreError) -> Response {
    tracing::error!(error = %plumbline_service::error_chain(error), "the store cannot be read");
    json(
        StatusCode::SERVICE_UNAVAILABLE,
        &json!({"error": "the store cannot be read at the moment"}),
    )
}

pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = with_type(body.to_string(), "application/json");
    *response.status_mut() = status;
    response
}

pub(super) fn with_type(body: String, content_type: &'static str) -> Response {
    let mut response = body.into_response();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
