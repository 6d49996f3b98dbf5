//! From a configuration to a gateway that serves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Context as _;
use http::Request;
use hyper::body::Incoming;
use plumbline_service::upstream::Options;
use plumbline_service::{EventSink, Listener, Peer, Process, ReadinessToken, ServeOptions, Tls};
use tower::Service;

use crate::access::Access;
use crate::access_log::{AccessLog, Writing};
use crate::call::{Call, Client};
use crate::config::Config;
use crate::guard::{Guard, Stops};
use crate::kubernetes::Discovery;
use crate::layers::answer_server::Server;
use crate::metrics::Metrics;
use crate::page;
use crate::reload::Reload;
use crate::snapshot::Routes;
use crate::stack::{self, Parts};

/// A gateway whose port is bound and whose routes are loaded.
#[derive(Debug)]
pub struct App {
    listener: Listener,
    tls_listener: Option<Listener>,
    access: Arc<Access>,
    access_log: Option<Writing>,
    routes: Arc<Routes>,
    reload: Option<Reload>,
    guard: Guard,
    sink: Option<EventSink>,
    config: Config,
    process: Process,
    /// Not ready until Kubernetes has told everything once.
    discovering: Option<ReadinessToken>,
}

impl App {
    /// Binds the data ports and loads the routes; port 0 picks a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// A data port cannot be bound, or a file of certificates or keys cannot be used.
    pub fn bind(mut config: Config, process: &Process) -> anyhow::Result<Self> {
        let listener = process.listen(config.common.listen, "listen")?;
        let metrics = Metrics::declare(process.metrics());
        let access = Access::start(&config.access, metrics.access.clone(), process)?;
        let shutdown = process.shutdown();
        let access_log = AccessLog::start(&config.access_log, metrics.access_log.clone(), shutdown)?;
        let tls_listener = match &config.tls {
            None => None,
            Some(files) => {
                let tls = Tls::load(files.clone(), process.metrics())?;
                tokio::spawn(tls.clone().watch(shutdown.clone()));
                let listener = process.listen(config.tls_listen, "tls_listen")?;
                Some(listener.with_tls(Some(tls)))
            }
        };
        let options = Options {
            connect_timeout: config.connect_timeout,
            idle_timeout: config.upstream_idle_timeout,
            ..Options::default()
        };
        let stops = Stops::open(stops_file(&config)?)?;
        let sink = config.events_to.as_ref().map(EventSink::new).transpose();
        let sink = sink.map_err(|problem| anyhow::anyhow!("events_to: {problem}"))?;
        let routes = Arc::new(Routes::new(metrics, options).with_stops(stops));
        routes.configure(config.routes.clone(), Vec::new());
        if config.routes.is_empty() && config.kubernetes.is_none() {
            tracing::warn!(
                "no routes: every model is unknown; give --route, [[route]] in the --config file, or --kubernetes"
            );
        }
        page::add(process.admin(), Arc::clone(&routes));
        let source = format!("http://{}", process.admin().address());
        let guard = Guard::new(Arc::clone(&routes), process.admin(), &source);
        let discovering = config.kubernetes.is_some();
        let discovering = discovering.then(|| process.readiness().wait_for("first list of Kubernetes"));
        process.started();
        Ok(Self {
            discovering,
            listener,
            tls_listener,
            reload: Reload::new(&mut config, &routes),
            guard,
            sink,
            routes,
            access,
            access_log,
            config,
            process: process.clone(),
        })
    }

    /// Where the data port listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Where the data port under TLS listens, if there is one.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_listener.as_ref().map(Listener::address)
    }

    /// Serves until the process shuts down and requests in flight have ended.
    ///
    /// # Errors
    /// Models are to be found in Kubernetes, and how to reach it is not known; a task that follows it or the
    /// configuration file has panicked.
    pub async fn serve(self) -> anyhow::Result<()> {
        let Self {
            listener,
            tls_listener,
            routes,
            reload,
            guard,
            sink,
            access,
            access_log,
            config,
            process,
            discovering,
        } = self;
        let discovery = match (&config.kubernetes, discovering) {
            (Some(kubernetes), Some(waiting)) => {
                let (routes, admin) = (Arc::clone(&routes), process.admin());
                let discovery = Discovery::start(kubernetes, routes, admin, waiting).await?;
                Some(tokio::spawn(discovery.run(process.shutdown().clone())))
            }
            _ => None,
        };
        let stack = stack::build(&Parts {
            metrics: routes.metrics().clone(),
            server: Arc::new(Server {
                name: config.server_name,
                readiness: process.readiness().clone(),
                access: Arc::clone(&access),
                routes,
            }),
            access,
            access_log: access_log.as_ref().map(Writing::log),
            server_timing: config.server_timing,
            head: config.head,
            max_in_flight: config.max_in_flight,
            trust_forwarded: config.trust_forwarded,
            tracer: process.tracer().clone(),
            cors: config.cors,
        });
        let shutdown = process.shutdown();
        let reload = reload.map(|reload| tokio::spawn(reload.run(shutdown.clone())));
        let guard = tokio::spawn(guard.run(sink, shutdown.clone()));
        let service_for = move |peer: Peer| Connection {
            client: peer.into(),
            stack: stack.clone(),
        };
        let head = config.head;
        let options = ServeOptions {
            // HTTP/2 counts 32 bytes more for a field (RFC 9113 §6.5.2); a few fields too many are still told of by name.
            max_header_bytes: (head.header_bytes + 64 * head.headers) as u32,
            max_headers: head.headers,
            ..process.serve_options()
        };
        if process.take_over().await? {
            let plain = listener.serve_with(service_for.clone(), options.clone(), shutdown);
            match tls_listener {
                None => plain.await,
                Some(tls) => {
                    tokio::join!(plain, tls.serve_with(service_for, options, shutdown));
                }
            }
        }
        if let Some(reload) = reload {
            reload.await?;
        }
        guard.await?;
        if let Some(discovery) = discovery {
            discovery.await?;
        }
        if let Some(access_log) = access_log {
            access_log.close().await;
        }
        Ok(())
    }
}

/// Where stopped canaries are kept, in a directory that is made where it is missing.
fn stops_file(config: &Config) -> anyhow::Result<Option<PathBuf>> {
    let Some(directory) = &config.state_dir else {
        return Ok(None);
    };
    std::fs::create_dir_all(directory).with_context(|| {
        format!(
            "cannot use the state directory {} (state_dir)",
            directory.display()
        )
    })?;
    Ok(Some(directory.join("stopped-canaries.json")))
}

/// The stack as one connection sees it: requests become calls of its peer.
#[derive(Clone, Debug)]
struct Connection<S> {
    client: Client,
    stack: S,
}

impl<S> Service<Request<Incoming>> for Connection<S>
where
    S: Service<Call>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.stack.poll_ready(context)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        self.stack.call(Call::new(request, &self.client))
    }
}
