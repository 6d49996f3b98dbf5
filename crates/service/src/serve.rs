//! One data port for HTTP/1.1, h2c and gRPC, plain or under TLS, with drain.

mod closing;
mod lazy_timer;
mod stalled_stream;
mod write_timeout;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus::IntCounter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::Service;

use self::closing::Closing;
use self::lazy_timer::LazyTimer;
use self::stalled_stream::{InPieces, StreamExecutor};
use self::write_timeout::{TimedWrites, WriteTimeout};
use crate::tls::client_name;
use crate::{Shutdown, Tls};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({setting}){hint}")]
pub struct BindError {
    address: SocketAddr,
    setting: &'static str,
    hint: &'static str,
    source: std::io::Error,
}

impl BindError {
    pub(crate) fn new(address: SocketAddr, setting: &'static str, source: std::io::Error) -> Self {
        let hint = match source.kind() {
            std::io::ErrorKind::AddrInUse => {
                "; another process has the port: stop it or choose another, 0 for a free one"
            }
            std::io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
            _ => "",
        };
        Self {
            address,
            setting,
            hint,
            source,
        }
    }
}

/// Binds with address reuse, so that a restart does not wait for old connections.
pub(crate) fn bind(address: SocketAddr, setting: &'static str) -> Result<std::net::TcpListener, BindError> {
    let listener = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| BindError::new(address, setting, source))
}

/// How a data port treats its connections.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Connections at once; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Time for a client to send a request's head; also how long an idle HTTP/1.1 connection is kept.
    pub header_read_timeout: Duration,
    /// Time that a client may take nothing of an answer that waits for it: then its HTTP/1.1 connection is closed, or
    /// its HTTP/2 stream reset (CANCEL). Anything that it takes begins this anew.
    pub client_write_timeout: Duration,
    /// Counts how often that has happened.
    pub client_write_timeouts: IntCounter,
    /// Time for a client to finish its TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// Concurrent HTTP/2 streams per connection.
    pub max_concurrent_streams: u32,
    /// The largest header list of an HTTP/2 request; a larger one is answered 431. HTTP/1.1 heads are bounded by
    /// hyper's read buffer, about 400 KiB, also with 431.
    pub max_header_bytes: u32,
    /// Header fields of an HTTP/1.1 request; more are answered 431. Above 100, each head costs an allocation.
    pub max_headers: usize,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            header_read_timeout: Duration::from_mins(1),
            client_write_timeout: Duration::from_mins(1),
            client_write_timeouts: IntCounter::new("client_write_timeouts_total", "Not registered.")
                .expect("a constant name is valid"),
            tls_handshake_timeout: Duration::from_secs(10),
            max_concurrent_streams: 256,
            max_header_bytes: 64 << 10,
            max_headers: HYPER_HEADERS,
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// The name in the certificate that it has shown, if it had to or did: its first URI, else its first DNS name, else
    /// its subject's common name.
    pub certificate_name: Option<String>,
    /// Whether the connection is under TLS.
    pub tls: bool,
}

/// A bound data port.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
}

