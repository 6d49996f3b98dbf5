//! A predictor that speaks HTTP/1.1, h2c and gRPC on loopback, port 0, and answers what the test says, when it says.
//!
//! ```no_run
//! # async fn example() {
//! use plumbline_testkit::predictor::{FakePredictor, Reply};
//! let predictor = FakePredictor::holding(|_request| Reply::json(r#"{"predictions":[1]}"#)).await;
//! // … send a request to `predictor.url()` …
//! let requests = predictor.received(1).await; // an event, not a delay
//! assert_eq!(requests[0].path(), "/v1/models/churn:predict");
//! predictor.release();
//! # }
//! ```

mod connection;
mod reply;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub use reply::{Cut, Reply, grpc_message};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// Method.
    pub method: Method,
    /// Request target.
    pub uri: Uri,
    /// Headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
    /// Trailers, empty when none came.
    pub trailers: HeaderMap,
    /// Which connection it came on, from 0 in the order of accepting.
    pub connection: u64,
    /// Its place on that connection, from 0.
    pub sequence: u64,
}

impl Received {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// A header as text; empty when it is missing or not text.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }
}

type Script = Box<dyn Fn(&Received) -> Reply + Send + Sync>;

/// A scripted predictor; it ends when dropped, connections included.
#[derive(Debug)]
pub struct FakePredictor {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    requests: watch::Sender<Vec<Received>>,
    /// Requests whose head has arrived.
    started: watch::Sender<usize>,
    /// Exchanges that the other side gave up before their end.
    aborted: watch::Sender<usize>,
    accepted: watch::Sender<u64>,
    open: watch::Sender<u64>,
    gate: Semaphore,
    /// Whether requests wait for the gate.
    holding: bool,
    /// Whether bodies are sent back as they arrive instead of asking the script.
    streaming: bool,
    connections: AtomicU64,
    drop_connections: Mutex<CancellationToken>,
    go_away: Mutex<CancellationToken>,
    stopped: CancellationToken,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("requests", &self.requests.borrow().len())
            .finish_non_exhaustive()
    }
}

/// Replies are released without limit.
const ALWAYS_OPEN: usize = Semaphore::MAX_PERMITS >> 1;

impl FakePredictor {
    /// Answers every request at once with what `script` says. The script sees the whole request.
    pub async fn answering(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        Self::on(listener, Shared::new(script, false, false))
    }

    /// Records every request at once and answers it after [`Self::release`] or [`Self::release_one`].
    pub async fn holding(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        Self::on(listener, Shared::new(script, true, false))
    }

    /// Answers with the request's body, content type and trailers.
    pub async fn echo() -> Self {
        Self::answering(Reply::echo).await
    }

