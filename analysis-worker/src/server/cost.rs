//! What the analyses have cost, as a page.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::html;

use super::pages::broken;
use super::{Shared, layout};

/// Days and authors on the page.
const ROWS: u32 = 120;

/// `GET /cost`
pub(super) async fn page(State(shared): State<Arc<Shared>>) -> Response {
    let spent = match shared.store.spent(ROWS).await {
        Ok(spent) => spent,
        Err(error) => return broken(&shared, &error),
    };
    let price = shared.price;
    let content = html! {
        h1 { "Cost" }
        p {
            "Tokens of prompts and answers by day, requests that failed included, as the audit log has them. "
            @match price {
                Some(price) => { "A million tokens is set to cost " (price) " (" code { "provider_price" } ")." }
                None => { "What they cost is told when " code { "provider_price" } " says what a million of them costs." }
            }
        }
        @if spent.is_empty() {
            p.quiet { "No report yet." }
        } @else {
            div.card.scroll {
                table {
                    thead {
                        tr {
                            th scope="col" { "Day" } th scope="col" { "By" } th.number scope="col" { "Reports" }
                            th.number scope="col" { "Tokens" }
                            @if price.is_some() { th.number scope="col" { "Cost" } }
                        }
                    }
                    tbody {
                        @for row in &spent {
                            tr {
                                td { (row.day) }
                                td { (row.author) }
                                td.number { (row.reports) }
                                td.number { (row.tokens) }
                                @if let Some(price) = price {
                                    td.number { (format!("{:.4}", row.tokens as f64 / 1e6 * price)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    layout::page("Cost", &shared.provider, false, &content)
}
