//! Idle HTTP/1.1 connections, last in, first out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::{BoxError, Options};

/// Time for a connection to become ready after its answer has ended: a request body may still be on its way.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Pool<B> {
    idle: Mutex<Idle<B>>,
    max_idle: usize,
    idle_timeout: Duration,
}

struct Idle<B> {
    /// Oldest first; taken from the back, so that surplus connections grow old and end.
    connections: VecDeque<(SendRequest<B>, Instant)>,
    /// Whether a task will look for connections that have grown old.
    sweeping: bool,
}

impl<B> std::fmt::Debug for Pool<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("h1::Pool")
            .field("idle", &self.idle())
            .finish_non_exhaustive()
    }
}

impl<B> Pool<B> {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            idle: Mutex::new(Idle {
                connections: VecDeque::new(),
                sweeping: false,
            }),
            max_idle: options.max_idle,
            idle_timeout: options.idle_timeout,
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.lock().connections.len()
    }

    /// The connection that was used last, if it can be used again.
    pub(super) fn checkout(&self) -> Option<SendRequest<B>> {
        let mut idle = self.lock();
        while let Some((sender, since)) = idle.connections.pop_back() {
            if since.elapsed() >= self.idle_timeout {
                // All that are left are older.
                idle.connections.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    /// Held for a push or a pop, never across a wait.
    fn lock(&self) -> std::sync::MutexGuard<'_, Idle<B>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Send + 'static> Pool<B> {
    fn put(self: &Arc<Self>, sender: SendRequest<B>) {
        let mut idle = self.lock();
        if idle.connections.len() >= self.max_idle {
            idle.connections.pop_front();
        }
        if self.max_idle > 0 {
            idle.connections.push_back((sender, Instant::now()));
            if !std::mem::replace(&mut idle.sweeping, true) {
                tokio::spawn(sweep(Arc::downgrade(self), self.idle_timeout));
            }
        }
    }
}

/// Ends connections that have lain idle too long; ends itself with the last of them, or with the pool.
async fn sweep<B>(pool: Weak<Pool<B>>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.lock();
        idle.connections
            .retain(|(sender, since)| since.elapsed() < pool.idle_timeout && !sender.is_closed());
        if idle.connections.is_empty() {
            idle.sweeping = false;
            return;
        }
    }
}

/// A connection in use; returned to its pool when the answer has ended, closed when dropped before.
pub(super) struct Lease<B> {
    sender: SendRequest<B>,
    pool: Arc<Pool<B>>,
}

impl<B> Lease<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(sender: SendRequest<B>, pool: Arc<Pool<B>>) -> Self {
        Self { sender, pool }
    }

    /// The answer has ended.
    pub(super) fn finish(self) {
        let Self { mut sender, pool } = self;
        if sender.is_closed() {
            return;
        }
        if sender.is_ready() {
            pool.put(sender);
            return;
        }
        // The connection's own task has not come round yet, or the request is still being sent.
        tokio::spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(READY_TIMEOUT, sender.ready()).await {
                pool.put(sender);
            }
        });
    }
}
