//! Webhooks, API and pages on one port.

mod actions;
mod api;
mod approvals;
mod audit;
mod cost;
mod forms;
mod interventions;
mod layout;
mod outbox;
mod pages;
mod plot;
mod postmortem;
mod slack;
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

use crate::ask::Asker;
use crate::config::{Config, SlackConfig};
use crate::follow::Measurer;
use crate::http::HttpClient;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Wake};
use crate::prometheus::Prometheus;
use crate::provider::Model;
use crate::redact::Redactor;
use crate::slack::Slack;
use crate::store::Store;

/// What every handler needs.
pub(crate) struct Shared {
    store: Store,
    redactor: Redactor,
    metrics: Metrics,
    wake: Arc<Notify>,
    measurer: Arc<Measurer>,
    prometheus: Option<Prometheus>,
    /// Answers questions; none without Prometheus.
    asker: Option<Asker>,
    max_body_bytes: usize,
    /// Digest of the webhook token, so that comparing takes the same time for every guess.
    token: Option<[u8; 32]>,
    /// What GitHub's webhooks are signed with; without it none is taken.
    github_key: Option<ring::hmac::Key>,
    /// The same of what a person enters on the pages.
    console_token: Option<[u8; 32]>,
    /// Woken by what leads to effects.
    outbox: Wake,
    /// Where people reach the pages: a form may come from there.
    public_host: Option<String>,
    /// Slack, where it is used, with what its requests are checked with.
    slack: Option<(Slack, SlackConfig)>,
    /// Of a million tokens, in whatever money.
    price: Option<f64>,
    /// Shown in the pages' foot.
    provider: String,
}

impl Shared {
    pub(crate) fn new(
        config: &Config,
        outbox: &Outbox,
        measurer: Arc<Measurer>,
        redactor: Redactor,
        wake: Arc<Notify>,
    ) -> Self {
        let digest = |token: &String| Sha256::digest(token).into();
        let prometheus = Prometheus::configured(&config.sources, HttpClient::new());
        let asker = prometheus.clone().map(|prometheus| Asker {
            prometheus,
            model: Model::configured(
                &config.provider,
                HttpClient::new(),
                Some(outbox.store.clone()),
                redactor.clone(),
                outbox.metrics.clone(),
            ),
            redactor: redactor.clone(),
        });
        Self {
            store: outbox.store.clone(),
            redactor,
            metrics: outbox.metrics.clone(),
            wake,
            measurer,
            prometheus,
            asker,
            outbox: outbox.wake.clone(),
            slack: outbox.slack.clone().zip(config.actions.slack.clone()),
            public_host: config
                .actions
                .public_url
                .as_ref()
                .and_then(|url| url.authority())
                .map(ToString::to_string),
            console_token: config.actions.console_token.as_ref().map(digest),
            max_body_bytes: config.max_body_bytes,
            token: config.webhook_token.as_ref().map(digest),
            github_key: config
                .github
                .webhook_secret
                .as_deref()
                .map(|secret| ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes())),
            price: config.provider_price,
            provider: config.provider.title(),
        }
    }
}

/// Every route.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(pages::incidents))
        .route("/incidents/{id}", get(pages::incident))
        .route("/incidents/{id}/plots/{revision}/{plot}", get(plot::file))
        .route("/incidents/{id}/verdict", post(approvals::judge))
        .route("/approvals", get(approvals::page))
        .route("/approvals/{effect}", post(approvals::decide))
        .route("/outbox", get(outbox::page))
        .route("/outbox/{effect}/retry", post(outbox::retry))
        .route("/audit", get(audit::page))
        .route("/cost", get(cost::page))
        .route("/style.css", get(layout::style))
        .route("/api/v1/alerts", post(webhooks::alerts))
        .route("/api/v1/events", post(webhooks::events))
        .route("/api/v1/github", post(webhooks::github))
        .route("/api/v1/slack", post(slack::take))
        .route("/api/v1/ledger", get(api::ledger))
        .route("/api/v1/incidents", get(api::incidents))
        .route("/api/v1/incidents/{id}", get(api::incident))
        .route("/api/v1/incidents/{id}/interventions", post(interventions::tell))
        .route("/api/v1/incidents/{id}/postmortem.md", get(postmortem::markdown))
        .route("/api/v1/incidents/{id}/postmortem.json", get(postmortem::json))
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
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Not `no-referrer`: with that, a browser sends a form of ours with `Origin: null`.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
