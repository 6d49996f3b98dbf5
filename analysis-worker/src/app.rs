//! The running worker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plumbline_service::traces::{TraceRequests, Tracer};
use plumbline_service::{Listener, Process, ServeOptions, Shutdown};
use tokio::sync::{Notify, broadcast};

use crate::analysis::Analyst;
use crate::config::{Config, ProviderConfig};
use crate::github::GitHub;
use crate::http::HttpClient;
use crate::metrics::Metrics;
use crate::redact::Redactor;
use crate::runner::{FinishedReport, Runner};
use crate::server::{self, Shared};
use crate::store::Store;
use crate::watch::Watch;

/// Reports that a slow listener may be behind before it misses some.
const REPORTS: usize = 64;

/// A bound worker: the port is open and the store is at hand, nothing is answered yet.
pub struct App {
    listener: Listener,
    shared: Arc<Shared>,
    runner: Runner,
    watch: Watch,
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
    /// [`crate::OpenError`] of the store, [`plumbline_service::BindError`] of the port.
    #[expect(clippy::unused_async, reason = "every part binds the same way")]
    pub async fn bind(config: Config, process: &Process) -> anyhow::Result<Self> {
        let metrics = Metrics::declare(process.metrics());
        let redactor = Redactor::new(&config.secrets(), config.redact_addresses);
        let store = Store::open(&config.store, config.store_busy_timeout)?;
        let listener = Listener::bind(config.common.listen)?;
        let (reports, _) = broadcast::channel(REPORTS);
        let wake = Arc::new(Notify::new());
        let runner = Runner {
            store: store.clone(),
            analyst: Analyst::new(&config, redactor.clone(), &metrics),
            metrics: metrics.clone(),
            reports: reports.clone(),
            wake: Arc::clone(&wake),
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
        let provider = match &config.provider {
            ProviderConfig::Offline => "offline".to_owned(),
            ProviderConfig::Gemini(gemini) => format!("gemini ({})", gemini.model),
        };
        tracing::info!(store = %config.store.display(), provider, "worker configured");
        let shared = Shared::new(&config, store, redactor, metrics, wake);
        Ok(Self {
            listener,
            shared: Arc::new(shared),
            runner,
            watch,
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

    /// Serves until shutdown and ends the running analyses.
    ///
    /// # Errors
    /// None today; the signature is that of every part.
    pub async fn serve(self) -> anyhow::Result<()> {
        let stop = self.shutdown.token();
        let watch = tokio::spawn(self.watch.run(stop.clone()));
        let runner = tokio::spawn(self.runner.run(stop, self.shutdown.drain_timeout()));
        let router = server::router(self.shared);
        let service = TraceRequests::new(router, self.tracer);
        self.listener
            .serve(service, self.serve_options, &self.shutdown)
            .await;
        if let Err(error) = runner.await {
            tracing::error!(%error, "the job runner ended early");
        }
        if let Err(error) = watch.await {
            tracing::error!(%error, "the watch for runs ended early");
        }
        Ok(())
    }
}

/// Longer than any analysis takes: collecting, asking with its retries, and committing.
fn lease(config: &Config) -> Duration {
    let asking = match &config.provider {
        ProviderConfig::Offline => Duration::ZERO,
        ProviderConfig::Gemini(gemini) => gemini.timeout,
    };
    config.sources.timeout + asking + Duration::from_mins(1)
}
