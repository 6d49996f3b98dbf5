//! Which model goes where: immutable, replaced whole, read once by each request.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, Guard};
use plumbline_service::upstream::{Options, Target};
use tokio::sync::Notify;

use crate::config::{RevisionSpec, RouteSpec};
use crate::endpoint::Endpoint;
use crate::metrics::{Metrics, ModelMetrics};
use crate::protection::{RevisionState, RouteState};
use crate::route::{Revision, Route, Split};

/// All routes at one time.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    routes: HashMap<Box<str>, Arc<Route>>,
}

impl Snapshot {
    pub(crate) fn route(&self, model: &str) -> Option<&Arc<Route>> {
        self.routes.get(model)
    }

    /// All routes, by the model's name.
    pub(crate) fn sorted(&self) -> Vec<&Arc<Route>> {
        let mut routes: Vec<_> = self.routes.values().collect();
        routes.sort_by(|a, b| a.model.cmp(&b.model));
        routes
    }
}

/// The current snapshot and its one writer. Requests load, [`Routes::replace`] builds the next one beside it.
#[derive(Debug)]
pub(crate) struct Routes {
    current: ArcSwap<Snapshot>,
    metrics: Metrics,
    options: Options,
    /// Told when routes are replaced and when what is known of an endpoint changes.
    changes: Arc<Notify>,
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
            metrics,
            options,
            changes: Arc::default(),
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

    /// Replaces every route at once. An endpoint that was there before keeps its connections, latency and health;
    /// requests that hold the old snapshot finish with it.
    ///
    /// One writer at a time: a snapshot is built from the one that it replaces.
    pub(crate) fn replace(&self, specs: &[RouteSpec]) {
        let old = self.current.load_full();
        let mut endpoints: HashMap<String, Arc<Endpoint>> = old
            .routes
            .values()
            .flat_map(|route| route.revisions.iter())
            .flat_map(|revision| revision.endpoints.iter())
            .map(|endpoint| (endpoint.target().to_string(), Arc::clone(endpoint)))
            .collect();
        let mut endpoint = |target: &Target| {
            let existing = endpoints.entry(target.to_string());
            let endpoint = existing.or_insert_with(|| Arc::new(self.endpoint(target)));
            Arc::clone(endpoint)
        };
        let mut revision = |model: &str, spec: &RevisionSpec| {
            let mut revisions = old.route(model).into_iter().flat_map(|route| &route.revisions);
            let kept = revisions.find(|old| *old.name == *spec.name);
            let new = || Arc::new(RevisionState::new(model, &spec.name, &self.metrics));
            Arc::new(Revision {
                name: spec.name.as_str().into(),
                weight: spec.weight,
                endpoints: spec.endpoints.iter().map(&mut endpoint).collect(),
                state: kept.map_or_else(new, |old| Arc::clone(&old.state)),
            })
        };
        let route = |spec: &RouteSpec| {
            let kept = old.route(&spec.model);
            let state = || {
                Arc::new(RouteState::new(
                    &spec.model,
                    &self.metrics,
                    Arc::clone(&self.changes),
                ))
            };
            Route {
                model: spec.model.as_str().into(),
                revisions: spec
                    .revisions
                    .iter()
                    .map(|of| revision(&spec.model, of))
                    .collect(),
                split: Split::new(spec.revisions.iter().map(|revision| revision.weight)),
                timeout: spec.timeout,
                max_body: spec.max_body.0,
                metrics: kept.map_or_else(|| self.metrics.model(&spec.model), |old| Arc::clone(&old.metrics)),
                protection: spec.protection.clone(),
                state: kept.map_or_else(state, |old| Arc::clone(&old.state)),
            }
        };
        let routes: HashMap<_, _> = specs
            .iter()
            .map(route)
            .map(|route| (route.model.clone(), Arc::new(route)))
            .collect();
        self.metrics.routes.set(routes.len() as i64);
        tracing::info!(routes = routes.len(), "routes replaced");
        let new = Arc::new(Snapshot { routes });
        self.current.store(Arc::clone(&new));
        for gone in old
            .routes
            .values()
            .filter(|route| new.route(&route.model).is_none())
        {
            gone.state.hold.publish(Weak::new());
        }
        for route in new.routes.values() {
            route.state.hold.publish(Arc::downgrade(route));
        }
        self.changes.notify_waiters();
    }

    fn endpoint(&self, target: &Target) -> Endpoint {
        let metrics = self.metrics.endpoint(&target.to_string());
        let mut options = self.options.clone();
        options.metrics = metrics.connections.clone();
        Endpoint::new(target.clone(), options, metrics, Arc::clone(&self.changes))
    }
}

#[cfg(test)]
mod tests {
    use plumbline_service::config::ParseSetting as _;
    use plumbline_service::metrics::Metrics as Registry;

    use super::*;

    fn spec(model: &str, urls: &[&str]) -> RouteSpec {
        let target = |url: &&str| Target::parse_setting(url).expect("an endpoint");
        RouteSpec::new(model, urls.iter().map(target).collect())
    }

    fn endpoints<'a>(snapshot: &'a Snapshot, model: &str) -> &'a [Arc<Endpoint>] {
        &snapshot.route(model).expect("routed").revisions[0].endpoints
    }

    #[tokio::test]
    async fn an_endpoint_keeps_its_state_when_routes_change() {
        let routes = Routes::new(Metrics::declare(&Registry::default()), Options::default());
        assert!(routes.load().route("churn").is_none());
        routes.replace(&[
            spec("churn", &["http://127.0.0.1:1", "http://127.0.0.1:2"]),
            spec("iris", &["http://127.0.0.1:2"]),
        ]);
        let old = routes.load();
        let (churn, iris) = (endpoints(&old, "churn"), endpoints(&old, "iris"));
        assert!(Arc::ptr_eq(&churn[1], &iris[0]), "shared by routes");
        let pending = churn[1].begin(tokio::time::Instant::now());
        routes.replace(&[spec("churn", &["http://127.0.0.1:2", "http://127.0.0.1:3"])]);
        let new = routes.load();
        assert_eq!(endpoints(&new, "churn")[0].pending(), 1);
        assert!(new.route("iris").is_none());
        assert_eq!(
            old.sorted().len(),
            2,
            "a request that holds the old snapshot finishes with it"
        );
        drop(pending);
        assert_eq!(endpoints(&new, "churn")[0].pending(), 0);
    }
}
