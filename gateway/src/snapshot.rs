//! Which model goes where: immutable, replaced whole, read once by each request.

mod build;
mod known;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use http::Request;
use plumbline_service::upstream::Options;
use tokio::sync::Notify;

use crate::config::{Condition, RouteSpec};
use crate::endpoint::Means;
use crate::guard::Stops;
use crate::host::Host;
use crate::metrics::{Metrics, ModelMetrics};
use crate::route::Route;
use build::Build;
use known::Known;

/// All routes at one time.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    routes: HashMap<Box<str>, Arc<Route>>,
    hosts: HashMap<Arc<str>, Arc<Route>>,
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

    /// All routes, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
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

/// The current snapshot and its writers. Requests load; a writer builds the next one beside it.
#[derive(Debug)]
pub(crate) struct Routes {
    current: ArcSwap<Snapshot>,
    conditions: ArcSwap<Vec<Condition>>,
    /// One writer at a time: a snapshot is built from the one that it replaces.
    writing: Mutex<Writing>,
    means: Arc<Means>,
    stops: Stops,
    /// For requests that name a model without a route.
    pub(crate) unknown: Arc<ModelMetrics>,
    /// For requests that name no model.
    pub(crate) server: Arc<ModelMetrics>,
}

/// What each writer wants, and the endpoints of all. A model or a host that two want is the configuration's.
#[derive(Debug, Default)]
struct Writing {
    configured: Wanted,
    discovered: Wanted,
    known: Known,
}

#[derive(Debug, Default)]
struct Wanted {
    specs: Vec<Arc<RouteSpec>>,
    /// What the writer itself could not honour.
    conditions: Vec<Condition>,
}

impl Routes {
    /// No routes yet.
    pub(crate) fn new(metrics: Metrics, options: Options) -> Self {
        let (unknown, server) = (metrics.model("unknown"), metrics.model(""));
        Self {
            current: ArcSwap::default(),
            conditions: ArcSwap::default(),
            writing: Mutex::default(),
            means: Arc::new(Means::new(metrics, options)),
            stops: Stops::default(),
            unknown,
            server,
        }
    }

    /// The same, with canaries that get no traffic.
    pub(crate) fn with_stops(self, stops: Stops) -> Self {
        Self { stops, ..self }
    }

    pub(crate) fn stops(&self) -> &Stops {
        &self.stops
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.means.metrics
    }

    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Told when routes are replaced, when an endpoint comes back and when a probe has ended.
    pub(crate) fn changes(&self) -> &Notify {
        &self.means.changes
    }

    /// What of the current routes, or of those that should have replaced them, could not be honoured.
    pub(crate) fn conditions(&self) -> Arc<Vec<Condition>> {
        self.conditions.load_full()
    }

    /// Replaces the routes of the configuration at once. A route that is as it was stays; one that is not keeps its
    /// budgets and its revisions' limits; an endpoint that was there before keeps its connections, latency and health;
    /// requests that hold the old snapshot finish with it, then it is freed; those that wait for an endpoint look again.
    ///
    /// `conditions` are what the source itself could not honour. What is wrong with `specs` is added to them, and that
    /// part is left out: of two routes of one name the first stays, a match with a revision that is not there is none.
    pub(crate) fn configure(&self, mut specs: Vec<Arc<RouteSpec>>, conditions: Vec<Condition>) {
        self.write(|writing, old| {
            for spec in &mut specs {
                if let Some(route) = old.route(&spec.model)
                    && !Arc::ptr_eq(&route.spec, spec)
                    && *route.spec == **spec
                {
                    *spec = Arc::clone(&route.spec);
                }
            }
            writing.configured = Wanted { specs, conditions };
        });
    }

    /// Keeps the routes of the configuration, since those that should replace them cannot be used; whoever read them
    /// logs why.
    pub(crate) fn keep_configured(&self, conditions: Vec<Condition>) {
        self.write(|writing, _| writing.configured.conditions = conditions);
    }

    /// Replaces the routes that were discovered, as [`Self::configure`] does those of the configuration. A route stays
    /// whose spec is the very one that it was built from.
    pub(crate) fn discover(&self, specs: Vec<Arc<RouteSpec>>, conditions: Vec<Condition>) {
        self.write(|writing, _| writing.discovered = Wanted { specs, conditions });
    }

    /// Builds the routes anew of which a canary was stopped or resumed.
    pub(crate) fn look_again(&self) {
        self.write(|_, _| {});
    }

    fn write(&self, change: impl FnOnce(&mut Writing, &Snapshot)) {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let began = std::time::Instant::now();
        let old = self.current.load_full();
        change(&mut writing, &old);
        let Writing {
            configured,
            discovered,
            known,
        } = &mut *writing;
        let specs = configured.specs.iter().chain(&discovered.specs);
        let (snapshot, found) = Build::new(&old, known, &self.means, self.stops.all()).snapshot(specs);
        let routes = snapshot.routes.len();
        self.current.store(Arc::new(snapshot));
        self.changes().notify_waiters();
        tracing::debug!(routes, took = ?began.elapsed(), "routes replaced");
        self.metrics().routes.set(routes as i64);
        let told = configured.conditions.iter().chain(&discovered.conditions);
        self.tell(told.cloned().chain(found).collect());
    }

    /// Logs what began and what ended, and shows the rest.
    fn tell(&self, conditions: Vec<Condition>) {
        let before = self.conditions.swap(Arc::new(conditions));
        let now = self.conditions.load();
        let (old, new) = (set(&before), set(&now));
        for condition in new.difference(&old).take(LOGGED_CONDITIONS) {
            tracing::warn!(reason = condition.reason.label(), %condition, "not honoured");
        }
        for condition in old.difference(&new).take(LOGGED_CONDITIONS) {
            tracing::info!(reason = condition.reason.label(), %condition, "no longer a problem");
        }
        self.metrics().show_conditions(&now);
    }
}

fn set(conditions: &[Condition]) -> HashSet<&Condition> {
    conditions.iter().collect()
}

#[cfg(test)]
mod tests;