impl Listener {
    /// Binds `address`; port 0 picks a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`], naming the address and what to do about it.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        Self::from_std(bind(address, "listen")?, address, "listen")
    }

    /// A port that is bound already, for a setting of this address.
    pub(crate) fn from_std(
        listener: std::net::TcpListener,
        address: SocketAddr,
        setting: &'static str,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::new(address, setting, source);
        let tcp = TcpListener::from_std(listener).map_err(failed)?;
        let address = tcp.local_addr().map_err(failed)?;
        let tls = None;
        Ok(Self { tcp, address, tls })
    }

    /// The same port, under TLS if there is any: HTTP/2 or HTTP/1.1, as client and server agree (ALPN).
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `service`, cloned for every connection, until `shutdown`. Answers say `Connection: close` as soon as it
    /// begins; then new connections are refused, or left to the next process, GOAWAY is sent, and requests in flight get
    /// the drain timeout.
    pub async fn serve<S, B>(self, service: S, options: ServeOptions, shutdown: &Shutdown)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.serve_with(move |_peer| service.clone(), options, shutdown)
            .await;
    }

    /// As [`Listener::serve`], with a service made for each connection from its peer, after the handshake under TLS.
    pub async fn serve_with<F, S, B>(self, service_for: F, options: ServeOptions, shutdown: &Shutdown)
    where
        F: Fn(Peer) -> S + Clone + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        tracing::info!(port = "data", address = %self.address, tls = self.tls.is_some(), "listening");
        let slots = Arc::new(Semaphore::new(options.max_connections));
        let connections = GracefulShutdown::new();
        let token = shutdown.clone();
        let service_for = move |peer| {
            let service = Closing::new(service_for(peer), token.clone());
            TowerToHyperService::new(InPieces(service))
        };
        let write_timeout = WriteTimeout {
            timeout: options.client_write_timeout,
            ended: options.client_write_timeouts.clone(),
        };
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                let slot = slot.expect("the semaphore is never closed");
                (slot, self.tcp.accept().await)
            };
            let (slot, stream) = tokio::select! {
                accepted = accepted => accepted,
                () = shutdown.stop_accepting() => break,
                () = shutdown.handed_over() => break,
            };
            let (stream, address) = match stream {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: give connections time to end instead of spinning.
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            prepare(&stream);
            let stream = TimedWrites::new(stream, write_timeout.clone());
            let http = connection_builder(&options, &write_timeout);
            if let Some(tls) = &self.tls {
                let (acceptor, http, watcher) = (tls.acceptor(), http, connections.watcher());
                let (timeout, closing) = (options.tls_handshake_timeout, shutdown.token());
                let service_for = service_for.clone();
                // Off this loop: a handshake takes round trips to the client and a signature.
                tokio::spawn(async move {
                    let handshake = tokio::select! {
                        handshake = tokio::time::timeout(timeout, acceptor.accept(stream)) => handshake,
                        () = closing.cancelled() => return, // no request has come yet
                    };
                    match handshake {
                        Ok(Ok(stream)) => {
                            // Agreed on, so that nothing else is listened for.
                            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            let http = if is_http2 { http.http2_only() } else { http };
                            let shown = stream.get_ref().1.peer_certificates();
                            let service = service_for(Peer {
                                address,
                                certificate_name: shown.and_then(|chain| client_name(chain.first()?)),
                                tls: true,
                            });
                            let connection =
                                http.serve_connection(TokioIo::new(stream), service).into_owned();
                            ended(watcher.watch(connection).await);
                        }
                        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                        Err(_elapsed) => tracing::debug!(?timeout, "TLS handshake took too long"),
                    }
                    drop(slot);
                });
                continue;
            }
            let service = service_for(Peer {
                address,
                certificate_name: None,
                tls: false,
            });
            let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
            let connection = connections.watch(connection);
            tokio::spawn(async move {
                ended(connection.await);
                drop(slot);
            });
        }
        drop(self.tcp);
        // At once, unless the next process has the port: then clients come back to it as they are answered here.
        shutdown.stop_accepting().await;
        let open = connections.count();
        tracing::info!(connections = open, "draining");
        if tokio::time::timeout(shutdown.drain_timeout(), connections.shutdown())
            .await
            .is_err()
        {
            tracing::warn!(timeout = ?shutdown.drain_timeout(), "requests still in flight after the drain timeout");
        }
    }
}

fn ended(outcome: Result<(), BoxError>) {
    if let Err(error) = outcome {
        tracing::debug!(error = %error, "connection ended");
    }
}

/// Header fields that hyper has room for without an allocation.
const HYPER_HEADERS: usize = 100;

fn connection_builder(options: &ServeOptions, write_timeout: &WriteTimeout) -> auto::Builder<StreamExecutor> {
    let mut http = auto::Builder::new(StreamExecutor(write_timeout.clone()));
    http.http1()
        .timer(LazyTimer::default())
        .header_read_timeout(options.header_read_timeout);
    if options.max_headers != HYPER_HEADERS {
        http.http1().max_headers(options.max_headers);
    }
    http.http2()
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(options.max_header_bytes)
        // Tensors are larger than the default window of 64 KiB; one round trip should carry a request.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    http
}

