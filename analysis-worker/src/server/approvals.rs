//! Requests for approval and people's verdicts on reports.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};

use super::forms::{self, Form, form, refused, see};
use super::layout::{self, effect_state, time};
use super::pages::broken;
use super::{Shared, api};
use crate::metrics::{ApprovalOutcome, Label as _, VerdictKind};
use crate::store::{Ballot, Choice, Counted, Retraining, StoreError};

/// `GET /approvals`
pub(super) async fn page(State(shared): State<Arc<Shared>>) -> Response {
    let retrainings = match shared.store.retrainings(api::LIST).await {
        Ok(retrainings) => retrainings,
        Err(error) => return broken(&shared, &error),
    };
    let content = html! {
        h1 { "Approvals" }
        @if retrainings.is_empty() {
            div.card.empty {
                p.lead { "No retraining was asked for yet." }
                p.quiet { "Policy asks when the drift is urgent, the evidence holds and the report recommends it." }
            }
        }
        @for retraining in &retrainings { (card(&shared, retraining)) }
    };
    layout::page("Approvals", &shared.provider, false, &content)
}

/// A retraining with its request for approval.
pub(super) fn card(shared: &Shared, retraining: &Retraining) -> Markup {
    let id = retraining.effect.to_string();
    let model = retraining.model.as_deref().unwrap_or("a model");
    html! {
        div.card {
            div.labels {
                (effect_state(retraining.approval.as_ref().map_or(retraining.state.as_str(), |approval| approval.state.as_str())))
                span.quiet { "effect " (retraining.state) }
            }
            h3 { "Train " (model) " again" }
            dl.facts {
                dt { "Workflow" } dd { code { (retraining.workflow) } }
                dt { "Incident" }
                dd {
                    a href=(format!("/incidents/{}", retraining.incident)) { (retraining.incident) }
                    ", revision " (retraining.revision)
                }
                @if let Some(approval) = &retraining.approval {
                    dt { "Asked" } dd { (time(&approval.created_at)) ", stands until " (time(&approval.expires_at)) }
                    @if let Some(at) = &approval.decided_at {
                        dt { "Decided" }
                        dd { (time(at)) @if let Some(actor) = &approval.actor { " by " (actor) } }
                    }
                }
            }
            ul.plain { @for reason in &retraining.reasons { li { (reason) } } }
            @if let Some(approval) = retraining.approval.as_ref().filter(|_| retraining.state == "waiting") {
                (form(shared, &id, &format!("/approvals/{id}"), &html! {
                    input type="hidden" name="digest" value=(approval.digest);
                    button name="choice" value="approve" { "Approve" }
                    button.second name="choice" value="reject" { "Reject" }
                }))
            }
        }
    }
}

/// `POST /approvals/{effect}`
pub(super) async fn decide(
    State(shared): State<Arc<Shared>>,
    Path(effect): Path<i64>,
    request: Request,
) -> Response {
    let form = match forms::read(&shared, request).await {
        Ok(form) => form,
        Err(response) => return *response,
    };
    let choice = match form.field("choice") {
        "approve" => Choice::Approve,
        "reject" => Choice::Reject,
        _ => {
            return refused(
                &shared,
                StatusCode::BAD_REQUEST,
                "The form says neither approve nor reject.",
            );
        }
    };
    let ballot = Ballot {
        effect,
        digest: form.field("digest").to_owned(),
        choice,
        actor: form.actor,
    };
    match vote(&shared, ballot).await {
        Ok(Counted::Taken { .. }) => see("/approvals"),
        Ok(Counted::Refused(reason)) => {
            let reason = format!("The decision does not count: {reason}.");
            refused(&shared, StatusCode::CONFLICT, &reason)
        }
        Err(error) => broken(&shared, &error),
    }
}

/// Counts a decision, wherever it comes from.
pub(super) async fn vote(shared: &Shared, ballot: Ballot) -> Result<Counted, StoreError> {
    let (actor, choice) = (ballot.actor.clone(), ballot.choice);
    let counted = shared.store.vote(ballot).await?;
    let outcome = match (&counted, choice) {
        (Counted::Taken { .. }, Choice::Approve) => ApprovalOutcome::Approved,
        (Counted::Taken { .. }, Choice::Reject) => ApprovalOutcome::Rejected,
        (Counted::Refused(_), _) => ApprovalOutcome::Refused,
    };
    shared.metrics.actions.approval(outcome);
    match &counted {
        Counted::Taken { incident } => {
            tracing::info!(
                incident.id = incident,
                actor,
                outcome = outcome.label(),
                "retraining decided"
            );
            shared.outbox.all();
        }
        Counted::Refused(reason) => {
            tracing::warn!(actor, reason, "a decision on a retraining does not count");
        }
    }
    Ok(counted)
}

/// `POST /incidents/{id}/verdict`
pub(super) async fn judge(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let form = match forms::read(&shared, request).await {
        Ok(form) => form,
        Err(response) => return *response,
    };
    let Some((revision, verdict)) = verdict(&form) else {
        let reason = "The form says neither of which revision nor what of it.";
        return refused(&shared, StatusCode::BAD_REQUEST, reason);
    };
    match keep_verdict(&shared, id.clone(), revision, verdict, form.actor).await {
        Ok(true) => see(&format!("/incidents/{id}")),
        Ok(false) => refused(&shared, StatusCode::NOT_FOUND, "There is no such report."),
        Err(error) => broken(&shared, &error),
    }
}

fn verdict(form: &Form) -> Option<(u32, VerdictKind)> {
    let verdict = VerdictKind::ALL
        .iter()
        .find(|kind| kind.label() == form.field("verdict"))?;
    Some((form.field("revision").parse().ok()?, *verdict))
}

/// Keeps what a person says of a report, wherever it comes from. False when there is no such report.
pub(super) async fn keep_verdict(
    shared: &Shared,
    incident: String,
    revision: u32,
    verdict: VerdictKind,
    actor: String,
) -> Result<bool, StoreError> {
    let kept = shared
        .store
        .judge(incident, revision, verdict.label(), actor)
        .await?;
    if kept {
        shared.metrics.actions.verdict(verdict);
        shared.outbox.all();
    }
    Ok(kept)
}
