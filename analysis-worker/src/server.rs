//! Webhooks, API and pages on one port.

mod api;
mod layout;
mod pages;
mod plot;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use plumbline_service::{REQUEST_ID, RequestId};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::redact::Redactor;
use crate::store::Store;

/// What every handler needs.
pub(crate) struct Shared {
    store: Store,
    redactor: Redactor,
    metrics: Metrics,
    wake: Arc<Notify>,
    max_body_bytes: usize,
    /// Digest of the webhook token, so that comparing takes the same time for every guess.
    token: Option<[u8; 32]>,
    /// Shown in the pages' foot.
    provider: String,
}

impl Shared {
    pub(crate) fn new(
        config: &Config,
        store: Store,
        redactor: Redactor,
        metrics: Metrics,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            store,
            redactor,
            metrics,
            wake,
            max_body_bytes: config.max_body_bytes,
            token: config
                .webhook_token
                .as_deref()
                .map(|token| Sha256::digest(token).into()),
            provider: config.provider.title(),
        }
    }
}

/// Every route.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(pages::incidents))
        .route("/incidents/{id}", get(pages::incident))
        .route("/style.css", get(layout::style))
        .route("/api/v1/alerts", post(webhooks::alerts))
        .route("/api/v1/events", post(webhooks::events))
        .route("/api/v1/incidents", get(api::incidents))
        .route("/api/v1/incidents/{id}", get(api::incident))
        .route("/api/v1/incidents/{id}/report", get(api::report_json))
        .route("/api/v1/incidents/{id}/report.json", get(api::report_json))
        .route("/api/v1/incidents/{id}/report.md", get(api::report_markdown))
        .fallback(pages::not_found)
        .layer(from_fn(headers))
        .with_state(shared)
}

/// A request id in and out, and headers that keep a page from loading or running anything but its own style.
async fn headers(mut request: Request, next: Next) -> Response {
    let id = RequestId::ensure(request.headers_mut());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.header_value());
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
