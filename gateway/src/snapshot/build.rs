//! The next snapshot, out of what there is and what there shall be.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use plumbline_service::upstream::Target;

use super::Snapshot;
use crate::config::{
    Condition, MatchSpec, MirrorTo, RevisionSpec, RouteSpec, check_route, expected_of_model,
};
use crate::endpoint::{Endpoint, Endpoints, Means};
use crate::host;
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::route::{Fallback, HeaderMatch, Revision, Route, Split, sticky};

/// Builds one snapshot.
pub(super) struct Build<'a> {
    old: &'a Snapshot,
    means: &'a Arc<Means>,
    /// Those of the old snapshot, found when a route asks for one that it did not have itself.
    known: OnceCell<HashMap<&'a Target, &'a Arc<Endpoint>>>,
    /// Those that no snapshot had.
    new: HashMap<Target, Arc<Endpoint>>,
}

impl<'a> Build<'a> {
    pub(super) fn new(old: &'a Snapshot, means: &'a Arc<Means>) -> Self {
        Self {
            old,
            means,
            known: OnceCell::new(),
            new: HashMap::new(),
        }
    }

    /// The snapshot of `specs`, of which the first has a name that two want, and what of them could not be honoured.
    pub(super) fn snapshot<'s>(
        mut self,
        specs: impl Iterator<Item = &'s Arc<RouteSpec>>,
    ) -> (Snapshot, Vec<Condition>) {
        let (at_least, _) = specs.size_hint();
        let mut routes: HashMap<Box<str>, Arc<Route>> = HashMap::with_capacity(at_least);
        let mut hosts: HashMap<Box<str>, Arc<Route>> = HashMap::new();
        let mut conditions = Vec::new();
        for spec in specs {
            if expected_of_model(&spec.model).is_some() {
                conditions.extend(check_route(spec));
                continue;
            }
            let place = match routes.entry(Box::from(spec.model.as_str())) {
                Entry::Vacant(place) => place,
                Entry::Occupied(first) => {
                    conditions.push(Condition::model_taken(spec, &first.get().spec));
                    continue;
                }
            };
            let route = match self.old.route(&spec.model) {
                Some(old) if Arc::ptr_eq(&old.spec, spec) => Arc::clone(old),
                old => Arc::new(self.route(old.map(|old| &**old), spec)),
            };
            conditions.extend(route.conditions.iter().cloned());
            for host in &route.hosts {
                match hosts.entry(host.clone()) {
                    Entry::Vacant(place) => {
                        place.insert(Arc::clone(&route));
                    }
                    Entry::Occupied(first) => {
                        conditions.push(Condition::host_taken(spec, host, &first.get().model));
                    }
                }
            }
            place.insert(route);
        }
        (Snapshot { routes, hosts }, conditions)
    }

    fn metrics(&self) -> &'a Metrics {
        &self.means.metrics
    }

    fn route(&mut self, old: Option<&'a Route>, spec: &Arc<RouteSpec>) -> Route {
        // First: the handles below belong to the model's series, which this keeps.
        let metrics = match old {
            Some(old) => Arc::clone(&old.metrics),
            None => self.metrics().model(&spec.model),
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
            let endpoints = match &mirror.to {
                MirrorTo::Revision(name) => revisions[index(name)?].endpoints.clone(),
                MirrorTo::Endpoints(targets) => self.endpoints(old, targets, &[]),
            };
            Some(Arc::new(Mirror::new(
                mirror.clone(),
                endpoints,
                self.metrics().mirror(&spec.model),
            )))
        });
        let hosts = spec.hosts.iter().filter_map(|host| host::normal(host));
        Route {
            model: spec.model.as_str().into(),
            hosts: hosts.map(String::into_boxed_str).collect(),
            split: match old {
                Some(old) => old.split.with_weights(weights),
                None => Split::new(weights),
            },
            matches: spec.matches.iter().filter_map(header_match).collect(),
            fallback: spec.fallback.as_ref().and_then(index).map(|revision| Fallback {
                revision,
                used: self.metrics().fallbacks(&spec.model),
            }),
            mirror,
            metrics,
            revisions,
            conditions: check_route(spec).into(),
            spec: Arc::clone(spec),
        }
    }

    fn revision(&mut self, old: Option<&'a Route>, model: &str, spec: &RevisionSpec) -> Revision {
        Revision {
            endpoints: self.endpoints(old, &spec.endpoints, &spec.grpc_endpoints),
            name: spec.name.as_str().into(),
            weight: spec.weight,
            headers: spec.headers.as_slice().into(),
            seed: sticky::seed(&spec.name),
            metrics: self.metrics().revision(model, &spec.name),
        }
    }

    fn endpoints(&mut self, old: Option<&'a Route>, all: &[Target], grpc: &[Target]) -> Endpoints {
        let mut these =
            |targets: &[Target]| targets.iter().map(|target| self.endpoint(old, target)).collect();
        Endpoints::new(these(all), these(grpc))
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
        let make = || Arc::new(Endpoint::new(target.clone(), Arc::clone(self.means)));
        Arc::clone(self.new.entry(target.clone()).or_insert_with(make))
    }
}

/// Those of its revisions, then of its mirror.
fn endpoints(route: &Route) -> impl Iterator<Item = &Arc<Endpoint>> {
    let revisions = route
        .revisions
        .iter()
        .flat_map(|revision| revision.endpoints.all());
    revisions.chain(route.mirror.iter().flat_map(|mirror| mirror.endpoints.all()))
}
