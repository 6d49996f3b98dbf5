//! HTTP/1.1 connections: one exchange at a time, driven by whoever waits for it; idle ones last in, first out.
//!
//! A connection has no task of its own. The task that waits for an answer polls the connection, so that an exchange
//! costs no wake-up beside that of the socket. Only an answer that begins before its request has been sent gets a task
//! for the rest: such an exchange goes on in both directions, whichever side is waited for.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::relay::Relay;
use super::{BoxError, Options};

/// What keeps a connection going; it ends with the connection.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection and what is needed to use it.
pub(super) struct Connection<B> {
    sender: SendRequest<Tracked<B>>,
    /// None once it has ended.
    driver: Option<Driver>,
    relay: Arc<Relay>,
    /// The relay's; the connection wakes no other.
    waker: Waker,
    /// Whether the body of the last request has been sent or given up.
    request_ended: Arc<AtomicBool>,
}

impl<B> Connection<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(sender: SendRequest<Tracked<B>>, driver: Driver) -> Self {
        let relay = Relay::new();
        Self {
            sender,
            driver: Some(driver),
            waker: Waker::from(Arc::clone(&relay)),
            relay,
            request_ended: Arc::default(),
        }
    }

    /// Sends `request` and waits for the head of its answer. Dropped before that, the connection has to be dropped too.
    pub(super) async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, Unanswered<B>> {
        self.request_ended.store(false, Ordering::Relaxed);
        let ended = Ended(Arc::clone(&self.request_ended));
        let request = request.map(|body| Tracked { body, _ended: ended });
        let Self {
            sender,
            driver,
            relay,
            waker,
            ..
        } = self;
        let mut answer = pin!(sender.try_send_request(request));
        // Whatever comes, comes while the connection is driven here: nobody has to be woken for it.
        let answered = std::future::poll_fn(|context| {
            relay.lead_to(context);
            drive(driver, waker);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        answered.await.map_err(|mut failure: TrySendError<_>| {
            let unsent = failure.take_message();
            Unanswered {
                unsent: unsent.map(|request| request.map(|tracked: Tracked<B>| tracked.body)),
                error: failure.into_error(),
            }
        })
    }

    /// Does what can be done now; what comes later wakes `context`.
    fn drive(&mut self, context: &mut Context<'_>) {
        self.relay.lead_to(context);
        drive(&mut self.driver, &self.waker);
    }

    /// Whether it can take a request.
    fn is_ready(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<Driver>, waker: &Waker) {
    if let Some(driving) = driver
        && driving.as_mut().poll(&mut Context::from_waker(waker)).is_ready()
    {
        *driver = None;
    }
}

/// A request that got no answer, given back when nothing of it was sent.
pub(super) struct Unanswered<B> {
    pub(super) unsent: Option<Request<B>>,
    pub(super) error: hyper::Error,
}

/// A request's body that tells when it is done with.
#[derive(Debug)]
pub(super) struct Tracked<B> {
    body: B,
    _ended: Ended,
}

#[derive(Debug)]
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Connections that wait for a request.
pub(super) struct Pool<B> {
    idle: Mutex<Idle<B>>,
    /// Whether the last answer said that its connection closes.
    last_closes: AtomicBool,
    max_idle: usize,
    idle_timeout: Duration,
}

struct Idle<B> {
    /// Oldest first; taken from the back, so that surplus connections grow old and end.
    connections: VecDeque<(Connection<B>, Instant)>,
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
            last_closes: AtomicBool::new(false),
            max_idle: options.max_idle,
            idle_timeout: options.idle_timeout,
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.lock().connections.len()
    }

    /// Held for a push or a pop, or a look at the idle ones, never across a wait.
    fn lock(&self) -> std::sync::MutexGuard<'_, Idle<B>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// The connection that was used last, if it can be used again.
    pub(super) fn checkout(&self) -> Option<Connection<B>> {
        loop {
            let (mut connection, since) = self.lock().connections.pop_back()?;
            if since.elapsed() >= self.idle_timeout {
                // All that are left are older.
                let old = std::mem::take(&mut self.lock().connections);
                drop(old);
                return None;
            }
            if connection.is_ready() {
                return Some(connection);
            }
        }
    }

    /// Whether the connection of the answer that just came closes after it. Two such answers one after the other are those
    /// of a server that is about to end: the connections that lie idle would be closed as a request is written to them.
    /// A single one is that of a server which lets each connection have a number of requests.
    pub(super) fn answered(&self, closes: bool) {
        if self.last_closes.load(Ordering::Relaxed) == closes {
            if closes {
                let idle = std::mem::take(&mut self.lock().connections);
                drop(idle);
            }
        } else {
            self.last_closes.store(closes, Ordering::Relaxed);
        }
    }

    fn put(self: &Arc<Self>, connection: Connection<B>) {
        if self.max_idle == 0 {
            return;
        }
        let mut idle = self.lock();
        let surplus = (idle.connections.len() >= self.max_idle).then(|| idle.connections.pop_front());
        idle.connections.push_back((connection, Instant::now()));
        let sweeping = std::mem::replace(&mut idle.sweeping, true);
        drop(idle);
        drop(surplus);
        if !sweeping {
            tokio::spawn(sweep(Arc::downgrade(self), self.idle_timeout));
        }
    }
}

/// Ends connections that have lain idle too long; ends itself with the last of them, or with the pool.
async fn sweep<B>(pool: Weak<Pool<B>>, every: Duration)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    loop {
        tokio::time::sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.lock();
        idle.connections
            .retain_mut(|(connection, since)| since.elapsed() < pool.idle_timeout && connection.is_ready());
        if idle.connections.is_empty() {
            idle.sweeping = false;
            return;
        }
    }
}

