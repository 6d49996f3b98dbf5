//! The model server as a whole: found library, loaded models, bound port.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::Context as _;
use plumbline_service::{Listener, Process, ServeOptions};

use crate::config::Config;
use crate::library::Library;
use crate::metrics::Metrics;
use crate::repository::{Loader, Repository, load_all};
use crate::scheduler::ComputeThreads;
use crate::server::{Limits, Server};

/// A model server that is ready to serve.
pub struct App {
    listener: Listener,
    server: Server,
    process: Process,
}

impl App {
    /// Binds the port, opens ONNX Runtime, and loads and warms every model.
    ///
    /// # Errors
    /// The port, the library, or every model that cannot be served; nothing is left half started.
    pub async fn bind(config: Config, process: &Process) -> anyhow::Result<App> {
        let token = process.readiness().wait_for("models are loading");
        let listener = Listener::bind(config.common.listen)?;
        let library = Library::open(config.onnxruntime.as_deref())?;
        // Follows the container's CPU quota: the standard library reads cgroup v1 and v2.
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        tracing::info!(
            version = library.version(),
            path = %library.path().display(),
            "ONNX Runtime"
        );
        tracing::info!(
            cpus = threads,
            compute_threads = threads,
            intra_op_threads = 1,
            "threads"
        );
        let metrics = Metrics::declare(process.metrics());
        let loader = Loader {
            library,
            metrics: metrics.clone(),
            compute: Arc::new(ComputeThreads::start(threads).context("cannot start compute threads")?),
            threads,
            instances: config.instances,
            max_queue: config.max_queue,
        };
        let (models, repository) = (config.models, config.model_repository);
        let loaded = tokio::task::spawn_blocking(move || load_all(&loader, &models, repository.as_deref()));
        let repository = Repository::new(loaded.await.context("loading models panicked")??);
        let limits = Limits {
            max_body_bytes: config.max_body_bytes,
            nan_policy: config.nan_policy,
        };
        let server = Server::new(repository, process, &metrics, config.server_name, limits);
        drop(token);
        Ok(App {
            listener,
            server,
            process: process.clone(),
        })
    }

    /// Where the data port listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Serves until shutdown has drained.
    ///
    /// # Errors
    /// None: what goes wrong while serving is answered to whoever asked.
    pub async fn serve(self) -> anyhow::Result<()> {
        let App {
            listener,
            server,
            process,
        } = self;
        listener
            .serve(server, ServeOptions::default(), process.shutdown())
            .await;
        Ok(())
    }
}
