//! Routes from Kubernetes: KServe's InferenceServices say which models there are, EndpointSlices where they are served.
//!
//! A [`reflector`] follows each collection and tells its changes; the one writer keeps them in the [`catalog`], which
//! [`build`]s what they touch, and replaces the routes that were discovered. What cannot be honoured is a
//! [`Condition`](crate::config::Condition). While the API server is away, what it told last goes on serving.

mod build;
mod catalog;
mod endpoint_slice;
mod inference_service;
mod object;
mod page;
mod reflector;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use plumbline_service::admin::Admin;
use plumbline_service::{ReadinessToken, Shutdown};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::RouteSpec;
use crate::metrics::DiscoveryMetrics;
use crate::snapshot::Routes;
use catalog::{Catalog, View};
use endpoint_slice::EndpointSlice;
use inference_service::InferenceService;
use object::Kind;
use reflector::{Change, Reflector, path};

/// What to discover, and where.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// The file that says where the API server is and who we are; nothing for the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Namespaces that are looked in; none for all.
    pub namespaces: Vec<String>,
    /// Labels that InferenceServices must have, as `kubectl --selector` takes them.
    pub selector: Option<String>,
    /// The deadline and body limit of routes whose object sets none; the rest is not used.
    pub defaults: RouteSpec,
}

/// Changes that wait for the writer. When it is behind, reflectors wait, and with them the API server.
const EVENTS: usize = 256;
/// Changes taken in before routes are replaced, so that a burst which never ends is not waited for.
const BURST: usize = 4_096;
/// Replacing the routes takes at most one part in this many of one core: after it the writer rests, and what came
/// meanwhile is one change.
const REST: u32 = 4;

/// A change, and the index of the collection it is in.
#[derive(Debug)]
enum Event {
    Services(usize, Change<InferenceService>),
    Slices(usize, Change<EndpointSlice>),
}

/// How a collection stands.
#[derive(Clone, Debug)]
struct Collection {
    namespace: Option<String>,
    path: String,
    /// It has been listed.
    known: bool,
    /// Since when what is known may not be what there is.
    stale_since: Option<Instant>,
}

/// What the page shows.
#[derive(Debug, Default)]
struct Shown {
    collections: ArcSwap<Vec<Collection>>,
    services: ArcSwap<Vec<Arc<build::Built>>>,
}

/// The writer of the routes that are discovered.
pub(crate) struct Discovery {
    routes: Arc<Routes>,
    catalog: Catalog,
    collections: Vec<Collection>,
    events: mpsc::Receiver<Event>,
    reflectors: JoinSet<()>,
    metrics: DiscoveryMetrics,
    shown: Arc<Shown>,
    /// Held until everything has been listed once.
    waiting: Option<ReadinessToken>,
}

impl Discovery {
    /// Begins to follow the API server.
    ///
    /// # Errors
    /// There is no usable kubeconfig, or no service account of a pod.
    pub(crate) async fn start(
        kubernetes: &Kubernetes,
        routes: Arc<Routes>,
        admin: &Admin,
        waiting: ReadinessToken,
    ) -> anyhow::Result<Self> {
        let client = client(kubernetes.kubeconfig.as_ref()).await?;
        let namespaces: Vec<Option<String>> = match kubernetes.namespaces.as_slice() {
            [] => vec![None],
            names => names.iter().cloned().map(Some).collect(),
        };
        let (sender, events) = mpsc::channel(EVENTS);
        let mut collections = Vec::new();
        let mut reflectors = JoinSet::new();
        let now = Instant::now();
        for namespace in namespaces {
            let source = collections.len();
            let selector = kubernetes.selector.clone();
            let services = reflector(&client, namespace.as_deref(), selector, &sender, move |change| {
                Event::Services(source, change)
            });
            let slices = reflector(&client, namespace.as_deref(), None, &sender, move |change| {
                Event::Slices(source + 1, change)
            });
            for path in [&services.path, &slices.path] {
                collections.push(Collection {
                    namespace: namespace.clone(),
                    path: path.clone(),
                    known: false,
                    stale_since: Some(now),
                });
            }
            reflectors.spawn(services.run());
            reflectors.spawn(slices.run());
        }
        let metrics = routes.metrics().discovery.clone();
        let shown = Arc::<Shown>::default();
        page::add(admin, Arc::clone(&shown));
        Ok(Self {
            catalog: Catalog::new(kubernetes.defaults.clone()),
            routes,
            collections,
            events,
            reflectors,
            metrics,
            shown,
            waiting: Some(waiting),
        })
    }

