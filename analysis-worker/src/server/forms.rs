//! Forms of the pages that change something: sent by the page itself, by somebody who has the token.

use std::collections::BTreeMap;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::{HOST, LOCATION, ORIGIN};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use maud::{Markup, html};
use sha2::{Digest as _, Sha256};

use super::Shared;
use super::layout;
use super::webhooks::whole;
use crate::text::{one_line, sanitise};

/// Bytes of a form.
const MAX_FORM: usize = 16 << 10;

/// A form that may be acted upon.
#[derive(Debug)]
pub(super) struct Form {
    fields: BTreeMap<String, String>,
    /// Who sent it: the name that they gave.
    pub(super) actor: String,
}

impl Form {
    pub(super) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Reads a form and checks who sent it from where.
///
/// # Errors
/// The page that says why it is refused.
pub(super) async fn read(shared: &Shared, request: Request) -> Result<Form, Box<Response>> {
    let (head, body) = request.into_parts();
    let Some(expected) = shared.console_token else {
        let reason = "The pages only show: no token is configured (console_token).";
        return Err(Box::new(refused(shared, StatusCode::FORBIDDEN, reason)));
    };
    if !is_own(&head.headers) {
        let reason = "The form was not sent by a page of this server.";
        return Err(Box::new(refused(shared, StatusCode::FORBIDDEN, reason)));
    }
    let Ok(body) = whole(body, MAX_FORM).await else {
        return Err(Box::new(refused(
            shared,
            StatusCode::BAD_REQUEST,
            "The form cannot be read.",
        )));
    };
    let fields: BTreeMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let token = fields.get("token").map_or("", String::as_str);
    let digest: [u8; 32] = Sha256::digest(token).into();
    if digest != expected {
        return Err(Box::new(refused(
            shared,
            StatusCode::FORBIDDEN,
            "The token is not the right one.",
        )));
    }
    let name = one_line(&sanitise(fields.get("name").map_or("", String::as_str)), 60);
    if name.is_empty() {
        let reason = "A name is needed: it is kept with the decision.";
        return Err(Box::new(refused(shared, StatusCode::BAD_REQUEST, reason)));
    }
    Ok(Form {
        fields,
        actor: format!("console:{name}"),
    })
}

/// Whether the browser says that a page of this origin sent the request.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |value: Option<&HeaderValue>| value.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let site = text(headers.get("sec-fetch-site"));
    if site.is_some_and(|site| site != "same-origin") {
        return false;
    }
    let origin: Option<Uri> = text(headers.get(ORIGIN)).and_then(|origin| origin.parse().ok());
    let origin = origin.and_then(|origin| origin.authority().map(ToString::to_string));
    origin.is_some() && origin == text(headers.get(HOST))
}

/// The page that says why nothing was done.
pub(super) fn refused(shared: &Shared, status: StatusCode, reason: &str) -> Response {
    let content = html! { h1 { "Not done" } p { (reason) } };
    let mut response = layout::page("Not done", &shared.provider, false, &content);
    *response.status_mut() = status;
    response
}

/// The page of what was changed, asked for anew.
pub(super) fn see(path: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(location) = HeaderValue::from_str(path) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// A form with the fields that say who sends it; nothing where no token is configured.
pub(super) fn form(shared: &Shared, id: &str, action: &str, content: &Markup) -> Markup {
    if shared.console_token.is_none() {
        return html! { p.quiet { "To decide here, configure a token (" code { "console_token" } ")." } };
    }
    html! {
        form.decide method="post" action=(action) {
            label for=(format!("name-{id}")) { "Your name" }
            input id=(format!("name-{id}")) name="name" required maxlength="60" autocomplete="name";
            label for=(format!("token-{id}")) { "Token" }
            input id=(format!("token-{id}")) name="token" type="password" required autocomplete="current-password";
            (content)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_of_this_origin_sends_forms() {
        let own = |fields: &[(&'static str, &'static str)]| {
            let headers = fields.iter().map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            });
            is_own(&headers.collect())
        };
        let host = ("host", "worker:8090");
        assert!(own(&[host, ("origin", "http://worker:8090")]));
        assert!(own(&[
            host,
            ("origin", "https://worker:8090"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(!own(&[host]));
        assert!(!own(&[host, ("origin", "null")]));
        assert!(!own(&[host, ("origin", "http://evil.example")]));
        assert!(!own(&[host, ("origin", "http://worker:80")]));
        assert!(!own(&[
            host,
            ("origin", "http://worker:8090"),
            ("sec-fetch-site", "cross-site")
        ]));
        assert!(!own(&[("origin", "http://worker:8090")]));
    }
}
