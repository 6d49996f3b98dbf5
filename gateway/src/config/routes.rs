//! Routes of the file and of flags.

use std::collections::HashSet;
use std::time::Duration;

use plumbline_service::config::{ByteSize, ParseSetting, Reader};
use plumbline_service::upstream::Target;

/// A model and where it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// The name in V1 and V2 paths, and `model_name` of gRPC requests.
    pub model: String,
    /// At least one, each once.
    pub endpoints: Vec<Target>,
    /// Deadline of a request whose client sets none.
    pub timeout: Duration,
    /// Largest request body, or message of a gRPC stream.
    pub max_body: ByteSize,
}

impl RouteSpec {
    /// A route with the default limits: 30 s, 64 MiB.
    pub fn new(model: impl Into<String>, endpoints: Vec<Target>) -> Self {
        Self {
            model: model.into(),
            endpoints,
            timeout: Duration::from_secs(30),
            max_body: ByteSize(64 << 20),
        }
    }
}

/// A name that is used as a label for requests to models that nobody routes.
const RESERVED: &str = "unknown";

pub(super) fn read(reader: &mut Reader, timeout: Duration, max_body: ByteSize) -> Vec<RouteSpec> {
    let mut builder = Builder {
        timeout,
        max_body,
        routes: Vec::new(),
        problems: Vec::new(),
    };
    let flags: Vec<String> = reader.list("route");
    if flags.is_empty() {
        let tables: Vec<toml::Table> = reader.table("route");
        tables
            .iter()
            .enumerate()
            .for_each(|(index, table)| builder.table(index, table));
    } else {
        builder.flags(&flags);
    }
    builder.check_names();
    for problem in builder.problems {
        reader.reject("route", problem);
    }
    builder.routes
}

/// Builds routes and keeps every problem.
struct Builder {
    timeout: Duration,
    max_body: ByteSize,
    routes: Vec<RouteSpec>,
    problems: Vec<String>,
}

impl Builder {
    /// `MODEL=URL,URL`. A variable is cut at its commas before it comes here: a text without `=` is one more endpoint
    /// of the route before.
    fn flags(&mut self, texts: &[String]) {
        for text in texts {
            match text.split_once('=') {
                Some((model, endpoints)) => {
                    let mut route = RouteSpec::new(model, Vec::new());
                    (route.timeout, route.max_body) = (self.timeout, self.max_body);
                    self.routes.push(route);
                    self.add_endpoints(endpoints);
                }
                None if self.routes.is_empty() => {
                    self.problems.push(format!("`{text}`: expected MODEL=URL[,URL]"));
                }
                None => self.add_endpoints(text),
            }
        }
    }

    fn add_endpoints(&mut self, texts: &str) {
        let Some(mut route) = self.routes.pop() else {
            return;
        };
        for text in texts.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            self.endpoint(&mut route, text);
        }
        self.routes.push(route);
    }

    fn endpoint(&mut self, route: &mut RouteSpec, text: &str) {
        match Target::parse_setting(text) {
            Ok(target) if target.is_tls() => {
                self.problems.push(format!(
                    "model `{}`: endpoint `{text}`: TLS to an endpoint is not supported; expected http:// or unix:",
                    route.model
                ));
            }
            Ok(target) if route.endpoints.contains(&target) => {
                self.problems.push(format!(
                    "model `{}`: endpoint `{text}` is given twice",
                    route.model
                ));
            }
            Ok(target) => route.endpoints.push(target),
            Err(expected) => {
                self.problems
                    .push(format!("model `{}`: endpoint `{text}`: {expected}", route.model));
            }
        }
    }

    fn table(&mut self, index: usize, table: &toml::Table) {
        let mut route = RouteSpec::new("", Vec::new());
        (route.timeout, route.max_body) = (self.timeout, self.max_body);
        let number = index + 1;
        match table.get("model") {
            Some(toml::Value::String(model)) => route.model.clone_from(model),
            Some(_) => self
                .problems
                .push(format!("route {number}: `model`: expected a text")),
            None => self.problems.push(format!("route {number}: `model` is missing")),
        }
        for (key, value) in table {
            match (key.as_str(), value) {
                ("model", _) => {}
                ("endpoints", toml::Value::Array(items)) => {
                    for item in items {
                        match item.as_str() {
                            Some(text) => self.endpoint(&mut route, text),
                            None => self.problems.push(format!("route {number}: `endpoints`: expected texts")),
                        }
                    }
                }
                ("endpoints", _) => {
                    self.problems.push(format!("route {number}: `endpoints`: expected a list of texts"));
                }
                ("timeout", value) => match parsed::<Duration>(value) {
                    Ok(timeout) if timeout.is_zero() => {
                        self.problems.push(format!("route {number}: `timeout`: must be longer than 0"));
                    }
                    Ok(timeout) => route.timeout = timeout,
                    Err(expected) => self.problems.push(format!("route {number}: `timeout`: {expected}")),
                },
                ("max_body", value) => match parsed::<ByteSize>(value) {
                    Ok(max_body) => route.max_body = max_body,
                    Err(expected) => self.problems.push(format!("route {number}: `max_body`: {expected}")),
                },
                (unknown, _) => self.problems.push(format!(
                    "route {number}: unknown key `{unknown}`; there are model, endpoints, timeout and max_body"
                )),
            }
        }
        self.routes.push(route);
    }

    fn check_names(&mut self) {
        let mut seen = HashSet::new();
        for route in &self.routes {
            let RouteSpec { model, endpoints, .. } = route;
            if model.is_empty() || model.chars().any(char::is_control) {
                self.problems
                    .push(format!("model `{}`: expected a name", model.escape_default()));
            } else if model == RESERVED {
                self.problems.push(format!(
                    "model `{model}`: the name is reserved for requests to unknown models"
                ));
            } else if !seen.insert(model) {
                self.problems
                    .push(format!("model `{model}` has more than one route"));
            }
            if endpoints.is_empty() {
                self.problems.push(format!("model `{model}` has no endpoint"));
            }
        }
    }
}

fn parsed<T: ParseSetting>(value: &toml::Value) -> Result<T, String> {
    match value {
        toml::Value::String(text) => T::parse_setting(text),
        other => T::parse_setting(&other.to_string()),
    }
}
