//! The postmortem of an incident.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;

use super::Shared;
use super::api::{failed, missing, with_type};
use crate::postmortem::{self, Postmortem};

/// `GET /api/v1/incidents/{id}/postmortem.md`
pub(super) async fn markdown(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    match of(&shared, &id).await {
        Ok(postmortem) => with_type(postmortem.markdown(), "text/markdown; charset=utf-8"),
        Err(response) => response,
    }
}

/// `GET /api/v1/incidents/{id}/postmortem.json`
pub(super) async fn json(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    match of(&shared, &id).await {
        Ok(postmortem) => {
            let document = serde_json::to_string(&postmortem).unwrap_or_default();
            with_type(document, "application/json")
        }
        Err(response) => response,
    }
}

async fn of(shared: &Shared, id: &str) -> Result<Postmortem, Response> {
    match postmortem::gather(&shared.store, shared.prometheus.as_ref(), id).await {
        Ok(Some(material)) => Ok(postmortem::write(&material)),
        Ok(None) => Err(missing("no such incident")),
        Err(error) => Err(failed(&error)),
    }
}
