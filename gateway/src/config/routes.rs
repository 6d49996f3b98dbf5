//! Routes of the file and of flags.

use std::collections::HashSet;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use plumbline_service::config::{ByteSize, ParseSetting, Reader};
use plumbline_service::upstream::Target;

use super::fields::Fields;

/// A model and where it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// The name in V1 and V2 paths, and `model_name` of gRPC requests.
    pub model: String,
    /// At least one, each name once.
    pub revisions: Vec<RevisionSpec>,
    /// Deadline of a request whose client sets none.
    pub timeout: Duration,
    /// Largest request body, or message of a gRPC stream.
    pub max_body: ByteSize,
}

impl RouteSpec {
    /// A route of one revision with the default limits: 30 s, 64 MiB.
    pub fn new(model: impl Into<String>, endpoints: Vec<Target>) -> Self {
        Self {
            model: model.into(),
            revisions: vec![RevisionSpec::only(endpoints)],
            timeout: Duration::from_secs(30),
            max_body: ByteSize(64 << 20),
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

/// A name that is used as a label for requests to models that nobody routes.
pub(crate) const RESERVED: &str = "unknown";

pub(super) fn read(reader: &mut Reader, timeout: Duration, max_body: ByteSize) -> Vec<RouteSpec> {
    let flags: Vec<String> = reader.list("route");
    let mut problems = Vec::new();
    let routes = if flags.is_empty() {
        let tables: Vec<toml::Table> = reader.table("route");
        let route = |(index, table)| {
            let place = format!("route {}", index + 1);
            let mut fields = Fields::new(place, table, &mut problems);
            let route = from_table(&mut fields, timeout, max_body);
            fields.end();
            route
        };
        tables.iter().enumerate().map(route).collect()
    } else {
        from_flags(&flags, timeout, max_body, &mut problems)
    };
    check(&routes, &mut problems);
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
    let route = RouteSpec {
        model: model.to_owned(),
        revisions,
        timeout: fields.setting("timeout").unwrap_or(timeout),
        max_body: fields.setting("max_body").unwrap_or(max_body),
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
    texts.filter_map(&mut endpoint).collect()
}

/// What no table can see by itself: names, and what is there twice.
fn check(routes: &[RouteSpec], problems: &mut Vec<String>) {
    let mut models = HashSet::new();
    for RouteSpec { model, revisions, .. } in routes {
        let mut problem =
            |problem: String| problems.push(format!("model `{}` {problem}", model.escape_default()));
        if model.is_empty() || model.chars().any(char::is_control) {
            problem("is not a name; expected visible characters".to_owned());
        } else if model == RESERVED {
            problem("has a name that is reserved for requests to unknown models".to_owned());
        } else if !models.insert(model.clone()) {
            problem("has more than one route".to_owned());
        }
        let (mut names, mut urls) = (HashSet::new(), HashSet::new());
        for RevisionSpec { name, endpoints, .. } in revisions {
            if name.is_empty() || name.chars().any(char::is_control) {
                problem("has a revision without a `name`".to_owned());
            } else if !names.insert(name) {
                problem(format!("has more than one revision `{name}`"));
            }
            if endpoints.is_empty() && revisions.len() > 1 {
                problem(format!("has no endpoint in revision `{name}`"));
            }
            for endpoint in endpoints {
                if !urls.insert(endpoint) {
                    problem(format!("has endpoint `{endpoint}` twice"));
                }
            }
        }
        if urls.is_empty() {
            problem("has no endpoint".to_owned());
        } else if revisions.iter().all(|revision| revision.weight == 0) {
            problem("has no revision with a weight above 0".to_owned());
        }
    }
}
