//! From a configuration to a gateway that serves.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use http::header::HeaderValue;
use hyper::body::Incoming;
use plumbline_service::upstream::Options;
use plumbline_service::{Listener, Process, ReadinessToken, ServeOptions};
use tower::Service;

use crate::call::Call;
use crate::config::Config;
use crate::kubernetes::Discovery;
use crate::layers::answer_server::Server;
use crate::layers::check_head::MAX_HEADER_BYTES;
use crate::metrics::Metrics;
use crate::page;
use crate::snapshot::Routes;
use crate::stack::{self, Parts};

/// A gateway whose port is bound and whose routes are loaded.
#[derive(Debug)]
pub struct App {
    listener: Listener,
    routes: Arc<Routes>,
    config: Config,
    process: Process,
    /// Not ready until Kubernetes has told everything once.
    discovering: Option<ReadinessToken>,
}

impl App {
    /// Binds the data port and loads the routes; port 0 picks a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// The data port cannot be bound.
    pub fn bind(config: Config, process: &Process) -> anyhow::Result<Self> {
        let loading = process.readiness().wait_for("routes");
        let listener = Listener::bind(config.common.listen)?;
        let metrics = Metrics::declare(process.metrics());
        let options = Options {
            connect_timeout: config.connect_timeout,
            idle_timeout: config.upstream_idle_timeout,
            ..Options::default()
        };
        let routes = Arc::new(Routes::new(metrics, options));
        routes.replace(config.routes.iter().cloned().map(Arc::new).collect());
        if config.routes.is_empty() && config.kubernetes.is_none() {
            tracing::warn!(
                "no routes: every model is unknown; give --route, [[route]] in the --config file, or --kubernetes"
            );
        }
        page::add(process.admin(), Arc::clone(&routes));
        drop(loading);
        let discovering = config.kubernetes.is_some();
        let discovering = discovering.then(|| process.readiness().wait_for("first list of Kubernetes"));
        Ok(Self {
            discovering,
            listener,
            routes,
            config,
            process: process.clone(),
        })
    }

    /// Where the data port listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Serves until the process shuts down and requests in flight have ended.
    ///
    /// # Errors
    /// Models are to be found in Kubernetes, and how to reach it is not known.
    pub async fn serve(self) -> anyhow::Result<()> {
        let Self {
            listener,
            routes,
            config,
            process,
            discovering,
        } = self;
        let discovery = match (&config.kubernetes, discovering) {
            (Some(kubernetes), Some(waiting)) => {
                let fixed = config.routes.iter().cloned().map(Arc::new).collect();
                let (routes, admin) = (Arc::clone(&routes), process.admin());
                let discovery = Discovery::start(kubernetes, fixed, routes, admin, waiting).await?;
                Some(tokio::spawn(discovery.run(process.shutdown().clone())))
            }
            _ => None,
        };
        let stack = stack::build(&Parts {
            metrics: routes.metrics().clone(),
            server: Arc::new(Server {
                name: config.server_name,
                readiness: process.readiness().clone(),
                routes,
            }),
            max_in_flight: config.max_in_flight,
            trust_forwarded: config.trust_forwarded,
        });
        let shutdown = process.shutdown();
        let service_for = |peer: SocketAddr| Connection {
            peer: address_text(peer.ip()),
            stack: stack.clone(),
        };
        let options = ServeOptions {
            max_header_bytes: MAX_HEADER_BYTES as u32,
            ..ServeOptions::default()
        };
        listener.serve_with(service_for, options, shutdown).await;
        if let Some(discovery) = discovery {
            discovery.await?;
        }
        Ok(())
    }
}

fn address_text(address: IpAddr) -> HeaderValue {
    // A client that comes over IPv4 to a socket of both families is still an IPv4 client.
    let text = address.to_canonical().to_string();
    HeaderValue::try_from(text).expect("an address is visible ASCII text")
}

/// The stack as one connection sees it: requests become calls of its peer.
#[derive(Clone, Debug)]
struct Connection<S> {
    /// Its client's address, written once.
    peer: HeaderValue,
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
        self.stack.call(Call::new(request, self.peer.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_written_as_what_it_is() {
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().expect("an address");
        assert_eq!(address_text(mapped), "192.0.2.7");
        assert_eq!(address_text(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])), "::1");
    }
}
