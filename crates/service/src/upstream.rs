//! Pooled connections to one endpoint: HTTP/1.1 keep-alive and several HTTP/2 connections, over TCP, TLS or a unix socket.
//!
//! [`Upstream::send`] forwards one request and streams both bodies. It never retries a request of which a byte may have
//! been sent; it does take another connection when a pooled one turns out to be closed before that. Whether to try
//! another endpoint is for the caller: a [`SendError`] gives the request back when nothing of it was sent.
//!
//! Dropping the future or the response's body before its end cancels the exchange: an HTTP/2 stream is reset, an
//! HTTP/1.1 connection closed.

mod body;
mod cancel;
mod connect;
mod error;
mod h1;
mod h2;
mod headers;
mod relay;
mod target;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue, TE, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri, Version};
use http_body::Body;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge};

use cancel::Cancellable;

pub use body::UpstreamBody;
pub use error::{SendError, UpstreamError};
pub use headers::{is_framed_plainly, strip_hop_by_hop};
pub use target::Target;

use crate::ClientTls;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is spoken to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 with keep-alive; every server speaks it.
    Http1,
    /// HTTP/2 with prior knowledge (h2c); gRPC needs it.
    Http2,
}

/// How connections to an endpoint are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time to connect, name resolution included.
    pub connect_timeout: Duration,
    /// Time that an HTTP/1.1 connection may lie idle. Below the 5 s of the most common Python servers, so that it is
    /// this side that closes and no request meets a connection that is being closed.
    pub idle_timeout: Duration,
    /// Idle HTTP/1.1 connections kept.
    pub max_idle: usize,
    /// Concurrent streams on an HTTP/2 connection before another is opened; the peer's own limit is kept in any case.
    pub streams_per_connection: usize,
    /// HTTP/2 connections; beyond their capacity, requests wait in the last of them for a stream.
    pub max_http2_connections: usize,
    /// The largest response head that is accepted.
    pub max_header_bytes: usize,
    /// Whom a target under TLS has to prove to be, and who this side is; without it such a target is not connected to.
    pub tls: Option<ClientTls>,
    /// Where connections are counted.
    pub metrics: ConnectionMetrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(4),
            max_idle: 256,
            streams_per_connection: 100,
            max_http2_connections: 8,
            max_header_bytes: 64 << 10,
            tls: None,
            metrics: ConnectionMetrics::default(),
        }
    }
}

/// Handles that count an endpoint's connections. The part that owns the endpoint declares them; the default counts
/// for nobody.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    /// Connections opened.
    pub opened: IntCounter,
    /// Connections that could not be opened.
    pub failed: IntCounter,
    /// Open connections.
    pub open: IntGauge,
    /// Seconds to open one.
    pub connect_seconds: Histogram,
}

impl Default for ConnectionMetrics {
    fn default() -> Self {
        let histogram = HistogramOpts::new("connect_seconds", "Not registered.").buckets(vec![1.0]);
        let valid = "a constant name is valid";
        Self {
            opened: IntCounter::new("opened_total", "Not registered.").expect(valid),
            failed: IntCounter::new("failed_total", "Not registered.").expect(valid),
            open: IntGauge::new("open", "Not registered.").expect(valid),
            connect_seconds: Histogram::with_opts(histogram).expect(valid),
        }
    }
}

/// Pooled connections to one endpoint. Cloned freely; every clone is the same pool.
#[derive(Debug)]
pub struct Upstream<B>(Arc<Inner<B>>);

#[derive(Debug)]
struct Inner<B> {
    target: Target,
    /// What `host` and `:authority` say when the client says nothing.
    host: HeaderValue,
    authority: Authority,
    options: Options,
    http1: Arc<h1::Pool<B>>,
    http2: h2::Pool<Cancellable<B>>,
}