    /// Sends each frame of the request's body back as soon as it arrives, then its trailers.
    ///
    /// A request is in [`Self::received`] when its last frame has arrived, in [`Self::started`] when its head has.
    pub async fn streaming_echo() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        Self::on(listener, Shared::new(Reply::echo, false, true))
    }

    /// As [`Self::answering`], on an address that another predictor had before.
    pub fn answering_on(
        address: SocketAddr,
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option of the socket");
        socket.bind(address).expect("the port is free again");
        Self::on(
            socket.listen(128).expect("listening"),
            Shared::new(script, false, false),
        )
    }

    /// As [`Self::answering`], on a unix socket; [`Self::address`] means nothing then.
    pub fn answering_on_unix(
        path: &Path,
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).expect("a free path");
        let shared = Arc::new(Shared::new(script, false, false));
        tokio::spawn(connection::accept_unix(listener, Arc::clone(&shared)));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { address, shared }
    }

    fn on(listener: TcpListener, shared: Shared) -> Self {
        let address = listener.local_addr().expect("a bound listener");
        let shared = Arc::new(shared);
        tokio::spawn(connection::accept_tcp(listener, Arc::clone(&shared)));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces the script for requests that have not been answered.
    pub fn script(&self, script: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.script) = Box::new(script);
    }

    /// Waits until `count` requests have arrived whole, and returns all that have.
    pub async fn received(&self, count: usize) -> Vec<Received> {
        let mut requests = self.shared.requests.subscribe();
        let reached = requests.wait_for(|requests| requests.len() >= count).await;
        reached.expect("the sender lives as long as self").clone()
    }

    /// The requests that have arrived whole so far.
    pub fn received_by_now(&self) -> Vec<Received> {
        self.shared.requests.borrow().clone()
    }

    /// How many requests have arrived whole so far.
    pub fn received_so_far(&self) -> usize {
        self.shared.requests.borrow().len()
    }

    /// Waits until the heads of `count` requests have arrived.
    pub async fn started(&self, count: usize) {
        at_least(&self.shared.started, count).await;
    }

    /// Waits until the other side has given up `count` exchanges before their end.
    pub async fn aborted(&self, count: usize) {
        at_least(&self.shared.aborted, count).await;
    }

    /// How many connections have been accepted so far.
    pub fn accepted(&self) -> u64 {
        *self.shared.accepted.borrow()
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> u64 {
        *self.shared.open.borrow()
    }

    /// Waits until no more than `count` connections are open.
    pub async fn open_connections_at_most(&self, count: u64) {
        let mut open = self.shared.open.subscribe();
        let reached = open.wait_for(|open| *open <= count).await;
        reached.expect("the sender lives as long as self");
    }

    /// Lets every held request be answered, and later ones at once.
    pub fn release(&self) {
        self.shared.gate.add_permits(ALWAYS_OPEN);
    }

    /// Lets one held request be answered, or the next one that comes.
    pub fn release_one(&self) {
        self.shared.gate.add_permits(1);
    }

    /// Closes all open connections at once, as a restart does; new ones are accepted.
    pub async fn drop_connections(&self) {
        let dropped = std::mem::take(&mut *lock(&self.shared.drop_connections));
        dropped.cancel();
        self.open_connections_at_most(0).await;
    }

    /// Sends GOAWAY (or closes after the current HTTP/1.1 exchange) on all open connections.
    pub fn go_away(&self) {
        std::mem::take(&mut *lock(&self.shared.go_away)).cancel();
    }

    /// Stops listening and closes all connections; the port refuses from then on.
    pub async fn stop(self) -> SocketAddr {
        self.shared.stopped.cancel();
        let dropped = lock(&self.shared.drop_connections).clone();
        dropped.cancel();
        self.open_connections_at_most(0).await;
        // The accepting task holds the listener until it has seen the token.
        self.shared.accepted.closed().await;
        self.address
    }
}

impl Drop for FakePredictor {
    fn drop(&mut self) {
        self.shared.stopped.cancel();
        lock(&self.shared.drop_connections).cancel();
    }
}

impl Shared {
    fn new(
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
        holding: bool,
        streaming: bool,
    ) -> Self {
        Self {
            script: Mutex::new(Box::new(script)),
            requests: watch::Sender::default(),
            started: watch::Sender::default(),
            aborted: watch::Sender::default(),
            accepted: watch::Sender::default(),
            open: watch::Sender::default(),
            gate: Semaphore::new(0),
            holding,
            streaming,
            connections: AtomicU64::new(0),
            drop_connections: Mutex::default(),
            go_away: Mutex::default(),
            stopped: CancellationToken::new(),
        }
    }

    fn next_connection(&self) -> u64 {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        self.accepted.send_modify(|count| *count += 1);
        number
    }

    fn reply(&self, request: &Received) -> Reply {
        lock(&self.script)(request)
    }
}

async fn at_least(counter: &watch::Sender<usize>, count: usize) {
    let mut counter = counter.subscribe();
    let reached = counter.wait_for(|so_far| *so_far >= count).await;
    reached.expect("the sender lives as long as self");
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port on loopback that refuses every connection, and that nobody else gets while this lives.
#[derive(Debug)]
pub struct RefusingPort {
    address: SocketAddr,
    /// Bound and never listening: the kernel answers SYN with RST.
    _socket: TcpSocket,
}

impl RefusingPort {
    /// Takes a free port.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .expect("a free port");
        let address = socket.local_addr().expect("a bound socket");
        Self {
            address,
            _socket: socket,
        }
    }

    /// The address that refuses.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Default for RefusingPort {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
