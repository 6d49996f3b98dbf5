//! `/routes` on the admin port: which model goes where, and how the endpoints are.

use std::sync::Arc;

use http::StatusCode;
use plumbline_service::admin::{Admin, json};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::endpoint::Endpoint;
use crate::route::{Revision, Route};
use crate::snapshot::Routes;

/// Adds the page.
pub(crate) fn add(admin: &Admin, routes: Arc<Routes>) {
    admin.page("/routes", move |_query| {
        let (snapshot, now) = (routes.load(), Instant::now());
        let routes: Vec<Value> = snapshot.sorted().iter().map(|route| shown(route, now)).collect();
        json(StatusCode::OK, &json!({ "routes": routes }))
    });
}

fn shown(route: &Route, now: Instant) -> Value {
    let endpoint = |endpoint: &Arc<Endpoint>| {
        let latency = endpoint.latency(now).map(|latency| latency.as_secs_f64() * 1e3);
        json!({
            "endpoint": endpoint.target().to_string(),
            "health": if endpoint.is_avoided(now) { "avoided" } else { "good" },
            "latency_ms": latency,
            "pending": endpoint.pending(),
            "idle_http1_connections": endpoint.used().map_or(0, |used| used.upstream.idle_http1()),
            "http2_connections": endpoint.used().map_or(0, |used| used.upstream.http2_connections()),
        })
    };
    let revision = |revision: &Revision| {
        json!({
            "name": revision.name,
            "weight": revision.weight,
            "endpoints": revision.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
            "grpc_endpoints": revision.grpc_endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        })
    };
    json!({
        "model": route.model,
        "timeout_ms": route.timeout.as_secs_f64() * 1e3,
        "max_body_bytes": route.max_body,
        "revisions": route.revisions.iter().map(revision).collect::<Vec<_>>(),
    })
}
