//! `/routes` and `/` on the admin port: which model goes where, how the endpoints are, and what could not be honoured.

mod html;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use plumbline_service::admin::{self, Admin};
use plumbline_service::upstream::Upstream;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::{Condition, GuardSpec, MirrorTo};
use crate::endpoint::{Endpoint, Endpoints};
use crate::mirror::Mirror;
use crate::protection::{endpoint_shown, revision_shown};
use crate::route::{HeaderMatch, Revision, Route};
use crate::snapshot::Routes;

/// Adds the pages.
pub(crate) fn add(admin: &Admin, routes: Arc<Routes>) {
    admin.page("/routes", {
        let routes = Arc::clone(&routes);
        move |_query| admin::json(StatusCode::OK, &shown(&routes))
    });
    // The same for people.
    admin.page("/", move |_query| {
        admin::html(StatusCode::OK, html::page(&shown(&routes)))
    });
}

fn shown(routes: &Routes) -> Value {
    let (snapshot, now) = (routes.load(), Instant::now());
    let shown: Vec<Value> = snapshot
        .sorted()
        .iter()
        .map(|route| shown_route(route, now))
        .collect();
    let condition = |condition: &Condition| {
        let Condition {
            reason,
            route,
            object,
            problem,
        } = condition;
        json!({"reason": reason.label(), "route": route, "object": object, "problem": problem})
    };
    let conditions: Vec<Value> = routes.conditions().iter().map(condition).collect();
    json!({ "routes": shown, "conditions": conditions })
}

fn shown_route(route: &Route, now: Instant) -> Value {
    let slow_start = route.spec.protection.slow_start;
    let revision = |revision: &Arc<Revision>| {
        json!({
            "name": revision.name,
            "weight": revision.weight,
            "stopped_at_unix_ms": revision.stopped,
            "state": revision_shown(route, revision),
            "endpoints": shown_endpoints(&revision.endpoints, slow_start, now),
        })
    };
    let revision_name = |index: usize| &route.revisions[index].name;
    let header_match = |matched: &HeaderMatch| {
        json!({
            "header": matched.header.as_str(),
            "value": String::from_utf8_lossy(matched.value.as_bytes()),
            "revision": revision_name(matched.revision),
        })
    };
    let fallback = route
        .fallback
        .as_ref()
        .map(|fallback| revision_name(fallback.revision));
    json!({
        "model": route.model,
        "object": route.spec.object,
        "hosts": route.hosts.iter().map(|host| &**host).collect::<Vec<_>>(),
        "timeout_ms": route.spec.timeout.as_secs_f64() * 1e3,
        "max_body_bytes": route.spec.max_body.0,
        "matches": route.matches.iter().map(header_match).collect::<Vec<_>>(),
        "sticky": route.spec.sticky.as_ref().map(ToString::to_string),
        "fallback": fallback,
        "mirror": route.mirror.as_ref().map(|mirror| shown_mirror(mirror, now)),
        "guard": route.spec.guard.as_ref().map(shown_guard),
        "held": route.state.hold.held(),
        "revisions": route.revisions.iter().map(revision).collect::<Vec<_>>(),
    })
}

fn shown_guard(guard: &GuardSpec) -> Value {
    let GuardSpec {
        stable,
        errors,
        slower,
        sidecar_port,
    } = guard;
    json!({
        "stable": stable,
        "errors": errors.fraction(),
        "slower": slower.fraction(),
        "sidecar_port": sidecar_port,
    })
}

fn shown_mirror(mirror: &Mirror, now: Instant) -> Value {
    let spec = &mirror.spec;
    let (revision, endpoints) = match &spec.to {
        MirrorTo::Revision(name) => (Some(name), Vec::new()),
        MirrorTo::Endpoints(_) => (None, shown_endpoints(&mirror.endpoints, Duration::ZERO, now)),
    };
    json!({
        "revision": revision,
        "endpoints": endpoints,
        "share": spec.share.fraction(),
        "max_in_flight": spec.max_in_flight,
        "max_bytes": spec.max_bytes.0,
        "compare": spec.compare,
    })
}

fn shown_endpoints(endpoints: &Endpoints, slow_start: Duration, now: Instant) -> Vec<Value> {
    let endpoint = |endpoint: &Arc<Endpoint>| {
        let latency = endpoint.latency(now).map(|latency| latency.as_secs_f64() * 1e3);
        let upstream = endpoint.used_before().map(|used| &used.upstream);
        json!({
            "endpoint": endpoint.target().to_string(),
            "state": endpoint_shown(endpoint, slow_start, now),
            "latency_ms": latency,
            "pending": endpoint.pending(),
            "idle_http1_connections": upstream.map_or(0, Upstream::idle_http1),
            "http2_connections": upstream.map_or(0, Upstream::http2_connections),
        })
    };
    endpoints.all().map(endpoint).collect()
}
