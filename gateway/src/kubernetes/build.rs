//! From an InferenceService and the EndpointSlices of its Services to a route.

use std::collections::HashSet;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use plumbline_service::config::ParseSetting as _;
use plumbline_service::upstream::Target;

use super::endpoint_slice::{EndpointSlice, Ports};
use super::inference_service::{InferenceService, Mode, Traffic};
use super::object::Key;
use crate::config::{Condition, GuardSpec, Reason, RevisionSpec, RouteSpec};

/// Knative's activator, which stands before a revision without pods, asks for these.
const REVISION: HeaderName = HeaderName::from_static("knative-serving-revision");
const NAMESPACE: HeaderName = HeaderName::from_static("knative-serving-namespace");

/// Where slices are looked up.
pub(super) trait Slices {
    /// Those of a Service, in the order of their names.
    fn of(&self, service: &Key) -> impl Iterator<Item = &EndpointSlice>;
}

/// What came of an InferenceService.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) key: Key,
    pub(super) created: Box<str>,
    pub(super) mode: Option<Mode>,
    /// Nothing when it cannot be routed to.
    pub(super) route: Option<Arc<RouteSpec>>,
    /// Services whose slices were looked for: a change of one of them asks for a new build.
    pub(super) services: Vec<Key>,
    pub(super) conditions: Vec<Condition>,
}

/// Builds the route of `service`. `defaults` has the limits of a route that sets none.
pub(super) fn build(
    key: &Key,
    service: &InferenceService,
    slices: &impl Slices,
    defaults: &RouteSpec,
) -> Built {
    let mut builder = Builder {
        key,
        service,
        slices,
        services: Vec::new(),
        conditions: Vec::new(),
    };
    let mode = builder.mode();
    let revisions = match mode {
        None => Vec::new(),
        Some(Mode::Standard) => builder.standard(),
        Some(Mode::Knative) => builder.knative(),
    };
    let model = service.model_name.as_deref().unwrap_or(&key.name);
    let route = (!revisions.is_empty()).then(|| {
        Arc::new(RouteSpec {
            model: model.to_owned(),
            object: Some(key.to_string()),
            hosts: service.hosts.iter().map(ToString::to_string).collect(),
            guard: guard(defaults, &revisions, service.latest_ready_revision.as_deref()),
            revisions,
            protection: service.protection.as_deref().cloned().unwrap_or_default(),
            timeout: service.timeout.unwrap_or(defaults.timeout),
            ..defaults.clone()
        })
    });
    if let Err(problem) = &service.protection {
        let message = format!("{problem}; it is protected as without these annotations");
        builder.problem(Reason::AnnotationInvalid, message);
    }
    if service.has_explainer {
        builder.problem(
            Reason::ExplainerNotRouted,
            "requests for explanations go to the component that predicts",
        );
    }
    Built {
        key: key.clone(),
        created: service.created.clone(),
        mode,
        route,
        services: builder.services,
        conditions: builder.conditions,
    }
}

/// Compares with the revision that is not the newest.
fn guard(defaults: &RouteSpec, revisions: &[RevisionSpec], newest: Option<&str>) -> Option<GuardSpec> {
    let guard = defaults.guard.as_ref().filter(|_| revisions.len() > 1)?;
    let stable = revisions.iter().find(|revision| newest != Some(&revision.name));
    Some(GuardSpec {
        stable: stable?.name.clone(),
        ..guard.clone()
    })
}

/// What came of an InferenceService that cannot be read.
pub(super) fn unreadable(key: &Key, problem: &str) -> Built {
    Built {
        key: key.clone(),
        created: Box::default(),
        mode: None,
        route: None,
        services: Vec::new(),
        conditions: vec![condition(key, Reason::Malformed, problem)],
    }
}

/// Something about an object.
pub(super) fn condition(object: &Key, reason: Reason, problem: impl Into<String>) -> Condition {
    Condition {
        object: Some(object.to_string()),
        ..Condition::general(reason, problem.into())
    }
}

struct Builder<'a, S> {
    key: &'a Key,
    service: &'a InferenceService,
    slices: &'a S,
    services: Vec<Key>,
    conditions: Vec<Condition>,
}

