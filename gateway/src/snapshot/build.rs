//! The next snapshot, out of what there is and what there shall be.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use plumbline_service::upstream::Target;

use super::{Known, Snapshot};
use crate::config::{
    Condition, MatchSpec, MirrorTo, RevisionSpec, RouteSpec, check_route, expected_of_model,
};
use crate::endpoint::{Endpoints, Means};
use crate::host;
use crate::metrics::Metrics;
use crate::mirror::{Mirror, MirrorState};
use crate::protection::{RevisionState, RouteState};
use crate::route::{Fallback, HeaderMatch, Revision, Route, Split, sticky};

/// Builds one snapshot.
pub(super) struct Build<'a> {
    old: &'a Snapshot,
    known: &'a mut Known,
    means: &'a Arc<Means>,
}

impl<'a> Build<'a> {
    pub(super) fn new(old: &'a Snapshot, known: &'a mut Known, means: &'a Arc<Means>) -> Self {
        Self { old, known, means }
    }

    /// The snapshot of `specs`, of which the first has a name that two want, and what of them could not be honoured.
    pub(super) fn snapshot<'s>(
        mut self,
        specs: impl Iterator<Item = &'s Arc<RouteSpec>>,
    ) -> (Snapshot, Vec<Condition>) {
        let (at_least, _) = specs.size_hint();
        let mut routes: HashMap<Box<str>, Arc<Route>> = HashMap::with_capacity(at_least);
        let mut hosts: HashMap<Arc<str>, Arc<Route>> = HashMap::with_capacity(self.old.hosts.len());
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
                match hosts.entry(Arc::clone(host)) {
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
        let revisions: Box<[Arc<Revision>]> = spec
            .revisions
            .iter()
            .map(|revision| Arc::new(self.revision(old, &spec.model, revision)))
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
                MirrorTo::Endpoints(targets) => self.endpoints(targets, &[]),
            };
            let state = match old.and_then(|old| old.mirror.as_ref()) {
                Some(old) => Arc::clone(&old.state),
                None => Arc::new(MirrorState::new(self.metrics().mirror(&spec.model))),
            };
            Some(Arc::new(Mirror::new(mirror.clone(), endpoints, state)))
        });
        let hosts = spec.hosts.iter().filter_map(|host| host::normal(host));
        Route {
            model: spec.model.as_str().into(),
            hosts: hosts.map(Arc::from).collect(),
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
            state: match old {
                Some(old) => Arc::clone(&old.state),
                None => Arc::new(RouteState::new(&spec.model, self.metrics())),
            },
            revisions,
            conditions: check_route(spec).into(),
            spec: Arc::clone(spec),
        }
    }

    fn revision(&mut self, old: Option<&Route>, model: &str, spec: &RevisionSpec) -> Revision {
        let mut before = old.iter().flat_map(|old| &old.revisions);
        let before = before.find(|revision| *revision.name == *spec.name);
        Revision {
            endpoints: self.endpoints(&spec.endpoints, &spec.grpc_endpoints),
            name: spec.name.as_str().into(),
            weight: spec.weight,
            headers: spec.headers.as_slice().into(),
            seed: sticky::seed(&spec.name),
            state: match before {
                Some(before) => Arc::clone(&before.state),
                None => Arc::new(RevisionState::new(model, &spec.name, self.metrics())),
            },
        }
    }

    fn endpoints(&mut self, all: &[Target], grpc: &[Target]) -> Endpoints {
        let mut these = |targets: &[Target]| {
            let endpoints = targets.iter();
            endpoints
                .map(|target| self.known.endpoint(target, self.means))
                .collect()
        };
        Endpoints::new(these(all), these(grpc))
    }
}
