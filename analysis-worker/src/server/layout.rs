//! What every page shares.

use axum::response::Response;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use maud::{DOCTYPE, Markup, html};

use super::api::with_type;

/// The style of every page, light and dark.
const STYLE: &str = include_str!("style.css");

/// `GET /style.css`
pub(super) async fn style() -> Response {
    let mut response = with_type(STYLE.to_owned(), "text/css; charset=utf-8");
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    response
}

/// A page. `reload` asks the browser to come again while something is still going on.
pub(super) fn page(title: &str, provider: &str, reload: bool, content: &Markup) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if reload { meta http-equiv="refresh" content="3"; }
                title { (title) " · Plumbline" }
                link rel="stylesheet" href="/style.css";
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header.top {
                    a.brand href="/" { span.plumb aria-hidden="true" {} "Plumbline" }
                    nav aria-label="Main" {
                        a href="/" { "Incidents" } " "
                        a href="/approvals" { "Approvals" } " "
                        a href="/outbox" { "Outbox" } " "
                        a href="/audit" { "Audit" } " "
                        a href="/cost" { "Cost" }
                    }
                }
                main id="content" { (content) }
                footer {
                    p { "Analysis: " (provider) ". Reports rest on the evidence shown; a person decides." }
                }
            }
        }
    };
    with_type(markup.into_string(), "text/html; charset=utf-8")
}

/// `2026-11-22T22:00:00Z` as people write it, with the exact form for machines.
pub(super) fn time(at: &str) -> Markup {
    let readable = at.replacen('T', " ", 1);
    html! { time datetime=(at) { (readable.trim_end_matches('Z')) " UTC" } }
}

/// A label for urgency, told by its words, not by its colour alone.
pub(super) fn urgency(urgency: &str) -> Markup {
    let class = match urgency {
        "P0" => "badge p0",
        "P1" => "badge p1",
        _ => "badge p2",
    };
    html! { span class=(class) { (urgency) } }
}

/// A label for the state of an effect or a request for approval.
pub(super) fn effect_state(state: &str) -> Markup {
    let class = match state {
        "done" | "approved" => "badge resolved",
        "dead" | "rejected" | "expired" => "badge failed",
        "waiting" => "badge p1",
        _ => "badge working",
    };
    html! { span class=(class) { (state) } }
}

/// A label for the state.
pub(super) fn state(state: &str) -> Markup {
    let class = match state {
        "resolved" => "badge resolved",
        "failed" => "badge failed",
        "reported" => "badge reported",
        _ => "badge working",
    };
    html! { span class=(class) { (state) } }
}
