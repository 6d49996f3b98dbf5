//! Opening connections.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::target::Place;
use super::{BoxError, Options, Protocol, Target, UpstreamError, h1};

pub(super) async fn http1<B>(target: &Target, options: &Options) -> Result<h1::Connection<B>, UpstreamError>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    async fn handshake<B, I>(stream: I, options: &Options) -> hyper::Result<h1::Connection<B>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        builder
            .max_buf_size(options.max_header_bytes.max(8 << 10))
            .max_headers(256);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(h1::Connection::new(sender, Box::pin(driver(connection, options))))
    }
    timed(target, options, async {
        match transport(target, options, Protocol::Http1).await? {
            Transport::Tcp(stream) => handshake(stream, options).await,
            Transport::Tls(stream) => handshake(stream, options).await,
            Transport::Unix(stream) => handshake(stream, options).await,
        }
        .map_err(|error| not_http(target, error))
    })
    .await
}

/// An HTTP/2 connection and the number of streams that its peer allows at once, kept up to date.
pub(super) struct Http2<B> {
    pub(super) sender: http2::SendRequest<B>,
    pub(super) max_streams: Arc<AtomicUsize>,
}

pub(super) async fn http2<B>(target: &Target, options: &Options) -> Result<Http2<B>, UpstreamError>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    async fn handshake<B, I>(stream: I, options: &Options) -> hyper::Result<Http2<B>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let header_list = u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX);
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // Tensors are larger than the default window of 64 KiB; one round trip should carry an answer.
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_header_list_size(header_list)
            // A peer that vanished without a FIN is noticed before a request meets it.
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await?;
        let max_streams = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let seen = Arc::clone(&max_streams);
        // The connection is polled for each request; the peer's settings are known from its first answer on.
        let watched = std::future::poll_fn(move |context| {
            let ended = Pin::new(&mut connection).poll(context);
            if ended.is_pending() {
                seen.store(connection.current_max_send_streams(), Ordering::Relaxed);
            }
            ended
        });
        tokio::spawn(driver(watched, options));
        Ok(Http2 { sender, max_streams })
    }
    timed(target, options, async {
        match transport(target, options, Protocol::Http2).await? {
            Transport::Tcp(stream) => handshake(stream, options).await,
            Transport::Tls(stream) => handshake(stream, options).await,
            Transport::Unix(stream) => handshake(stream, options).await,
        }
        .map_err(|error| not_http(target, error))
    })
    .await
}

/// Bounds and counts one attempt to connect.
async fn timed<T>(
    target: &Target,
    options: &Options,
    attempt: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    let began = Instant::now();
    let connected = tokio::time::timeout(options.connect_timeout, attempt).await;
    let connected = connected.unwrap_or_else(|_| {
        Err(UpstreamError::ConnectTimeout {
            target: target.clone(),
            timeout: options.connect_timeout,
        })
    });
    match &connected {
        Ok(_) => {
            options.metrics.opened.inc();
            options
                .metrics
                .connect_seconds
                .observe(began.elapsed().as_secs_f64());
        }
        Err(_) => options.metrics.failed.inc(),
    }
    connected
}

/// A connection below HTTP.
enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

async fn transport(
    target: &Target,
    options: &Options,
    protocol: Protocol,
) -> Result<Transport, UpstreamError> {
    match target.place() {
        Place::Tcp { host, port } => tcp(target, host, port).await.map(Transport::Tcp),
        Place::Tls { host, port } => {
            let unset = || std::io::Error::other("TLS to an endpoint is not set up");
            let tls = options.tls.as_ref().ok_or_else(unset);
            let tls = tls.map_err(|error| no_connection(target, error))?;
            let stream = tcp(target, host, port).await?;
            let stream = tls.connect(host, protocol == Protocol::Http2, stream).await;
            let stream = stream.map_err(|error| no_connection(target, error))?;
            Ok(Transport::Tls(Box::new(stream)))
        }
        Place::Unix(path) => unix(target, path).await.map(Transport::Unix),
    }
}

async fn tcp(target: &Target, host: &str, port: u16) -> Result<TcpStream, UpstreamError> {
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(|error| no_connection(target, error))?;
    // Requests are written whole: waiting for an acknowledgement to fill a segment only adds latency.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    Ok(stream)
}

async fn unix(target: &Target, path: &std::path::Path) -> Result<UnixStream, UpstreamError> {
    let stream = UnixStream::connect(path).await;
    stream.map_err(|error| no_connection(target, error))
}

fn no_connection(target: &Target, error: std::io::Error) -> UpstreamError {
    UpstreamError::Connect {
        target: target.clone(),
        source: Arc::new(error),
    }
}

fn not_http(target: &Target, error: hyper::Error) -> UpstreamError {
    UpstreamError::Handshake {
        target: target.clone(),
        source: Arc::new(error),
    }
}

/// Keeps a connection going until it ends: by its peer, or because nobody holds its sender any more.
fn driver<C>(connection: C, options: &Options) -> impl Future<Output = ()> + Send + use<C>
where
    C: Future<Output = hyper::Result<()>> + Send,
{
    let open = Open::new(&options.metrics.open);
    async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
        drop(open);
    }
}

/// One open connection in a gauge.
struct Open(IntGauge);

impl Open {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
