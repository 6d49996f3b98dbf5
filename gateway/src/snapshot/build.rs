//! The next snapshot, out of what there is and what there shall be.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use plumbline_service::upstream::Target;

use super::{Known, Snapshot};
use crate::config::{
    Condition, MatchSpec, MirrorTo, Reason, RevisionSpec, RouteSpec, check_route, expected_of_model,
};
use crate::endpoint::{Endpoints, Means};
use crate::guard::{Canary, Stop, described};
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
    stops: BTreeMap<Canary, Stop>,
}

impl<'a> Build<'a> {
    pub(super) fn new(
        old: &'a Snapshot,
        known: &'a mut Known,
        means: &'a Arc<Means>,
        stops: BTreeMap<Canary, Stop>,
    ) -> Self {
        Self {
            old,
            known,
            means,
            stops,
        }
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
                Some(old) if Arc::ptr_eq(&old.spec, spec) && self.stops_are_those_of(old) => Arc::clone(old),
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
            .map(|revision| Arc::new(self.revision(old, spec, revision)))
            .collect();
        let index = |name: &String| revisions.iter().position(|revision| *revision.name == **name);
        let header_match = |spec: &MatchSpec| {
            Some(HeaderMatch {
                header: spec.header.clone(),
                value: spec.value.clone(),
                revision: index(&spec.revision)?,
            })
        };
        let weights = revisions.iter().map(|revision| revision.weight);
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
            conditions: check_route(spec)
                .into_iter()
                .chain(self.conditions(spec))
                .collect(),
            spec: Arc::clone(spec),
        }
    }

    /// Whether a route has no weight for exactly those canaries that are stopped.
    fn stops_are_those_of(&self, route: &Route) -> bool {
        let as_it_is =
            |revision: &Arc<Revision>| revision.stopped == self.stopped(&route.spec, &revision.name);
        route.revisions.iter().all(as_it_is)
    }

    /// When a canary was stopped; nothing when it is not, or has to serve since nobody else has a weight.
    fn stopped(&self, spec: &RouteSpec, revision: &str) -> Option<i64> {
        if self.stops.is_empty() {
            return None;
        }
        let stop = |name: &str| self.stops.get(&(spec.model.as_str().into(), name.into()));
        let other_serves = |other: &RevisionSpec| other.weight > 0 && stop(&other.name).is_none();
        let stop = stop(revision).filter(|_| spec.revisions.iter().any(other_serves))?;
        Some(stop.event.at_unix_ms)
    }

    /// What people have to know of stopped canaries.
    fn conditions(&self, spec: &RouteSpec) -> Vec<Condition> {
        let of_revision = |revision: &RevisionSpec| {
            let stop = self
                .stops
                .get(&(spec.model.as_str().into(), revision.name.as_str().into()))?;
            let result = match self.stopped(spec, &revision.name) {
                Some(_) => "gets no traffic",
                None => "would get no traffic if another revision had a weight",
            };
            let problem = format!(
                "has revision `{}`, which {result}: {}; a POST to /canaries/resume on the admin port gives it back",
                revision.name,
                described(&stop.event)
            );
            Some(Condition::of(spec, Reason::CanaryStopped, problem))
        };
        spec.revisions.iter().filter_map(of_revision).collect()
    }

    fn revision(&mut self, old: Option<&Route>, route: &RouteSpec, spec: &RevisionSpec) -> Revision {
        let mut before = old.iter().flat_map(|old| &old.revisions);
        let before = before.find(|revision| *revision.name == *spec.name);
        let stopped = self.stopped(route, &spec.name);
        Revision {
            endpoints: self.endpoints(&spec.endpoints, &spec.grpc_endpoints),
            name: spec.name.as_str().into(),
            weight: if stopped.is_some() { 0 } else { spec.weight },
            stopped,
            headers: spec.headers.as_slice().into(),
            seed: sticky::seed(&spec.name),
            state: match before {
                Some(before) => Arc::clone(&before.state),
                None => Arc::new(RevisionState::new(&route.model, &spec.name, self.metrics())),
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