impl<S: Slices> Builder<'_, S> {
    fn problem(&mut self, reason: Reason, message: impl Into<String>) {
        // Of two problems of a kind the first is told: an object and a reason are one condition.
        if self.conditions.iter().all(|told| told.reason != reason) {
            self.conditions.push(condition(self.key, reason, message));
        }
    }

    fn mode(&mut self) -> Option<Mode> {
        match &self.service.mode {
            Ok(mode) => Some(*mode),
            Err(mode) => {
                let message =
                    format!("mode `{mode}` has no Services of its own; expected Standard or Knative");
                self.problem(Reason::UnsupportedMode, message);
                None
            }
        }
    }

    /// The stable Service, and one for each of `spec.canary`.
    fn standard(&mut self) -> Vec<RevisionSpec> {
        let service = self.service;
        let name = &self.key.name;
        let component = if service.has_transformer {
            "transformer"
        } else {
            "predictor"
        };
        let stable = match service
            .predictor_name
            .as_deref()
            .filter(|_| !service.has_transformer)
        {
            Some(predictor) => format!("{name}-{predictor}-{component}"),
            None => format!("{name}-{component}"),
        };
        // Older versions of KServe write `-default` behind it.
        let older = format!("{name}-{component}-default");
        let exists = |service: &str| self.slices.of(&self.sibling(service)).next().is_some();
        let stable = if !exists(&stable) && exists(&older) {
            self.services.push(self.sibling(&stable));
            older
        } else {
            self.services.push(self.sibling(&older));
            stable
        };
        let mut revisions = vec![self.revision(RevisionSpec::ONLY, &stable, 100)];
        if let Some(percent) = service.canary_traffic_percent.filter(|percent| *percent != 100) {
            let message = format!(
                "canaryTrafficPercent = {percent} has no effect in Standard mode, where there is one revision; \
                 expected spec.canary, or Knative mode"
            );
            self.problem(Reason::CanaryNotHonoured, message);
        }
        let percents = || service.canaries.iter().map(|canary| canary.percent);
        if service.canaries.is_empty() {
            return revisions;
        }
        if service.has_transformer {
            self.problem(
                Reason::CanaryNotHonoured,
                "requests go to the transformer, which chooses the predictor",
            );
            return revisions;
        }
        let sum: i64 = percents().fold(0, i64::saturating_add);
        if percents().any(|percent| percent < 0) || sum > 100 {
            let message =
                format!("the percentages of spec.canary sum to {sum}; expected each ≥ 0, and a sum ≤ 100");
            self.problem(Reason::CanaryNotHonoured, message);
            return revisions;
        }
        for canary in &service.canaries {
            let weight = u32::try_from(canary.percent).unwrap_or_default();
            let mut revision =
                self.revision(&canary.name, &format!("{name}-{}-predictor", canary.name), weight);
            if revision.endpoints.is_empty() {
                let message = format!(
                    "canary `{}` has no endpoint; its {weight} % go to the stable revision",
                    canary.name
                );
                self.problem(Reason::CanaryNotReady, message);
                revision.weight = 0;
            }
            revisions[0].weight -= revision.weight;
            revisions.push(revision);
        }
        revisions
    }

    /// Each revision's public Service, which has its pods, or Knative's activator while there is none.
    fn knative(&mut self) -> Vec<RevisionSpec> {
        let service = self.service;
        let latest = service.latest_ready_revision.as_deref();
        if !service.canaries.is_empty() {
            self.problem(
                Reason::CanaryNotHonoured,
                "spec.canary has no effect in Knative mode; expected canaryTrafficPercent",
            );
        }
        let share = |traffic: &Traffic| {
            let weight = u32::try_from(traffic.percent?)
                .ok()
                .filter(|weight| *weight > 0)?;
            let named = traffic.revision_name.clone();
            let revision = named.or_else(|| latest.filter(|_| traffic.latest_revision).map(Box::from))?;
            Some((revision, weight))
        };
        let mut shares: Vec<(Box<str>, u32)> = Vec::new();
        for (revision, weight) in service.traffic.iter().filter_map(share) {
            match shares.iter_mut().find(|(other, _)| *other == revision) {
                Some((_, sum)) => *sum = sum.saturating_add(weight),
                None => shares.push((revision, weight)),
            }
        }
        if shares.is_empty() {
            shares.extend(latest.map(|revision| (revision.into(), 100)));
        }
        if shares.is_empty() {
            self.problem(
                Reason::NoReadyRevision,
                "the status has no revision that is ready",
            );
            return vec![RevisionSpec::only(Vec::new())];
        }
        let mut revisions = Vec::with_capacity(shares.len());
        for (name, weight) in shares {
            let mut revision = self.revision(&name, &name, weight);
            let headers = [(NAMESPACE, &self.key.namespace), (REVISION, &name)];
            let headers = headers
                .into_iter()
                .filter_map(|(header, value)| Some((header, HeaderValue::from_str(value).ok()?)));
            revision.headers = headers.collect();
            revisions.push(revision);
        }
        revisions
    }

    fn sibling(&self, name: &str) -> Key {
        Key::new(&self.key.namespace, name)
    }

    /// A revision with the endpoints of a Service.
    fn revision(&mut self, name: &str, service: &str, weight: u32) -> RevisionSpec {
        let key = self.sibling(service);
        let mut revision = RevisionSpec {
            name: name.to_owned(),
            weight,
            ..RevisionSpec::only(Vec::new())
        };
        let slices: Vec<&EndpointSlice> = self.slices.of(&key).collect();
        let mut addresses = Vec::new();
        let mut names_only = !slices.is_empty();
        for slice in &slices {
            names_only &= slice.has_names;
            addresses.extend(slice.ready.iter().map(|address| (address, slice.ports)));
        }
        if slices.is_empty() {
            self.problem(
                Reason::NoService,
                format!("Service `{service}` has no EndpointSlice"),
            );
        } else if names_only {
            let message = format!("the endpoints of Service `{service}` are host names; expected addresses");
            self.problem(Reason::AddressType, message);
        } else if !addresses.is_empty() && addresses.iter().all(|(_, ports)| *ports == Ports::default()) {
            let message =
                format!("Service `{service}` has no TCP port without TLS that requests can be sent to");
            self.problem(Reason::NoPort, message);
        }
        // A pod that has addresses of both families is one endpoint, by IPv4; one that moves from slice to slice is
        // in both for a while.
        addresses.sort_by_key(|(address, _)| address.ip);
        let mut pods = HashSet::new();
        addresses.retain(|(address, _)| address.pod.is_empty() || pods.insert(&address.pod));
        addresses.dedup_by_key(|(address, ports)| (address.ip, *ports));
        for (address, ports) in addresses {
            let target = |port: u16| {
                let url = format!("http://{}", std::net::SocketAddr::from((address.ip, port)));
                Target::parse_setting(&url).expect("an address and a port are an endpoint")
            };
            revision.endpoints.extend(ports.rest.or(ports.grpc).map(target));
            revision
                .grpc_endpoints
                .extend(ports.grpc.filter(|_| ports.rest.is_some()).map(target));
        }
        // They stay as long as the route does.
        revision.endpoints.shrink_to_fit();
        revision.grpc_endpoints.shrink_to_fit();
        self.services.push(key);
        revision
    }
}
