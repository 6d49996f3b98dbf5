//! The model server as a whole: found library, loaded models, bound port.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use plumbline_service::traces::TraceRequests;
use plumbline_service::{Cpus, Listener, Process, Tls};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::library::Library;
use crate::metrics::Metrics;
use crate::repository::{LoadErrors, Loader, Repository};
use crate::scheduler::ComputeThreads;
use crate::server::{Limits, Server};
use crate::session::OptimizedCache;

/// A model server that can answer; its models are loading.
pub struct App {
    listener: Listener,
    /// How the initial load went.
    loaded: oneshot::Receiver<Result<(), LoadErrors>>,
    server: Server,
    process: Process,
}

impl App {
    /// Binds the port, opens ONNX Runtime, and starts to load the models.
    ///
    /// # Errors
    /// The port or the library; nothing is left half started.
    pub async fn bind(config: Config, process: &Process) -> anyhow::Result<App> {
        let token = process.readiness().wait_for("models are loading");
        let listener = Listener::bind(config.common.listen)?;
        let tls = config
            .tls
            .map(|files| Tls::load(files, process.metrics()))
            .transpose()?;
        if let Some(tls) = tls.clone() {
            tokio::spawn(tls.watch(process.shutdown().clone()));
        }
        let listener = listener.with_tls(tls);
        let chosen = config.onnxruntime.clone();
        let library = tokio::task::spawn_blocking(move || Library::open(chosen.as_deref()));
        let library = library.await.context("opening ONNX Runtime panicked")??;
        // Network threads run short models themselves, compute threads the long ones: either kind can use all that
        // the process has, and while one is busy with models the other has little to do.
        let Cpus {
            allowed,
            quota,
            threads,
        } = Cpus::of_process();
        tracing::info!(
            version = library.version(),
            path = %library.path().display(),
            "ONNX Runtime"
        );
        tracing::info!(
            cpus = allowed,
            cpu_quota = quota,
            network_threads = threads,
            compute_threads = threads,
            intra_op_threads = 1,
            "threads"
        );
        let metrics = Metrics::declare(process.metrics());
        if config.triton_metrics {
            metrics.declare_triton_names(process.metrics());
        }
        let loader = Loader {
            optimized: config.optimized_models.map(OptimizedCache::new),
            library,
            metrics: metrics.clone(),
            compute: Arc::new(ComputeThreads::start(threads).context("cannot start compute threads")?),
            threads,
            instances: config.instances,
            max_queue: config.max_queue,
            request_timeout: config.request_timeout,
        };
        let readiness = process.readiness().clone();
        let (repository, loaded) = Repository::start(loader, config.repository, readiness, token)
            .context("cannot start the thread that loads models")?;
        process.admin().page("/models", repository.index_page());
        let limits = Limits {
            max_body_bytes: config.max_body_bytes,
            body_timeout: config.body_timeout,
            compress_min_bytes: config.compress_min_bytes,
            nan_policy: config.nan_policy,
        };
        let server = Server::new(repository, process, &metrics, config.server_name, limits);
        process.started();
        Ok(App {
            listener,
            loaded,
            server,
            process: process.clone(),
        })
    }

    /// Where the data port listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Serves until shutdown has drained: from the first moment on, so that probes and clients are told that models
    /// are loading.
    ///
    /// # Errors
    /// Every model that has to be served and cannot be. What goes wrong later is answered to whoever asked.
    pub async fn serve(self) -> anyhow::Result<()> {
        let App {
            listener,
            loaded,
            server,
            process,
        } = self;
        let service = TraceRequests::new(server, process.tracer().clone());
        let serving = listener.serve(service, process.serve_options(), process.shutdown());
        tokio::pin!(serving);
        tokio::select! {
            biased;
            outcome = loaded => outcome.context("loading models panicked")??,
            // Told to leave before everything was loaded.
            () = &mut serving => return Ok(()),
        }
        serving.await;
        Ok(())
    }
}
