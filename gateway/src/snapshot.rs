//! Which model goes where: immutable, replaced whole, read once by each request.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use plumbline_service::upstream::{Options, Target};

use crate::config::{RevisionSpec, RouteSpec};
use crate::endpoint::{Endpoint, Means};
use crate::metrics::{Metrics, ModelMetrics};
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

/// The endpoints of routes.
fn endpoints<'a>(routes: impl Iterator<Item = &'a Route>) -> HashMap<&'a Target, &'a Arc<Endpoint>> {
    routes
        .flat_map(|route| route.revisions.iter())
        .flat_map(|revision| revision.endpoints.iter().chain(&revision.grpc_endpoints))
        .map(|endpoint| (endpoint.target(), endpoint))
        .collect()
}

/// The current snapshot and its one writer. Requests load, [`Routes::replace`] builds the next one beside it.
#[derive(Debug)]
pub(crate) struct Routes {
    current: ArcSwap<Snapshot>,
    means: Arc<Means>,
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
            means: Arc::new(Means { metrics, options }),
            unknown,
            server,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.means.metrics
    }

    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Replaces every route at once. An endpoint that was there before keeps its connections, latency and health;
    /// requests that hold the old snapshot finish with it.
    ///
    /// One writer at a time: a snapshot is built from the one that it replaces.
    pub(crate) fn replace(&self, specs: Vec<Arc<RouteSpec>>) {
        let old = self.current.load_full();
        // One route of 5,000 that changes must not cost 5,000: those that are as they were are taken over.
        let (mut all, mut new) = (None, HashMap::new());
        let route = |spec: Arc<RouteSpec>| match old.route(&spec.model) {
            Some(route) if Arc::ptr_eq(&route.spec, &spec) || route.spec == spec => Arc::clone(route),
            known => {
                // Mostly a route's endpoints were its own before; only otherwise all are gone through.
                let own = known.map_or_else(HashMap::new, |route| endpoints([&**route].into_iter()));
                let endpoint = |target: &Target| {
                    let mut elsewhere = || {
                        let all =
                            all.get_or_insert_with(|| endpoints(old.routes.values().map(|route| &**route)));
                        all.get(target).map(|endpoint| Arc::clone(endpoint))
                    };
                    let existing = own.get(target).map(|endpoint| Arc::clone(endpoint));
                    existing.or_else(&mut elsewhere).unwrap_or_else(|| {
                        let make = || Arc::new(Endpoint::new(target.clone(), Arc::clone(&self.means)));
                        Arc::clone(new.entry(target.clone()).or_insert_with(make))
                    })
                };
                Arc::new(self.route(spec, known, endpoint))
            }
        };
        let routes: HashMap<_, _> = specs
            .into_iter()
            .map(route)
            .map(|route| (route.model.clone(), route))
            .collect();
        self.metrics().routes.set(routes.len() as i64);
        tracing::debug!(routes = routes.len(), "routes replaced");
        self.current.store(Arc::new(Snapshot { routes }));
    }

    fn route(
        &self,
        spec: Arc<RouteSpec>,
        known: Option<&Arc<Route>>,
        mut endpoint: impl FnMut(&Target) -> Arc<Endpoint>,
    ) -> Route {
        let mut revision = |spec: &RevisionSpec| Revision {
            name: spec.name.as_str().into(),
            weight: spec.weight,
            endpoints: spec.endpoints.iter().map(&mut endpoint).collect(),
            grpc_endpoints: spec.grpc_endpoints.iter().map(&mut endpoint).collect(),
            headers: spec.headers.as_slice().into(),
        };
        Route {
            model: spec.model.as_str().into(),
            revisions: spec.revisions.iter().map(&mut revision).collect(),
            split: Split::new(spec.revisions.iter().map(|revision| revision.weight)),
            timeout: spec.timeout,
            max_body: spec.max_body.0,
            metrics: match known {
                Some(known) => Arc::clone(&known.metrics),
                None => self.metrics().model(&spec.model),
            },
            spec,
        }
    }
}

#[cfg(test)]
mod tests {
    use plumbline_service::config::ParseSetting as _;
    use plumbline_service::metrics::Metrics as Registry;

    use super::*;

    fn spec(model: &str, urls: &[&str]) -> Arc<RouteSpec> {
        let target = |url: &&str| Target::parse_setting(url).expect("an endpoint");
        Arc::new(RouteSpec::new(model, urls.iter().map(target).collect()))
    }

    fn endpoints<'a>(snapshot: &'a Snapshot, model: &str) -> &'a [Arc<Endpoint>] {
        &snapshot.route(model).expect("routed").revisions[0].endpoints
    }

    #[tokio::test]
    async fn an_endpoint_keeps_its_state_when_routes_change() {
        let routes = Routes::new(Metrics::declare(&Registry::default()), Options::default());
        assert!(routes.load().route("churn").is_none());
        routes.replace(vec![
            spec("churn", &["http://127.0.0.1:1", "http://127.0.0.1:2"]),
            spec("iris", &["http://127.0.0.1:2"]),
        ]);
        let old = routes.load();
        let (churn, iris) = (endpoints(&old, "churn"), endpoints(&old, "iris"));
        assert!(Arc::ptr_eq(&churn[1], &iris[0]), "shared by routes");
        let pending = churn[1].begin();
        routes.replace(vec![spec("churn", &["http://127.0.0.1:2", "http://127.0.0.1:3"])]);
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