/// A connection whose answer is being read; returned to its pool at the end of it, closed when dropped before.
pub(super) struct Lease<B> {
    going_on: GoingOn<B>,
    pool: Arc<Pool<B>>,
}

enum GoingOn<B> {
    /// Driven by whoever reads the answer.
    Here(Connection<B>),
    /// The request is still being sent, by a task of its own.
    Apart(AbortOnDrop),
}

/// Ends a task with whoever waits for what it brings.
struct AbortOnDrop(Option<tokio::task::JoinHandle<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl<B> Lease<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(connection: Connection<B>, pool: Arc<Pool<B>>) -> Self {
        let sent = connection.request_ended.load(Ordering::Relaxed);
        let going_on = match connection {
            Connection {
                driver: Some(driver), ..
            } if !sent => GoingOn::Apart(AbortOnDrop(Some(tokio::spawn(driver)))),
            connection => GoingOn::Here(connection),
        };
        Self { going_on, pool }
    }

    /// The next frame of the answer.
    pub(super) fn poll_frame(
        &mut self,
        mut body: Pin<&mut Incoming>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let connection = match &mut self.going_on {
            GoingOn::Here(connection) => connection,
            GoingOn::Apart(_) => return body.poll_frame(context),
        };
        // Asked first, the connection knows that data is wanted; it is driven only when there is none yet.
        let unwoken = &mut Context::from_waker(Waker::noop());
        let mut take = |relay: &Arc<Relay>| {
            relay.without_wake_ups(|| {
                let frame = body.as_mut().poll_frame(unwoken);
                let is_last = frame.is_ready() && body.is_end_stream();
                (frame, is_last)
            })
        };
        let frame = take(&connection.relay);
        if frame.is_ready() {
            return frame;
        }
        connection.drive(context);
        take(&connection.relay)
    }

    /// The answer has ended.
    pub(super) fn finish(self) {
        match self.going_on {
            GoingOn::Here(mut connection) => {
                if connection.is_ready() {
                    self.pool.put(connection);
                }
            }
            // The client may send the rest of its request; then the connection closes.
            GoingOn::Apart(mut task) => drop(task.0.take()),
        }
    }
}