    /// Keeps the routes current until `shutdown` begins to close.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut rested = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.stop_accepting() => break,
                event = self.events.recv() => {
                    let event = event.expect("the reflectors live as long as this");
                    self.take(event);
                    for _ in 0..BURST {
                        match self.events.try_recv() {
                            Ok(event) => self.take(event),
                            Err(_) => break,
                        }
                    }
                }
                () = tokio::time::sleep_until(rested), if self.is_due() => {
                    let began = Instant::now();
                    self.publish();
                    let took = began.elapsed();
                    tracing::debug!(?took, "routes follow Kubernetes");
                    rested = Instant::now() + took * REST;
                }
                _ = second.tick() => self.show_staleness(),
            }
        }
        self.events.close();
        while self.reflectors.join_next().await.is_some() {}
    }

    fn take(&mut self, event: Event) {
        let (Event::Services(source, _) | Event::Slices(source, _)) = event;
        let health = match &event {
            Event::Services(_, change) => Health::of(change),
            Event::Slices(_, change) => Health::of(change),
        };
        let collection = &mut self.collections[source];
        match health {
            Health::Unchanged => {}
            Health::Known => collection.known = true,
            Health::Following => collection.stale_since = None,
            Health::Lost => {
                collection.stale_since.get_or_insert_with(Instant::now);
            }
        }
        if !matches!(health, Health::Unchanged) {
            self.shown.collections.store(Arc::new(self.collections.clone()));
            self.show_staleness();
        }
        let namespace = self.collections[source].namespace.as_deref();
        match event {
            Event::Services(_, change) => self.catalog.change_services(namespace, change),
            Event::Slices(_, change) => self.catalog.change_slices(namespace, change),
        }
    }

    /// Whether there is something to publish. Until everything has been listed there is not: a part would take routes
    /// away that are there.
    fn is_due(&self) -> bool {
        self.collections.iter().all(|collection| collection.known)
            && (self.catalog.has_changed() || self.waiting.is_some())
    }

    fn publish(&mut self) {
        let View {
            routes,
            services,
            conditions,
        } = self.catalog.view();
        self.routes.discover(routes, conditions);
        self.metrics.services.set(services.len() as i64);
        self.shown.services.store(Arc::new(services));
        if self.waiting.take().is_some() {
            tracing::info!("discovery knows everything once");
        }
    }

    fn show_staleness(&self) {
        let now = Instant::now();
        let stale = |collection: &Collection| collection.stale_since.map(|since| now - since);
        let stalest = self.collections.iter().filter_map(stale).max();
        self.metrics.up.set(i64::from(stalest.is_none()));
        self.metrics
            .staleness
            .set(stalest.unwrap_or_default().as_secs_f64());
    }
}

/// What a change says of its collection.
enum Health {
    Known,
    Following,
    Lost,
    Unchanged,
}

impl Health {
    fn of<T>(change: &Change<T>) -> Self {
        match change {
            Change::Replaced(_) => Self::Known,
            Change::Following => Self::Following,
            Change::Lost => Self::Lost,
            Change::Applied(_) | Change::Deleted(_) => Self::Unchanged,
        }
    }
}

fn reflector<T: Kind>(
    client: &Client,
    namespace: Option<&str>,
    label_selector: Option<String>,
    events: &mpsc::Sender<Event>,
    event: impl Fn(Change<T>) -> Event + Send + Sync + 'static,
) -> Reflector<T, Event> {
    Reflector {
        client: client.clone(),
        path: path::<T>(namespace),
        label_selector,
        events: events.clone(),
        event: Box::new(event),
    }
}

async fn client(kubeconfig: Option<&PathBuf>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).context("`kubeconfig` cannot be used")?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .context("`kubeconfig` cannot be used")?
        }
        None => kube::Config::incluster()
            .context("no service account of a pod; outside of a cluster, `kubeconfig` is needed")?,
    };
    // Attempts and their waits are the reflector's.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    Client::try_from(config).context("the API server cannot be spoken to")
}
