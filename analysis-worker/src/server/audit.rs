//! The audit log as a page: its newest entries and the hash to keep.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::html;
use serde_json::Value;

use super::pages::broken;
use super::{Shared, api, layout};

/// `GET /audit`
pub(super) async fn page(State(shared): State<Arc<Shared>>) -> Response {
    let log = match shared.store.audit(api::LIST).await {
        Ok(log) => log,
        Err(error) => return broken(&shared, &error),
    };
    let content = html! {
        h1 { "Audit" }
        p {
            "Each entry's hash covers the entry before it. " code { "audit verify --store FILE" }
            " follows the whole chain; with " code { "--head HASH" } " it also sees whether the end was cut."
        }
        dl.facts {
            dt { "Entries" } dd { (log.entries) }
            @if let Some(last) = log.newest.first() { dt { "Head" } dd { code { (last.hash) } } }
        }
        @if !log.newest.is_empty() {
            div.card.scroll {
                table {
                    thead {
                        tr {
                            th.number scope="col" { "No." } th scope="col" { "When" } th scope="col" { "What" }
                            th scope="col" { "Incident" } th scope="col" { "Entry" }
                        }
                    }
                    tbody {
                        @for row in &log.newest {
                            @let entry: Value = serde_json::from_str(&row.entry).unwrap_or_default();
                            @let text = |name: &str| entry[name].as_str().unwrap_or("–").to_owned();
                            tr {
                                td.number { (row.seq) }
                                td { (layout::time(&text("at"))) }
                                td { (text("kind")) }
                                td { a href=(format!("/incidents/{}", text("incident"))) { (text("incident")) } }
                                td.title { details { summary { (summary(&entry)) } code { (row.entry) } } }
                            }
                        }
                    }
                }
            }
        }
    };
    layout::page("Audit", &shared.provider, false, &content)
}

/// What an entry says, in the few words that tell it from its neighbours.
fn summary(entry: &Value) -> String {
    [
        "provider", "model", "outcome", "action", "verdict", "state", "actor",
    ]
    .iter()
    .filter_map(|name| entry[*name].as_str())
    .collect::<Vec<_>>()
    .join(" · ")
}
