//! `/discovery` on the admin port: how Kubernetes is followed, and what became of each InferenceService.

use std::sync::Arc;

use http::StatusCode;
use plumbline_service::admin::{Admin, json};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Shown;

/// Adds the page.
pub(super) fn add(admin: &Admin, shown: Arc<Shown>) {
    admin.page("/discovery", move |_query| {
        json(StatusCode::OK, &page(&shown, Instant::now()))
    });
}

fn page(shown: &Shown, now: Instant) -> Value {
    let (collections, services) = (shown.collections.load(), shown.services.load());
    let collections = collections.iter().map(|collection| {
        let stale = collection.stale_since.map(|since| (now - since).as_secs_f64());
        json!({"path": collection.path, "listed": collection.known, "stale_seconds": stale})
    });
    let services = services.iter().map(|built| {
        json!({
            "namespace": built.key.namespace,
            "name": built.key.name,
            "mode": built.mode.map(super::inference_service::Mode::name),
            "model": built.route.as_ref().map(|route| route.model.as_str()),
        })
    });
    json!({
        "collections": collections.collect::<Vec<_>>(),
        "services": services.collect::<Vec<_>>(),
    })
}
