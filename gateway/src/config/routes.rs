//! Routes of the file and of flags.

mod check;
mod condition;
mod mirror;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use plumbline_service::config::{ByteSize, ParseSetting, Reader, Tables};
use plumbline_service::upstream::Target;

use super::fields::Fields;
use super::guard::{self, GuardSpec};
use super::protection::{self, ProtectionSpec};

use check::check_names;
pub(crate) use check::{check_route, expected_of_model};
pub use condition::{Condition, Reason};
pub use mirror::{MirrorSpec, MirrorTo, Share};

/// A model and where it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// The name in V1 and V2 paths, and `model_name` of gRPC requests.
    pub model: String,
    /// The object of Kubernetes that it comes from, `NAMESPACE/NAME`; nothing for the configuration.
    pub object: Option<String>,
    /// Host names, without ports, whose requests all come here, whatever model they name.
    pub hosts: Vec<String>,
    /// At least one, each name once.
    pub revisions: Vec<RevisionSpec>,
    /// Requests that go to a certain revision; the first that fits decides, before stickiness and weights.
    pub matches: Vec<MatchSpec>,
    /// What requests have in common that go to the same revision; without it they take turns.
    pub sticky: Option<Sticky>,
    /// The revision that gets the requests of one that has no endpoint to use.
    pub fallback: Option<String>,
    /// Where copies of requests go.
    pub mirror: Option<MirrorSpec>,
    /// What stops a revision that is worse than another, if there is to be a guard.
    pub guard: Option<GuardSpec>,
    /// Deadline of a request whose client sets none.
    pub timeout: Duration,
    /// Largest request body, or message of a gRPC stream.
    pub max_body: ByteSize,
    /// Retries, hedging, slow start, the adaptive limit and holding.
    pub protection: ProtectionSpec,
}

impl RouteSpec {
    /// A route of one revision with the default limits: 30 s, 64 MiB.
    pub fn new(model: impl Into<String>, endpoints: Vec<Target>) -> Self {
        Self {
            model: model.into(),
            object: None,
            hosts: Vec::new(),
            revisions: vec![RevisionSpec::only(endpoints)],
            matches: Vec::new(),
            sticky: None,
            fallback: None,
            mirror: None,
            guard: None,
            timeout: Duration::from_secs(30),
            max_body: ByteSize(64 << 20),
            protection: ProtectionSpec::default(),
        }
    }
}

/// A version of a model that is served side by side with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionSpec {
    /// Its name, for people and metrics.
    pub name: String,
    /// Its share of the requests is `weight` of the sum of all weights of its route. 0 gets none.
    pub weight: u32,
    /// Each once.
    pub endpoints: Vec<Target>,
    /// Where gRPC goes when it has ports of its own; none when it goes to `endpoints`.
    pub grpc_endpoints: Vec<Target>,
    /// Set on each request to an endpoint.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl RevisionSpec {
    /// The name of a revision that has no other beside it.
    pub const ONLY: &str = "stable";

    /// The one revision of a route.
    pub fn only(endpoints: Vec<Target>) -> Self {
        Self {
            name: Self::ONLY.to_owned(),
            weight: 1,
            endpoints,
            grpc_endpoints: Vec::new(),
            headers: Vec::new(),
        }
    }
}

/// Requests with this header value go to this revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchSpec {
    /// The header's name.
    pub header: HeaderName,
    /// Equal to the whole of one of the header's values, byte for byte.
    pub value: HeaderValue,
    /// The revision's name; its weight does not matter.
    pub revision: String,
}

/// What requests have in common that go to the same revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// The first value of a header. Requests without it take turns.
    Header(HeaderName),
}

impl ParseSetting for Sticky {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("header:").and_then(|name| name.parse().ok());
        name.map(Self::Header)
            .ok_or_else(|| "expected header:NAME".to_owned())
    }
}

impl std::fmt::Display for Sticky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

/// Routes by the text of their tables, kept to read a file again, and the defaults that they were read with.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteTables {
    defaults: Option<(Duration, ByteSize)>,
    known: Tables<Arc<RouteSpec>>,
}

pub(super) fn read(
    reader: &mut Reader,
    timeout: Duration,
    max_body: ByteSize,
    tables: &mut RouteTables,
) -> Vec<Arc<RouteSpec>> {
    let flags: Vec<String> = reader.list("route");
    let mut problems = Vec::new();
    let routes = if flags.is_empty() {
        if tables.defaults.replace((timeout, max_body)) != Some((timeout, max_body)) {
            tables.known = Tables::default();
        }
        reader.tables("route", &mut tables.known, |index, table, problems| {
            let mut fields = Fields::new(format!("route {}", index + 1), table, problems);
            let route = from_table(&mut fields, timeout, max_body);
            fields.end();
            problems.extend(check_route(&route).iter().map(ToString::to_string));
            Arc::new(route)
        })
    } else {
        let routes = from_flags(&flags, timeout, max_body, &mut problems);
        problems.extend(
            routes
                .iter()
                .flat_map(check_route)
                .map(|problem| problem.to_string()),
        );
        routes.into_iter().map(Arc::new).collect()
    };
    problems.extend(check_names(&routes).iter().map(ToString::to_string));
    for problem in problems {
        reader.reject("route", problem);
    }
    routes
}

