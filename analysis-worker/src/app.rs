//! The running worker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plumbline_service::traces::{TraceRequests, Tracer};
use plumbline_service::{Listener, Process, ServeOptions, Shutdown};
use tokio::sync::{Notify, broadcast};

use crate::analysis::Analyst;
use crate::backfill::Backfill;
use crate::config::Config;
use crate::follow::{Follower, Measurer, Patience};
use crate::github::GitHub;
use crate::http::HttpClient;
use crate::metrics::Metrics;
use crate::outbox::{self, Outbox};
use crate::prometheus::Prometheus;
use crate::redact::Redactor;
use crate::runner::{FinishedReport, Runner};
use crate::server::{self, Shared};
use crate::slack::Slack;
use crate::slack::message::Links;
use crate::store::{Closed, Store};
use crate::watch::Watch;

/// Time for the store to be closed after everything has ended.
const CLOSING: Duration = Duration::from_secs(5);
/// Reports that a slow listener may be behind before it misses some.
const REPORTS: usize = 64;

/// Time for one answer of Prometheus about alerts that were missed; nobody waits for it.
const BACKFILL_TIMEOUT: Duration = Duration::from_secs(30);

/// A bound worker: the port is open and the store is at hand, nothing is answered yet.
pub struct App {
    listener: Listener,
    shared: Arc<Shared>,
    runner: Runner,
    outbox: Outbox,
    follower: Follower,
    backfill: Backfill,
    watch: Watch,
    store_closed: Closed,
    shutdown: Shutdown,
    tracer: Tracer,
    serve_options: ServeOptions,
    reports: broadcast::Sender<Arc<FinishedReport>>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

impl App {
    /// Opens the store and the port.
    ///
    /// # Errors
    /// [`crate::OpenError`] of the store, [`plumbline_service::BindError`] of the port, a kubeconfig that cannot be used.
    pub async fn bind(config: Config, process: &Process) -> anyhow::Result<Self> {
        let metrics = Metrics::declare(process.metrics());
        let redactor = Redactor::new(&config.secrets(), config.redact_addresses);
        let actions = &config.actions;
        let store = Store::open(&config.store, config.store_busy_timeout, actions.policy.clone())?;
        let store_closed = store.closed();
        let listener = Listener::bind(config.common.listen)?;
        let (reports, _) = broadcast::channel(REPORTS);
        let wake = Arc::new(Notify::new());
        let http = HttpClient::new();
        let outbox = Outbox {
            store: store.clone(),
            metrics: metrics.clone(),
            wake: outbox::Wake::default(),
            slack: actions
                .slack
                .as_ref()
                .map(|slack| Slack::new(slack, http.clone())),
            github: config
                .github
                .token
                .is_some()
                .then(|| GitHub::new(&config.github, http)),
            links: Links {
                console: actions.public_url.clone(),
                buttons: actions
                    .slack
                    .as_ref()
                    .is_some_and(|slack| slack.signing_secret.is_some()),
            },
        };
        let analyst = Analyst::new(&config, redactor.clone(), &metrics, Some(store.clone()));
        Box::pin(analyst.connect()).await?;
        let backfill = Backfill {
            store: store.clone(),
            prometheus: config
                .sources
                .prometheus
                .clone()
                .map(|base| Prometheus::new(HttpClient::new(), base, BACKFILL_TIMEOUT)),
            longest: config.backfill,
            matchers: config.backfill_matchers.clone(),
            redactor: redactor.clone(),
            metrics: metrics.clone(),
            wake: Arc::clone(&wake),
        };
        let runner = Runner {
            store: store.clone(),
            analyst,
            metrics: metrics.clone(),
            reports: reports.clone(),
            wake: Arc::clone(&wake),
            outbox: outbox.wake.clone(),
            at_once: config.analyses,
            lease: lease(&config),
            print: config.print_reports,
        };
        let watch = Watch {
            github: GitHub::new(&config.github, HttpClient::new()),
            repositories: config.github.repositories.clone(),
            store: store.clone(),
            redactor: redactor.clone(),
            metrics: metrics.clone(),
            wake: Arc::clone(&wake),
        };
        tracing::info!(store = %config.store.display(), provider = config.provider.title(), "worker configured");
        let measurer = Arc::new(Measurer::new(config.sources.clone()));
        let follower = Follower {
            store,
            measurer: Arc::clone(&measurer),
            metrics,
            patience: Patience {
                settle: config.recovered_after,
                give_up: config.follow_for,
            },
        };
        let shared = Shared::new(&config, &outbox, measurer, redactor, wake);
        process.started();
        Ok(Self {
            listener,
            shared: Arc::new(shared),
            runner,
            outbox,
            follower,
            backfill,
            watch,
            store_closed,
            shutdown: process.shutdown().clone(),
            tracer: process.tracer().clone(),
            serve_options: process.serve_options(),
            reports,
        })
    }

    /// Where webhooks, API and pages are.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Every report from now on, right after its commit.
    pub fn reports(&self) -> broadcast::Receiver<Arc<FinishedReport>> {
        self.reports.subscribe()
    }

    /// Serves until shutdown and ends the running analyses and effects.
    ///
    /// # Errors
    /// None today; the signature is that of every part.
    pub async fn serve(self) -> anyhow::Result<()> {
        let stop = self.shutdown.token();
        let grace = self.shutdown.drain_timeout();
        let checked = self.runner.analyst.check();
        let outbox = tokio::spawn(self.outbox.run(stop.clone(), grace));
        let follower = tokio::spawn(self.follower.run(stop.clone()));
        let runner = tokio::spawn(self.runner.run(stop.clone(), grace));
        let watch = tokio::spawn(self.watch.run(stop.clone()));
        let backfill = tokio::spawn(self.backfill.run(stop));
        // A model that is not there must not keep the worker from taking alerts.
        let checked = tokio::spawn(checked);
        let router = server::router(self.shared);
        let service = TraceRequests::new(router, self.tracer);
        self.listener
            .serve(service, self.serve_options, &self.shutdown)
            .await;
        checked.abort();
        for (task, ended) in [
            ("jobs", runner.await),
            ("outbox", outbox.await),
            ("follower", follower.await),
            ("back-fill", backfill.await),
            ("watch for runs", watch.await),
        ] {
            if let Err(error) = ended {
                tracing::error!(%error, task, "a task ended early");
            }
        }
        // Whoever comes next finds the store free.
        if tokio::time::timeout(CLOSING, self.store_closed.wait())
            .await
            .is_err()
        {
            tracing::warn!("the store is not closed yet");
        }
        Ok(())
    }
}

/// Longer than any analysis takes: collecting, asking with its retries, and committing.
fn lease(config: &Config) -> Duration {
    config.sources.timeout + config.provider.timeout() + Duration::from_mins(1)
}
