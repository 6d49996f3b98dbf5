//! What is done outside: what waits, what is made, and what could not be.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};

use super::forms::{self, form, refused, see};
use super::layout::{self, effect_state, time};
use super::pages::broken;
use super::{Shared, api};
use crate::action::title_of;
use crate::store::EffectRow;

/// `GET /outbox`
pub(super) async fn page(State(shared): State<Arc<Shared>>) -> Response {
    let effects = match shared.store.effects(None, api::LIST).await {
        Ok(effects) => effects,
        Err(error) => return broken(&shared, &error),
    };
    let dead: Vec<&EffectRow> = effects.iter().filter(|effect| effect.state == "dead").collect();
    let content = html! {
        h1 { "Outbox" }
        @if effects.is_empty() {
            div.card.empty { p.lead { "Nothing was done outside yet." } }
        } @else {
            @if !dead.is_empty() {
                h2 { "Given up" }
                p { "These could not be made. Once the cause is mended, each can be tried again; it is looked for first, so it is not made twice." }
                @for effect in dead { (given_up(&shared, effect)) }
            }
            h2 { "All, newest first" }
            (table(&effects))
        }
    };
    layout::page("Outbox", &shared.provider, false, &content)
}

fn given_up(shared: &Shared, effect: &EffectRow) -> Markup {
    let id = effect.id.to_string();
    html! {
        div.card {
            h3 { (title_of(&effect.action)) " of incident " a href=(format!("/incidents/{}", effect.incident)) { (effect.incident) } }
            p { (effect.error.as_deref().unwrap_or("no reason was kept")) }
            (form(shared, &id, &format!("/outbox/{id}/retry"), &html! { button { "Try again" } }))
        }
    }
}

/// Effects in a table.
pub(super) fn table(effects: &[EffectRow]) -> Markup {
    html! {
        div.card.scroll {
            table {
                thead {
                    tr {
                        th scope="col" { "What" } th scope="col" { "Incident" } th scope="col" { "State" }
                        th.number scope="col" { "Tries" } th scope="col" { "When" } th scope="col" { "Where, or why not" }
                    }
                }
                tbody {
                    @for effect in effects {
                        tr {
                            td { (title_of(&effect.action)) }
                            td { a href=(format!("/incidents/{}", effect.incident)) { (effect.incident) } }
                            td { (effect_state(&effect.state)) }
                            td.number { (effect.attempts) }
                            td {
                                @if effect.state == "queued" { "not before " (time(&effect.not_before)) }
                                @else { (time(&effect.updated_at)) }
                            }
                            td.title { (place(effect)) }
                        }
                    }
                }
            }
        }
    }
}

fn place(effect: &EffectRow) -> Markup {
    html! {
        @match (&effect.receipt, &effect.error) {
            (Some(receipt), _) => {
                (receipt.place) " " (receipt.reference)
                @if receipt.found { " (found: an earlier try had made it)" }
            },
            (None, Some(error)) => (error),
            (None, None) => "–",
        }
    }
}

/// `POST /outbox/{effect}/retry`
pub(super) async fn retry(
    State(shared): State<Arc<Shared>>,
    Path(effect): Path<i64>,
    request: Request,
) -> Response {
    let form = match forms::read(&shared, request).await {
        Ok(form) => form,
        Err(response) => return *response,
    };
    match shared.store.retry_effect(effect, form.actor.clone()).await {
        Ok(Some(incident)) => {
            tracing::info!(
                incident.id = incident,
                effect,
                actor = form.actor,
                "a dead effect is tried again"
            );
            shared.outbox.all();
            see("/outbox")
        }
        Ok(None) => refused(
            &shared,
            StatusCode::CONFLICT,
            "This effect is not among those given up.",
        ),
        Err(error) => broken(&shared, &error),
    }
}