fn prepare(stream: &TcpStream) {
    // Replies are written whole: waiting for an acknowledgement to fill a segment only adds latency.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Empty, Full};
    use hyper::client::conn::{http1, http2};
    use hyper_util::rt::TokioExecutor;
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::Readiness;

    type Release = oneshot::Sender<()>;

    /// A service that reports each request with the means to let it finish.
    #[expect(clippy::type_complexity, reason = "the type of a service is its contract")]
    fn holding() -> (
        impl Service<
            Request<Incoming>,
            Response = Response<Full<Bytes>>,
            Error = Infallible,
            Future = impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
        > + Clone
        + Send
        + 'static,
        mpsc::UnboundedReceiver<Release>,
    ) {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |_request: Request<Incoming>| {
            let arrived = arrived.clone();
            async move {
                let (release, released) = oneshot::channel();
                arrived.send(release).expect("the test is listening");
                released.await.expect("the test releases");
                Ok(Response::new(Full::new(Bytes::from_static(b"done"))))
            }
        });
        (service, arrivals)
    }

    fn request() -> Request<Empty<Bytes>> {
        Request::get("http://localhost/v2")
            .header("host", "localhost")
            .body(Empty::new())
            .expect("a request")
    }

    fn shutdown() -> Shutdown {
        Shutdown::new(Readiness::default(), Duration::ZERO, Duration::from_secs(30))
    }

    #[tokio::test]
    async fn a_request_in_flight_is_finished_and_a_new_connection_refused() {
        let (service, mut arrivals) = holding();
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let (address, shutdown) = (listener.address(), shutdown());
        let server = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { listener.serve(service, ServeOptions::default(), &shutdown).await }
        });
        let stream = TcpStream::connect(address).await.expect("connected");
        let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("handshake");
        tokio::spawn(connection);
        let response = tokio::spawn(async move { client.send_request(request()).await });
        let release = arrivals.recv().await.expect("the request arrives");
        shutdown.begin_now();
        // The listener is dropped before in-flight requests end; poll for it, bounded.
        let mut refused = false;
        for _ in 0..1_000 {
            refused = TcpStream::connect(address).await.is_err();
            if refused {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(refused, "the port still accepts");
        assert!(!server.is_finished());
        release.send(()).expect("still served");
        let response = response.await.expect("the task ends").expect("an answer");
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(
            response.into_body().collect().await.expect("a body").to_bytes(),
            "done"
        );
        server.await.expect("drained");
    }

    #[tokio::test]
    async fn a_port_that_is_full_can_be_left_too() {
        let (service, mut arrivals) = holding();
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let (address, shutdown) = (listener.address(), shutdown());
        let options = ServeOptions {
            max_connections: 1,
            ..ServeOptions::default()
        };
        let server = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { listener.serve(service, options, &shutdown).await }
        });
        let stream = TcpStream::connect(address).await.expect("connected");
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("handshake");
        // Goes on for as long as the server lets it.
        let connection = tokio::spawn(connection);
        let response = tokio::spawn(async move {
            let response = client.send_request(request()).await;
            (client, response)
        });
        let release = arrivals.recv().await.expect("the request arrives");
        release.send(()).expect("still served");
        let (_client, response) = response.await.expect("the task ends");
        response.expect("an answer");
        shutdown.begin_now();
        server.await.expect("drained");
        connection.await.expect("no panic").expect("ended in order");
    }

    #[tokio::test]
    async fn http2_without_tls_is_served_on_the_same_port() {
        let (service, mut arrivals) = holding();
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let (address, shutdown) = (listener.address(), shutdown());
        let server = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { listener.serve(service, ServeOptions::default(), &shutdown).await }
        });
        let stream = TcpStream::connect(address).await.expect("connected");
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("handshake");
        tokio::spawn(connection);
        let response = tokio::spawn(async move { client.send_request(request()).await });
        arrivals
            .recv()
            .await
            .expect("the request arrives")
            .send(())
            .expect("still served");
        assert_eq!(
            response
                .await
                .expect("the task ends")
                .expect("an answer")
                .version(),
            http::Version::HTTP_2
        );
        shutdown.begin_now();
        server.await.expect("drained");
    }

    #[tokio::test]
    async fn a_malformed_request_is_answered_before_its_connection_closes() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let (service, _arrivals) = holding();
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let (address, shutdown) = (listener.address(), shutdown());
        let server = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { listener.serve(service, ServeOptions::default(), &shutdown).await }
        });
        let mut stream = TcpStream::connect(address).await.expect("connected");
        // What follows the head stays unread in the server's buffer.
        let request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello";
        stream.write_all(request).await.expect("written");
        let mut answer = Vec::new();
        // The server closes with bytes unread, which the kernel may tell with a reset.
        let _end = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        shutdown.begin_now();
        server.await.expect("drained");
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let first = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let error = Listener::bind(first.address()).expect_err("in use").to_string();
        assert!(
            error.contains(&first.address().to_string()) && error.contains("another process"),
            "{error}"
        );
    }
}
