//! What a route's parts say of each other, and routes of each other.
//!
//! The file is refused for any of it. A source that cannot be refused goes on without the part that cannot be honoured.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Condition, MirrorTo, Reason, RouteSpec};
use crate::host;

/// A name that is used as a label for requests to models that nobody routes.
const RESERVED: &str = "unknown";

/// Models and hosts that two of these routes want.
pub(super) fn check_names(routes: &[Arc<RouteSpec>]) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let mut models: HashMap<&str, &RouteSpec> = HashMap::new();
    let mut hosts: HashMap<String, &str> = HashMap::new();
    for route in routes {
        match models.get(&*route.model) {
            Some(first) => conditions.push(Condition::model_taken(route, first)),
            None => {
                models.insert(&route.model, route);
            }
        }
        for text in &route.hosts {
            let Some(host) = host::normal(text) else { continue };
            match hosts.get(&host) {
                Some(first) => conditions.push(Condition::host_taken(route, text, first)),
                None => {
                    hosts.insert(host, &route.model);
                }
            }
        }
    }
    conditions
}

/// Every problem that a route has by itself.
pub(crate) fn check_route(route: &RouteSpec) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let mut problem = |reason, problem| conditions.push(Condition::of(route, reason, problem));
    if let Some(expected) = expected_of_model(&route.model) {
        problem(Reason::ModelNameInvalid, expected.to_owned());
    }
    for text in &route.hosts {
        if host::normal(text).is_none() {
            let text = text.escape_default();
            problem(
                Reason::HostInvalid,
                format!("has host `{text}`; expected a name such as churn.example.com, without a port"),
            );
        }
    }
    check_revisions(route, &mut problem);
    check_references(route, &mut problem);
    // In a cluster they come and go, and a revision that is scaled to zero has those of the activator, as others have.
    if route.object.is_none() {
        check_endpoints(route, &mut problem);
    }
    conditions
}

/// What is wrong with a model's name, so that it cannot have a route.
pub(crate) fn expected_of_model(model: &str) -> Option<&'static str> {
    if model.is_empty() || model.chars().any(char::is_control) {
        Some("is not a name; expected visible characters")
    } else if model == RESERVED {
        Some("has a name that is reserved for requests to unknown models")
    } else {
        None
    }
}

fn check_revisions(route: &RouteSpec, problem: &mut impl FnMut(Reason, String)) {
    let mut names = HashSet::new();
    for revision in &route.revisions {
        let name = &revision.name;
        if name.is_empty() || name.chars().any(char::is_control) {
            problem(
                Reason::RevisionInvalid,
                "has a revision without a `name`".to_owned(),
            );
        } else if !names.insert(name) {
            problem(
                Reason::RevisionInvalid,
                format!("has more than one revision `{name}`"),
            );
        }
    }
    let weights = || route.revisions.iter().map(|revision| revision.weight);
    if weights().count() > 0 && weights().all(|weight| weight == 0) {
        let text = "has no revision with a weight above 0".to_owned();
        problem(Reason::RevisionInvalid, text);
    }
}

fn check_endpoints(route: &RouteSpec, problem: &mut impl FnMut(Reason, String)) {
    let mut urls = HashSet::new();
    for revision in &route.revisions {
        if revision.endpoints.is_empty() && route.revisions.len() > 1 {
            let text = format!("has no endpoint in revision `{}`", revision.name);
            problem(Reason::EndpointInvalid, text);
        }
        for endpoint in &revision.endpoints {
            if !urls.insert(endpoint) {
                let text = format!("has endpoint `{endpoint}` twice");
                problem(Reason::EndpointInvalid, text);
            }
        }
    }
    if urls.is_empty() {
        problem(Reason::EndpointInvalid, "has no endpoint".to_owned());
    }
    if let Some(MirrorTo::Endpoints(endpoints)) = route.mirror.as_ref().map(|mirror| &mirror.to)
        && endpoints.is_empty()
    {
        let text = "has a `mirror` without an endpoint".to_owned();
        problem(Reason::EndpointInvalid, text);
    }
}

/// Revisions that are named elsewhere.
fn check_references(route: &RouteSpec, problem: &mut impl FnMut(Reason, String)) {
    let mut refer = |what: &str, name: &str| {
        if !route.revisions.iter().any(|revision| revision.name == name) {
            let names: Vec<&str> = route.revisions.iter().map(|revision| &*revision.name).collect();
            let text = format!(
                "has `{what}` with revision `{}`; there are {}",
                name.escape_default(),
                names.join(", ")
            );
            problem(Reason::RevisionUnknown, text);
        }
    };
    for matched in &route.matches {
        refer("match", &matched.revision);
    }
    if let Some(fallback) = &route.fallback {
        refer("fallback", fallback);
    }
    if let Some(MirrorTo::Revision(name)) = route.mirror.as_ref().map(|mirror| &mirror.to) {
        refer("mirror", name);
    }
    if let Some(guard) = &route.guard {
        refer("guard", &guard.stable);
    }
}