/// `MODEL=URL,URL`. A variable is cut at its commas before it comes here: a text without `=` is one more endpoint of the
/// route before.
fn from_flags(
    texts: &[String],
    timeout: Duration,
    max_body: ByteSize,
    problems: &mut Vec<String>,
) -> Vec<RouteSpec> {
    let mut routes: Vec<RouteSpec> = Vec::new();
    for text in texts {
        let (model, urls) = match text.split_once('=') {
            Some((model, urls)) => (Some(model), urls),
            None => (None, text.as_str()),
        };
        if let Some(model) = model {
            routes.push(RouteSpec {
                timeout,
                max_body,
                ..RouteSpec::new(model, Vec::new())
            });
        }
        let Some(route) = routes.last_mut() else {
            problems.push(format!("`{text}`: expected MODEL=URL[,URL]"));
            continue;
        };
        let urls = urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        let place = format!("model `{}`", route.model);
        let endpoints = endpoints(urls, |problem| problems.push(format!("{place}: {problem}")));
        route.revisions[0].endpoints.extend(endpoints);
    }
    routes
}

/// A route with `endpoints`, or with a `revision` table for each of several.
fn from_table(fields: &mut Fields<'_>, timeout: Duration, max_body: ByteSize) -> RouteSpec {
    let model = fields.required_text("model").unwrap_or_default();
    let only = fields.texts("endpoints");
    let mut revisions = fields.tables("revision", revision);
    if let Some(urls) = only {
        if !revisions.is_empty() {
            fields.problem("expected `endpoints` or `revision`, found both");
        }
        let endpoints = endpoints(urls.into_iter(), |problem| fields.problem(problem));
        revisions = vec![RevisionSpec::only(endpoints)];
    }
    let hosts = fields.texts("hosts").unwrap_or_default();
    let route = RouteSpec {
        model: model.to_owned(),
        object: None,
        hosts: hosts.into_iter().map(str::to_owned).collect(),
        revisions,
        matches: fields
            .tables("match", header_match)
            .into_iter()
            .flatten()
            .collect(),
        sticky: fields.setting("sticky"),
        fallback: fields.text("fallback").map(str::to_owned),
        mirror: fields.table("mirror", mirror::read).flatten(),
        guard: fields.table("guard", guard::read).flatten(),
        timeout: fields.setting("timeout").unwrap_or(timeout),
        max_body: fields.setting("max_body").unwrap_or(max_body),
        protection: protection::read(fields),
    };
    if route.timeout.is_zero() {
        fields.problem("`timeout`: must be longer than 0");
    }
    route
}

fn revision(fields: &mut Fields<'_>) -> RevisionSpec {
    let name = fields.required_text("name").unwrap_or_default();
    let weight = fields.setting("weight").unwrap_or(1);
    let urls = fields.texts("endpoints").unwrap_or_default();
    RevisionSpec {
        name: name.to_owned(),
        weight,
        ..RevisionSpec::only(endpoints(urls.into_iter(), |problem| fields.problem(problem)))
    }
}

fn header_match(fields: &mut Fields<'_>) -> Option<MatchSpec> {
    let header = fields.required_text("header").and_then(|name| {
        let parsed = name.parse().ok();
        if parsed.is_none() {
            fields.problem(format_args!(
                "`header`: expected the name of a header, found `{}`",
                name.escape_default()
            ));
        }
        parsed
    });
    let value = fields.required_text("value").and_then(|value| {
        let parsed = HeaderValue::from_str(value).ok();
        if parsed.is_none() {
            fields.problem("`value`: expected the value of a header, without control characters");
        }
        parsed
    });
    let revision = fields.required_text("revision").map(str::to_owned);
    Some(MatchSpec {
        header: header?,
        value: value?,
        revision: revision?,
    })
}

fn endpoints<'a>(texts: impl Iterator<Item = &'a str>, mut problem: impl FnMut(String)) -> Vec<Target> {
    let mut endpoint = |text: &str| match Target::parse_setting(text) {
        Ok(target) if target.is_tls() => {
            problem(format!(
                "endpoint `{text}`: TLS to an endpoint is not supported; expected http:// or unix:"
            ));
            None
        }
        Ok(target) => Some(target),
        Err(expected) => {
            problem(format!("endpoint `{text}`: {expected}"));
            None
        }
    };
    let mut endpoints: Vec<Target> = texts.filter_map(&mut endpoint).collect();
    // They stay as long as the route does.
    endpoints.shrink_to_fit();
    endpoints
}
