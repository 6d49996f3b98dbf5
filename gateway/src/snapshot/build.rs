//! The next snapshot, out of what there is and what there shall be.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use plumbline_service::upstream::{Options, Target};

use super::Snapshot;
use crate::config::{MatchSpec, MirrorTo, RevisionSpec, RouteSpec};
use crate::endpoint::Endpoint;
use crate::host;
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::route::{Fallback, HeaderMatch, Revision, Route, Split, sticky};

/// Builds one snapshot.
pub(super) struct Build<'a> {
    old: &'a Snapshot,
    metrics: &'a Metrics,
    options: &'a Options,
    /// Those of the old snapshot, found when a route asks for one that it did not have itself.
    known: OnceCell<HashMap<&'a Target, &'a Arc<Endpoint>>>,
    /// Those that no snapshot had.
    new: HashMap<Target, Arc<Endpoint>>,
}

impl<'a> Build<'a> {
    pub(super) fn new(old: &'a Snapshot, metrics: &'a Metrics, options: &'a Options) -> Self {
        Self {
            old,
            metrics,
            options,
            known: OnceCell::new(),
            new: HashMap::new(),
        }
    }

    pub(super) fn snapshot(mut self, specs: &[RouteSpec]) -> Snapshot {
        let mut routes = HashMap::with_capacity(specs.len());
        let mut hosts: HashMap<Box<str>, Arc<Route>> = HashMap::new();
        for spec in specs {
            let Entry::Vacant(place) = routes.entry(Box::from(spec.model.as_str())) else {
                continue;
            };
            let route = match self.old.route(&spec.model) {
                Some(old) if is_as(old, spec) => Arc::clone(old),
                old => Arc::new(self.route(old.map(|old| &**old), spec)),
            };
            for host in &route.hosts {
                hosts.entry(host.clone()).or_insert_with(|| Arc::clone(&route));
            }
            place.insert(route);
        }
        Snapshot { routes, hosts }
    }

    fn route(&mut self, old: Option<&'a Route>, spec: &RouteSpec) -> Route {
        // First: the handles below belong to the model's series, which this keeps.
        let metrics = match old {
            Some(old) => Arc::clone(&old.metrics),
            None => self.metrics.model(&spec.model),
        };
        let revisions: Box<[Revision]> = spec
            .revisions
            .iter()
            .map(|revision| self.revision(old, &spec.model, revision))
            .collect();
        let index = |name: &String| revisions.iter().position(|revision| *revision.name == **name);
        let header_match = |spec: &MatchSpec| {
            Some(HeaderMatch {
                header: spec.header.clone(),
                value: spec.value.clone(),
                revision: index(&spec.revision)?,
            })
        };
        let weights = spec.revisions.iter().map(|revision| revision.weight);
        let mirror = spec.mirror.as_ref().and_then(|mirror| {
            let endpoints: Box<[_]> = match &mirror.to {
                MirrorTo::Revision(name) => revisions[index(name)?].endpoints.clone(),
                MirrorTo::Endpoints(targets) => {
                    targets.iter().map(|target| self.endpoint(old, target)).collect()
                }
            };
            Some(Arc::new(Mirror::new(
                mirror.clone(),
                endpoints,
                self.metrics.mirror(&spec.model),
            )))
        });
        Route {
            model: spec.model.as_str().into(),
            hosts: normal_hosts(spec).map(String::into_boxed_str).collect(),
            split: match old {
                Some(old) => old.split.with_weights(weights),
                None => Split::new(weights),
            },
            matches: spec.matches.iter().filter_map(header_match).collect(),
            sticky: spec.sticky.clone(),
            fallback: spec.fallback.as_ref().and_then(index).map(|revision| Fallback {
                revision,
                used: self.metrics.fallbacks(&spec.model),
            }),
            mirror,
            timeout: spec.timeout,
            max_body: spec.max_body.0,
            metrics,
            revisions,
        }
    }

    fn revision(&mut self, old: Option<&'a Route>, model: &str, spec: &RevisionSpec) -> Revision {
        let endpoints = spec.endpoints.iter().map(|target| self.endpoint(old, target));
        Revision {
            endpoints: endpoints.collect(),
            name: spec.name.as_str().into(),
            weight: spec.weight,
            seed: sticky::seed(&spec.name),
            metrics: self.metrics.revision(model, &spec.name),
        }
    }

    /// The endpoint that is there already, most likely at the same route; a new one otherwise.
    fn endpoint(&mut self, old: Option<&'a Route>, target: &Target) -> Arc<Endpoint> {
        let mut own = old.into_iter().flat_map(endpoints);
        if let Some(endpoint) = own.find(|endpoint| endpoint.target() == target) {
            return Arc::clone(endpoint);
        }
        let known = self.known.get_or_init(|| {
            let all = self.old.routes.values().flat_map(|route| endpoints(route));
            all.map(|endpoint| (endpoint.target(), endpoint)).collect()
        });
        if let Some(endpoint) = known.get(target) {
            return Arc::clone(endpoint);
        }
        let endpoint = self.new.entry(target.clone()).or_insert_with(|| {
            let metrics = self.metrics.endpoint(&target.to_string());
            let mut options = self.options.clone();
            options.metrics = metrics.connections.clone();
            Arc::new(Endpoint::new(target.clone(), options, metrics))
        });
        Arc::clone(endpoint)
    }
}

fn normal_hosts(spec: &RouteSpec) -> impl Iterator<Item = String> {
    spec.hosts.iter().filter_map(|host| host::normal(host))
}

/// Those of its revisions, then of its mirror.
fn endpoints(route: &Route) -> impl Iterator<Item = &Arc<Endpoint>> {
    let revisions = route.revisions.iter().flat_map(|revision| &revision.endpoints);
    revisions.chain(route.mirror.iter().flat_map(|mirror| mirror.endpoints()))
}

/// Whether a route is what `spec` asks for.
fn is_as(route: &Route, spec: &RouteSpec) -> bool {
    let revision_is = |(revision, spec): (&Revision, &RevisionSpec)| {
        *revision.name == *spec.name
            && revision.weight == spec.weight
            && revision
                .endpoints
                .iter()
                .map(|endpoint| endpoint.target())
                .eq(&spec.endpoints)
    };
    let match_is = |(matched, spec): (&HeaderMatch, &MatchSpec)| {
        matched.header == spec.header
            && matched.value == spec.value
            && *route.revisions[matched.revision].name == *spec.revision
    };
    let fallback = route
        .fallback
        .as_ref()
        .map(|fallback| &*route.revisions[fallback.revision].name);
    route.timeout == spec.timeout
        && route.max_body == spec.max_body.0
        && route.hosts.iter().map(ToString::to_string).eq(normal_hosts(spec))
        && route.revisions.len() == spec.revisions.len()
        && route.revisions.iter().zip(&spec.revisions).all(revision_is)
        && route.matches.len() == spec.matches.len()
        && route.matches.iter().zip(&spec.matches).all(match_is)
        && route.sticky == spec.sticky
        && fallback == spec.fallback.as_deref()
        && route.mirror.as_ref().map(|mirror| &mirror.spec) == spec.mirror.as_ref()
}
