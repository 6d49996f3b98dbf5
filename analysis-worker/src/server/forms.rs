//! Forms of the pages that change something: sent by the page itself, by somebody who has the token.

use std::collections::BTreeMap;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::{HOST, LOCATION, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, StatusCode, Uri};
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
    if !is_own(&head, shared.public_host.as_deref()) {
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

/// Whether the browser says that a page of ours sent the request: of the address that was asked, or of `public_host`,
/// behind which a proxy may ask for another.
fn is_own(head: &Parts, public_host: Option<&str>) -> bool {
    let text = |name| {
        head.headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    if text("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return false;
    }
    let origin: Option<Uri> = text(ORIGIN.as_str()).and_then(|origin| origin.parse().ok());
    let Some(origin) = origin.as_ref().and_then(Uri::authority) else {
        return false;
    };
    // HTTP/2 has the host in the address.
    let asked = text(HOST.as_str()).or(head.uri.authority().map(Authority::as_str));
    asked == Some(origin.as_str()) || public_host == Some(origin.as_str())
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
        let own = |address: &str, fields: &[(&str, &str)]| {
            let mut request = Request::post(address);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).expect("a request").into_parts();
            is_own(&head, Some("plumbline.example"))
        };
        let host = ("host", "worker:8090");
        let same = ("origin", "http://worker:8090");
        assert!(own("/x", &[host, same]));
        assert!(own("/x", &[host, same, ("sec-fetch-site", "same-origin")]));
        assert!(own("http://worker:8090/x", &[same]), "HTTP/2");
        assert!(
            own("/x", &[host, ("origin", "https://plumbline.example")]),
            "behind a proxy"
        );
        assert!(!own("/x", &[host]));
        assert!(!own("/x", &[same]));
        assert!(!own("/x", &[host, ("origin", "null")]));
        assert!(!own("/x", &[host, ("origin", "http://evil.example")]));
        assert!(!own("/x", &[host, ("origin", "http://worker:80")]));
        assert!(!own("/x", &[host, same, ("sec-fetch-site", "cross-site")]));
    }
}
