//! Which model goes where: immutable, replaced whole, read once by each request.

mod build;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use http::Request;
use plumbline_service::upstream::Options;

use crate::config::{Condition, RouteSpec, check};
use crate::host::Host;
use crate::metrics::{Metrics, ModelMetrics};
use crate::route::Route;
use build::Build;

/// All routes at one time.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    routes: HashMap<Box<str>, Arc<Route>>,
    hosts: HashMap<Box<str>, Arc<Route>>,
}

impl Snapshot {
    pub(crate) fn route(&self, model: &str) -> Option<&Arc<Route>> {
        self.routes.get(model)
    }

    /// The route whose host a request is for.
    pub(crate) fn by_host<B>(&self, request: &Request<B>) -> Option<&Arc<Route>> {
        if self.hosts.is_empty() {
            return None;
        }
        self.hosts.get(Host::of(request)?.as_str())
    }

    /// All routes, by the model's name.
    pub(crate) fn sorted(&self) -> Vec<&Arc<Route>> {
        let mut routes: Vec<_> = self.routes.values().collect();
        routes.sort_by(|a, b| a.model.cmp(&b.model));
        routes
    }
}

/// Conditions that are logged one by one when routes are replaced; the admin page has all.
const LOGGED_CONDITIONS: usize = 20;

/// The current snapshot and its writers. Requests load, [`Routes::replace`] builds the next one beside it.
#[derive(Debug)]
pub(crate) struct Routes {
    current: ArcSwap<Snapshot>,
    conditions: ArcSwap<Vec<Condition>>,
    /// One writer at a time: a snapshot is built from the one that it replaces.
    writer: Mutex<()>,
    metrics: Metrics,
    options: Options,
    /// For requests that name a model without a route.
    pub(crate) unknown: Arc<ModelMetrics>,
    /// For requests that name no model.
    pub(crate) server: Arc<ModelMetrics>,
}

impl Routes {
    /// No routes yet.
    pub(crate) fn new(metrics: Metrics, options: Options) -> Self {
        let (unknown, server) = (metrics.model("unknown"), metrics.model(""));
        Self {
            current: ArcSwap::default(),
            conditions: ArcSwap::default(),
            writer: Mutex::default(),
            metrics,
            options,
            unknown,
            server,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// What of the current routes, or of those that should have replaced them, could not be honoured.
    pub(crate) fn conditions(&self) -> Arc<Vec<Condition>> {
        self.conditions.load_full()
    }

    /// Replaces every route at once. A route that is as it was stays; an endpoint that was there before keeps its
    /// connections, latency and health; requests that hold the old snapshot finish with it, then it is freed.
    ///
    /// `conditions` are what the source itself could not honour. What is wrong with `specs` is added to them, and that
    /// part is left out: of two routes of one name the first stays, a match with a revision that is not there is none.
    pub(crate) fn replace(&self, specs: &[RouteSpec], mut conditions: Vec<Condition>) {
        let _one_at_a_time = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let began = std::time::Instant::now();
        let old = self.current.load_full();
        let snapshot = Build::new(&old, &self.metrics, &self.options).snapshot(specs);
        let routes = snapshot.routes.len();
        self.current.store(Arc::new(snapshot));
        tracing::info!(routes, took = ?began.elapsed(), "routes replaced");
        self.metrics.routes.set(routes as i64);
        conditions.extend(check(specs));
        let before = self.conditions.load();
        let new = conditions.iter().filter(|condition| !before.contains(condition));
        for condition in new.take(LOGGED_CONDITIONS) {
            tracing::warn!(%condition, "not honoured");
        }
        self.set_conditions(conditions);
    }

    /// Keeps the routes as they are, since those that should replace them cannot be used; whoever read them logs why.
    pub(crate) fn keep(&self, conditions: Vec<Condition>) {
        let _one_at_a_time = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.set_conditions(conditions);
    }

    fn set_conditions(&self, conditions: Vec<Condition>) {
        self.metrics.route_conditions.set(conditions.len() as i64);
        self.conditions.store(Arc::new(conditions));
    }
}

#[cfg(test)]
mod tests;
