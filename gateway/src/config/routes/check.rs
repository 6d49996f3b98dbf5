//! What no route can see by itself, and what its parts say of each other.
//!
//! The file is refused for any of it. A source that cannot be refused goes on without the part that cannot be honoured.

use std::collections::HashSet;
use std::fmt;

use super::{MirrorTo, RouteSpec};
use crate::host;

/// Something of the routes that could not be honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The route's model; nothing when it is about all routes, such as a file that cannot be read.
    pub route: Option<String>,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.route {
            Some(model) => write!(f, "model `{}` {}", model.escape_default(), self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

/// A name that is used as a label for requests to models that nobody routes.
const RESERVED: &str = "unknown";

/// Every problem of these routes.
pub(crate) fn check(routes: &[RouteSpec]) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let (mut models, mut hosts) = (HashSet::new(), HashSet::new());
    for route in routes {
        let mut problem = |problem: String| {
            conditions.push(Condition {
                route: Some(route.model.clone()),
                problem,
            });
        };
        let model = route.model.as_str();
        if model.is_empty() || model.chars().any(char::is_control) {
            problem("is not a name; expected visible characters".to_owned());
        } else if model == RESERVED {
            problem("has a name that is reserved for requests to unknown models".to_owned());
        } else if !models.insert(model) {
            problem("has more than one route".to_owned());
        }
        for text in &route.hosts {
            match host::normal(text) {
                None => problem(format!(
                    "has host `{}`; expected a name such as churn.example.com, without a port",
                    text.escape_default()
                )),
                Some(host) => {
                    if !hosts.insert(host) {
                        problem(format!("has host `{text}`, which is taken already"));
                    }
                }
            }
        }
        check_revisions(route, &mut problem);
        check_references(route, &mut problem);
    }
    conditions
}

fn check_revisions(route: &RouteSpec, problem: &mut impl FnMut(String)) {
    let (mut names, mut urls) = (HashSet::new(), HashSet::new());
    for revision in &route.revisions {
        let name = &revision.name;
        if name.is_empty() || name.chars().any(char::is_control) {
            problem("has a revision without a `name`".to_owned());
        } else if !names.insert(name) {
            problem(format!("has more than one revision `{name}`"));
        }
        if revision.endpoints.is_empty() && route.revisions.len() > 1 {
            problem(format!("has no endpoint in revision `{name}`"));
        }
        for endpoint in &revision.endpoints {
            if !urls.insert(endpoint) {
                problem(format!("has endpoint `{endpoint}` twice"));
            }
        }
    }
    if urls.is_empty() {
        problem("has no endpoint".to_owned());
    } else if route.revisions.iter().all(|revision| revision.weight == 0) {
        problem("has no revision with a weight above 0".to_owned());
    }
}

/// Revisions that are named elsewhere.
fn check_references(route: &RouteSpec, problem: &mut impl FnMut(String)) {
    let mut refer = |what: &str, name: &str| {
        if !route.revisions.iter().any(|revision| revision.name == name) {
            let names: Vec<&str> = route.revisions.iter().map(|revision| &*revision.name).collect();
            problem(format!(
                "has `{what}` with revision `{}`; there are {}",
                name.escape_default(),
                names.join(", ")
            ));
        }
    };
    for matched in &route.matches {
        refer("match", &matched.revision);
    }
    if let Some(fallback) = &route.fallback {
        refer("fallback", fallback);
    }
    match route.mirror.as_ref().map(|mirror| &mirror.to) {
        Some(MirrorTo::Revision(name)) => refer("mirror", name),
        Some(MirrorTo::Endpoints(endpoints)) if endpoints.is_empty() => {
            problem("has a `mirror` without an endpoint".to_owned());
        }
        Some(MirrorTo::Endpoints(_)) | None => {}
    }
}