impl<B> Clone for Upstream<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> Upstream<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// An endpoint without connections yet.
    pub fn new(target: Target, options: Options) -> Self {
        let (http1, http2) = (Arc::new(h1::Pool::new(&options)), h2::Pool::new(&options));
        let authority = target.authority();
        let host = HeaderValue::from_str(authority.as_str()).expect("an authority is visible ASCII text");
        Self(Arc::new(Inner {
            target,
            host,
            authority,
            options,
            http1,
            http2,
        }))
    }

    /// Which endpoint this is.
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// HTTP/1.1 connections that wait for a request.
    pub fn idle_http1(&self) -> usize {
        self.0.http1.idle()
    }

    /// Open HTTP/2 connections.
    pub fn http2_connections(&self) -> usize {
        self.0.http2.open()
    }

    /// Forwards `request` and returns the head of the answer; the body streams.
    ///
    /// The URI, `host` and `te` are put into the form that `protocol` needs; the path, query and every other header go
    /// as they are, so strip hop-by-hop headers ([`strip_hop_by_hop`]) before.
    ///
    /// # Errors
    /// [`SendError`]: not connected, closed or reset before an answer, or not HTTP. It holds the request if, and only
    /// if, nothing of it was sent.
    pub async fn send(
        &self,
        protocol: Protocol,
        mut request: Request<B>,
    ) -> Result<Response<UpstreamBody<B>>, SendError<B>> {
        self.address(protocol, &mut request);
        match protocol {
            Protocol::Http1 => self.send_http1(request).await,
            Protocol::Http2 => self.send_http2(request).await,
        }
    }

    async fn send_http1(&self, mut request: Request<B>) -> Result<Response<UpstreamBody<B>>, SendError<B>> {
        let Inner {
            target,
            options,
            http1,
            ..
        } = &*self.0;
        loop {
            let (mut connection, reused) = match http1.checkout() {
                Some(connection) => (connection, true),
                // Boxed, as it is large and rare: every request's future would have its size.
                None => match Box::pin(connect::http1(target, options)).await {
                    Ok(connection) => (connection, false),
                    Err(error) => return Err(SendError::unsent(error, request)),
                },
            };
            match connection.send(request).await {
                Ok(response) => {
                    http1.answered(headers::closes(response.headers()));
                    let lease = h1::Lease::new(connection, Arc::clone(http1));
                    return Ok(response.map(|body| UpstreamBody::http1(body, lease)));
                }
                // Closed while it lay idle, noticed before a byte was written: not this request's problem.
                Err(h1::Unanswered {
                    unsent: Some(unsent), ..
                }) if reused => request = unsent,
                Err(h1::Unanswered { unsent, error }) => {
                    let error = UpstreamError::exchange(target, error, reused);
                    return Err(SendError { error, unsent });
                }
            }
        }
    }

    async fn send_http2(&self, request: Request<B>) -> Result<Response<UpstreamBody<B>>, SendError<B>> {
        let (exchange, mut request) = cancel::watch(request);
        let Inner {
            target,
            options,
            http2,
            ..
        } = &*self.0;
        loop {
            let mut stream = match http2.stream(target, options).await {
                Ok(stream) => stream,
                Err(error) => return Err(SendError::unsent(error, request.map(Cancellable::into_inner))),
            };
            match stream.sender.try_send_request(request).await {
                Ok(response) => {
                    return Ok(response.map(|body| UpstreamBody::http2(body, exchange, stream.streams)));
                }
                Err(mut failure) => match failure.take_message() {
                    // GOAWAY or a close that came before the request left.
                    Some(unsent) if stream.reused => request = unsent,
                    unsent => {
                        let error = UpstreamError::exchange(target, failure.into_error(), stream.reused);
                        let unsent = unsent.map(|request| request.map(Cancellable::into_inner));
                        return Err(SendError { error, unsent });
                    }
                },
            }
        }
    }

    /// Puts the authority where the protocol wants it: HTTP/1.1 in `host`, HTTP/2 in `:authority`.
    fn address(&self, protocol: Protocol, request: &mut Request<B>) {
        let uri = std::mem::take(request.uri_mut()).into_parts();
        let path = uri
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        // Hyper leaves out a body of unknown length where it expects none, unless it is told.
        let has_unexpected_body = matches!(*request.method(), Method::GET | Method::HEAD | Method::CONNECT)
            && !request.body().is_end_stream()
            && request.body().size_hint().exact().is_none();
        let headers = request.headers_mut();
        match protocol {
            Protocol::Http1 => {
                if let Some(authority) = &uri.authority {
                    // `:authority` outranks `host` (RFC 9113 §8.3.1), as the absolute form does (RFC 9112 §3.2.2).
                    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
                        headers.insert(HOST, host);
                    }
                } else if !headers.contains_key(HOST) {
                    headers.insert(HOST, self.0.host.clone());
                }
                if headers.contains_key(TE) {
                    headers.insert(CONNECTION, HeaderValue::from_static("te"));
                }
                if has_unexpected_body {
                    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                }
                *request.uri_mut() = Uri::from(path);
                *request.version_mut() = Version::HTTP_11;
            }
            Protocol::Http2 => {
                let host = headers.remove(HOST);
                let from_host = || Authority::try_from(host?.as_bytes()).ok();
                let authority = uri
                    .authority
                    .or_else(from_host)
                    .unwrap_or_else(|| self.0.authority.clone());
                let mut parts = http::uri::Parts::default();
                parts.scheme = Some(if self.0.target.is_tls() {
                    Scheme::HTTPS
                } else {
                    Scheme::HTTP
                });
                parts.authority = Some(authority);
                parts.path_and_query = Some(path);
                *request.uri_mut() = Uri::from_parts(parts).expect("scheme, authority and path are there");
                *request.version_mut() = Version::HTTP_2;
            }
        }
    }
}

#[cfg(test)]
mod tests;
