//! What was done about an incident: told by people, shown to them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use maud::{Markup, html};
use serde_json::json;

use super::Shared;
use super::api::{failed, json, missing};
use super::layout::time;
use crate::follow::{FollowOutcome, InterventionKind, Measures, Told};
use crate::metrics::Label as _;
use crate::signal::{now, rfc3339};
use crate::store::{Done, IncidentRow, Intervention};
use crate::text::{one_line, sanitise};

/// Longest name of a person.
const MAX_ACTOR: usize = 100;
/// Longest note.
const MAX_NOTE: usize = 500;

/// `POST /api/v1/incidents/{id}/interventions`
pub(super) async fn tell(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !super::webhooks::is_allowed(&shared, &headers) {
        return super::webhooks::unauthorized();
    }
    let incident = match shared.store.incident(&id).await {
        Ok(Some(incident)) => incident,
        Ok(None) => return missing("no such incident"),
        Err(error) => return failed(&error),
    };
    let refused = |reason: &str| json(StatusCode::BAD_REQUEST, &json!({"error": reason}));
    let told: Told = match serde_json::from_slice(&body) {
        Ok(told) => told,
        Err(error) => return refused(&format!("not an intervention: {error}")),
    };
    let intervention = match read(&shared, &incident, &told) {
        Ok(intervention) => intervention,
        Err(reason) => return refused(&reason),
    };
    let kind = intervention.kind;
    let measured = shared.measurer.measure(incident.model.as_deref()).await;
    let intervention = Intervention {
        before: measured.values.to_json(),
        ..intervention
    };
    match shared.store.intervene(intervention).await {
        Ok(number) => {
            if number.is_some() {
                let kind = InterventionKind::parse(kind).unwrap_or(InterventionKind::Fix);
                shared.metrics.followed(kind, FollowOutcome::Watching);
            }
            json(
                StatusCode::OK,
                &json!({"incident": id, "kind": kind, "new": number.is_some()}),
            )
        }
        Err(error) => failed(&error),
    }
}

/// What was told, checked and redacted.
fn read(shared: &Shared, incident: &IncidentRow, told: &Told) -> Result<Intervention, String> {
    let kind = InterventionKind::parse(&told.kind)
        .filter(|kind| *kind != InterventionKind::None)
        .ok_or("`kind` must be retrain, rollout, rollback or fix")?;
    let mut redaction = shared.redactor.begin([]);
    let mut clean = |text: &str, most| one_line(&redaction.text(&sanitise(text)), most);
    let (actor, note) = (clean(&told.actor, MAX_ACTOR), clean(&told.note, MAX_NOTE));
    if actor.trim().is_empty() {
        return Err("`actor` must say who did it".to_owned());
    }
    let at = match &told.at {
        None => now(),
        Some(at) => at
            .parse::<jiff::Timestamp>()
            .map_err(|_| "`at` must be a time such as 2026-11-29T10:15:00Z".to_owned())?
            .as_millisecond(),
    };
    if at < incident.started_at_ms || at > now() {
        return Err(format!(
            "`at` must lie between the begin of the incident, {}, and now",
            incident.started_at
        ));
    }
    let over = incident
        .resolved_at
        .as_ref()
        .and_then(|at| at.parse::<jiff::Timestamp>().ok());
    if let Some(over) = over
        && at > over.as_millisecond()
    {
        return Err(format!(
            "the incident was over at {over}: what ended it was done before, at a time that `at` has to tell"
        ));
    }
    Ok(Intervention {
        incident: incident.id.clone(),
        kind: kind.label(),
        actor,
        note,
        at,
        before: String::new(),
    })
}

/// What was done, on the incident's page.
pub(super) fn list(interventions: &[Done]) -> Markup {
    html! {
        @if !interventions.is_empty() {
            h2 { "What was done" }
            div.card.scroll {
                table {
                    thead { tr { th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "Who" } th scope="col" { "What came of it" } } }
                    tbody {
                        @for done in interventions {
                            tr {
                                td { (time(&rfc3339(done.at))) }
                                td {
                                    (InterventionKind::title_of(&done.kind))
                                    @if !done.note.is_empty() { ": " (done.note) }
                                }
                                td { (done.actor) }
                                td {
                                    (done.outcome)
                                    @let compared = Measures::from_json(&done.before).compare(&Measures::from_json(&done.after));
                                    @if !compared.is_empty() { div.quiet { (compared) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
