//! A model server in this process, with a fixed number of workers, that slows down, refuses, dies and comes back when told.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::constant::{self, Answer};

/// The time that requests in flight get when it ends in an orderly way.
const DRAIN: Duration = Duration::from_secs(10);

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers after a worker has spent this time on it; requests wait for a worker in the order in which they came.
    Answers(Duration),
    /// Answers this status at once.
    Refuses(StatusCode),
    /// Ends the connection without an answer.
    HangsUp,
}

/// A replica; it ends when dropped.
#[derive(Debug)]
pub struct Replica {
    address: SocketAddr,
    runtime: Handle,
    state: Arc<State>,
    /// While it is up.
    serving: Option<Serving>,
}

#[derive(Debug)]
struct State {
    behaviour: Mutex<Behaviour>,
    workers: Semaphore,
    requests: AtomicU64,
    /// Asks clients to come back over another connection.
    leaving: AtomicBool,
}

/// One life, from a start to an end.
#[derive(Debug)]
struct Serving {
    closing: CancellationToken,
    accepting: JoinHandle<()>,
}

impl Replica {
    /// A replica with so many workers that serves on `listener` by `runtime`.
    ///
    /// # Errors
    /// When the listener is of no use.
    pub fn start(
        runtime: &Handle,
        listener: TcpListener,
        workers: usize,
        behaviour: Behaviour,
    ) -> anyhow::Result<Self> {
        let mut replica = Self {
            address: listener.local_addr()?,
            runtime: runtime.clone(),
            state: Arc::new(State {
                behaviour: Mutex::new(behaviour),
                workers: Semaphore::new(workers),
                requests: AtomicU64::new(0),
                leaving: AtomicBool::new(false),
            }),
            serving: None,
        };
        replica.serve(listener)?;
        Ok(replica)
    }

    /// Serves on another listener, after an end.
    ///
    /// # Errors
    /// When the listener is of no use.
    pub fn serve(&mut self, listener: TcpListener) -> anyhow::Result<()> {
        self.kill();
        self.state.leaving.store(false, Ordering::Relaxed);
        listener.set_nonblocking(true)?;
        let _of_the_runtime = self.runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let closing = CancellationToken::new();
        let accepting = accept(listener, Arc::clone(&self.state), closing.clone());
        self.serving = Some(Serving {
            closing,
            accepting: self.runtime.spawn(accepting),
        });
        Ok(())
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it does this.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.state.behaviour() = behaviour;
    }

    /// Requests that have reached it so far.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Ends as a server does at SIGTERM: for `notice` it answers with `connection: close`; then it refuses connections, sends
    /// GOAWAY, closes what is idle and answers what it has.
    ///
    /// # Errors
    /// When it is not up, or requests take longer than 10 s.
    pub fn terminate(&mut self, notice: Duration) -> anyhow::Result<()> {
        let serving = self.serving.take().context("a replica that is not up")?;
        self.state.leaving.store(true, Ordering::Relaxed);
        std::thread::sleep(notice);
        serving.closing.cancel();
        let ended = async { timeout(DRAIN, serving.accepting).await };
        let ended = self.runtime.block_on(ended);
        ended.context("a replica does not end")?.context("a replica")
    }

    /// Ends as a process does at SIGKILL: its port and connections close, whatever is under way.
    pub fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.accepting.abort();
            let _aborted = self.runtime.block_on(serving.accepting);
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.accepting.abort();
        }
    }
}

impl State {
    fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Answer>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let is_http1 = request.version() < http::Version::HTTP_2;
        let Ok(mut response) = constant::answer(request).await;
        let behaviour = *self.behaviour();
        match behaviour {
            Behaviour::Answers(after) => {
                let worker = self.workers.acquire().await.map_err(io::Error::other)?;
                tokio::time::sleep(after).await;
                drop(worker);
            }
            Behaviour::Refuses(status) => {
                response = Response::new(Answer::default());
                *response.status_mut() = status;
            }
            Behaviour::HangsUp => return Err(io::Error::other("it hangs up")),
        }
        if is_http1 && self.leaving.load(Ordering::Relaxed) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Ok(response)
    }
}

/// Serves until it is told to close. Dropped earlier, its connections end with it.
async fn accept(listener: tokio::net::TcpListener, state: Arc<State>, closing: CancellationToken) {
    let (mut connections, graceful) = (JoinSet::new(), GracefulShutdown::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => break,
        };
        // Of those that have ended nothing is kept.
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else { continue };
        let _only_slower = stream.set_nodelay(true);
        let (state, watcher) = (Arc::clone(&state), graceful.watcher());
        connections.spawn(async move {
            let http = auto::Builder::new(TokioExecutor::new());
            let answer = hyper::service::service_fn(move |request| Arc::clone(&state).answer(request));
            let _other_side_gone = watcher
                .watch(http.serve_connection(TokioIo::new(stream), answer))
                .await;
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests;
