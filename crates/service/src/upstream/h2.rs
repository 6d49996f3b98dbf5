//! HTTP/2 connections, several where one has no streams left.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{BoxError, Options, Target, UpstreamError, connect};

pub(super) struct Pool<B> {
    connections: Mutex<Vec<Connection<B>>>,
    /// One attempt to connect at a time: a burst on a cold endpoint shares one connection instead of opening many.
    connecting: Semaphore,
    /// The last failed attempt; whoever waited for it shares its outcome.
    failed: Mutex<Option<(Instant, UpstreamError)>>,
    streams_per_connection: usize,
    max_connections: usize,
}

struct Connection<B> {
    sender: SendRequest<B>,
    /// Streams in use.
    streams: Arc<AtomicUsize>,
    /// Streams that the peer allows.
    max_streams: Arc<AtomicUsize>,
}

/// A place on a connection.
pub(super) struct Stream<B> {
    pub(super) sender: SendRequest<B>,
    pub(super) streams: StreamGuard,
    /// Whether the connection was there before.
    pub(super) reused: bool,
}

/// One stream in its connection's count, until dropped.
pub(super) struct StreamGuard(Arc<AtomicUsize>);

impl StreamGuard {
    fn new(streams: &Arc<AtomicUsize>) -> Self {
        streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(streams))
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<B> std::fmt::Debug for Pool<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let connections = lock(&self.connections).len();
        f.debug_struct("h2::Pool")
            .field("connections", &connections)
            .finish_non_exhaustive()
    }
}

impl<B> Pool<B> {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            connections: Mutex::default(),
            connecting: Semaphore::new(1),
            failed: Mutex::default(),
            streams_per_connection: options.streams_per_connection.max(1),
            max_connections: options.max_http2_connections.max(1),
        }
    }
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn open(&self) -> usize {
        let mut connections = lock(&self.connections);
        connections.retain(|connection| !connection.sender.is_closed());
        connections.len()
    }

    /// A stream on the least used connection; on a new one when all are full and another is allowed.
    pub(super) async fn stream(
        &self,
        target: &Target,
        options: &Options,
    ) -> Result<Stream<B>, UpstreamError> {
        if let Some(stream) = self.pick(false) {
            return Ok(stream);
        }
        let began = Instant::now();
        let _permit = self.connecting.acquire().await.expect("never closed");
        if let Some(stream) = self.pick(false) {
            return Ok(stream);
        }
        if let Some((at, error)) = &*lock(&self.failed)
            && *at >= began
        {
            return self.pick(true).ok_or_else(|| error.clone());
        }
        // Boxed, as it is large and rare: every request's future would have its size.
        match Box::pin(connect::http2(target, options)).await {
            Ok(connect::Http2 { sender, max_streams }) => {
                let streams = Arc::new(AtomicUsize::new(0));
                let stream = Stream {
                    sender: sender.clone(),
                    streams: StreamGuard::new(&streams),
                    reused: false,
                };
                lock(&self.connections).push(Connection {
                    sender,
                    streams,
                    max_streams,
                });
                Ok(stream)
            }
            Err(error) => {
                *lock(&self.failed) = Some((Instant::now(), error.clone()));
                // Full connections are better than none.
                self.pick(true).ok_or(error)
            }
        }
    }

    /// The least used open connection; nothing when it is full, unless another one is not allowed or `even_if_full`.
    fn pick(&self, even_if_full: bool) -> Option<Stream<B>> {
        let mut connections = lock(&self.connections);
        connections.retain(|connection| !connection.sender.is_closed());
        let may_open = connections.len() < self.max_connections && !even_if_full;
        let connection = connections
            .iter()
            .min_by_key(|connection| connection.streams.load(Ordering::Relaxed))?;
        let used = connection.streams.load(Ordering::Relaxed);
        let limit = connection
            .max_streams
            .load(Ordering::Relaxed)
            .min(self.streams_per_connection);
        let full = used >= limit.max(1);
        if full && may_open {
            return None;
        }
        Some(Stream {
            sender: connection.sender.clone(),
            streams: StreamGuard::new(&connection.streams),
            reused: true,
        })
    }
}

/// Held to look at a few connections, never across a wait.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
