//! Which browsers' pages may ask.

use std::time::Duration;

use http::Uri;
use http::header::{HeaderName, HeaderValue};
use plumbline_service::config::Reader;

use super::fields::Fields;

/// Pages of other origins that may ask the gateway, and read its answers (Fetch, CORS protocol).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsSpec {
    /// Those origins; nothing for all.
    pub origins: Option<Vec<HeaderValue>>,
    /// Request headers that they may set.
    pub headers: Vec<HeaderName>,
    /// Whether they may ask with cookies, certificates and the browser's own credentials.
    pub credentials: bool,
    /// How long a browser may remember it.
    pub max_age: Duration,
}

/// What clients of the protocols set.
const HEADERS: [&str; 10] = [
    "authorization",
    "content-type",
    "grpc-timeout",
    "inference-header-content-length",
    "traceparent",
    "x-api-key",
    "x-grpc-web",
    "x-request-id",
    "x-request-timeout",
    "x-user-agent",
];

impl Default for CorsSpec {
    /// All origins, and the headers of the protocols.
    fn default() -> Self {
        Self {
            origins: None,
            headers: HEADERS.map(HeaderName::from_static).to_vec(),
            credentials: false,
            max_age: Duration::from_mins(10),
        }
    }
}

pub(super) fn read(reader: &mut Reader) -> Option<CorsSpec> {
    let table: Option<toml::Table> = reader.table("cors");
    let mut problems = Vec::new();
    let cors = table.map(|table| from_table(&table, &mut problems));
    for problem in problems {
        reader.reject("cors", problem);
    }
    cors
}

fn from_table(table: &toml::Table, problems: &mut Vec<String>) -> CorsSpec {
    let mut fields = Fields::new("cors", table, problems);
    let default = CorsSpec::default();
    let origins = fields.texts("origins").unwrap_or_default();
    if origins.is_empty() {
        fields.problem("`origins`: expected [\"https://app.example\"] or [\"*\"]");
    }
    let any = origins == ["*"];
    for text in origins.iter().filter(|text| !any && !is_origin(text)) {
        fields.problem(format_args!(
            "`origins`: `{text}`: expected an origin as browsers write it, such as https://app.example or http://localhost:3000"
        ));
    }
    let origins = (!any).then(|| {
        let values = origins.iter().map(|text| HeaderValue::from_str(text));
        values.filter_map(Result::ok).collect()
    });
    let mut headers = default.headers;
    if let Some(texts) = fields.texts("headers") {
        headers.clear();
        for text in texts {
            match text.parse() {
                Ok(name) => headers.push(name),
                Err(_) => fields.problem(format_args!("`headers`: `{text}` is not the name of a header")),
            }
        }
    }
    let credentials = fields.switch("credentials");
    if credentials && any {
        fields
            .problem("`credentials` needs the origins by name: with \"*\", any page could act as its reader");
    }
    let max_age = fields.setting("max_age").unwrap_or(default.max_age);
    fields.end();
    CorsSpec {
        origins,
        headers,
        credentials,
        max_age,
    }
}

/// Scheme, host and port that is not the scheme's own, in lower case, and nothing else (RFC 6454 §6.2).
fn is_origin(text: &str) -> bool {
    let is_plain = |uri: &Uri| {
        let port = uri.port_u16();
        let scheme = match uri.scheme_str() {
            Some("http") => port != Some(80),
            Some("https") => port != Some(443),
            _ => false,
        };
        scheme && uri.path_and_query().is_none_or(|path| path.as_str() == "/")
    };
    !text.ends_with('/')
        && !text.contains(['@', '*'])
        && !text.bytes().any(|byte| byte.is_ascii_uppercase())
        && text.parse().is_ok_and(|uri| is_plain(&uri))
}
