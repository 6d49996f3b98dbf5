//! Accepting, receiving and answering.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use super::{Cut, Received, Reply, Shared, lock};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type ReplyBody = UnsyncBoxBody<Bytes, BoxError>;

pub(super) async fn accept_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let _accepting = shared.accepted.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopped.cancelled() => return,
        };
        if let Ok((stream, _peer)) = accepted {
            stream.set_nodelay(true).expect("an option of the socket");
            spawn(stream, &shared);
        }
    }
}

pub(super) async fn accept_unix(listener: UnixListener, shared: Arc<Shared>) {
    let _accepting = shared.accepted.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopped.cancelled() => return,
        };
        if let Ok((stream, _peer)) = accepted {
            spawn(stream, &shared);
        }
    }
}

fn spawn<I>(stream: I, shared: &Arc<Shared>)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let number = shared.next_connection();
    let dropped = lock(&shared.drop_connections).clone();
    let go_away = lock(&shared.go_away).clone();
    let shared = Arc::clone(shared);
    let open = Open::new(&shared.open);
    let sequence = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        let _open = open;
        let service = hyper::service::service_fn(move |request| {
            let sequence = sequence.fetch_add(1, Ordering::Relaxed);
            exchange(Arc::clone(&shared), request, number, sequence)
        });
        let http = auto::Builder::new(TokioExecutor::new());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let mut going_away = false;
        loop {
            tokio::select! {
                // However it ends: most tests of this fake are about connections that end badly.
                _ended = connection.as_mut() => return,
                () = dropped.cancelled() => return,
                () = go_away.cancelled(), if !going_away => {
                    going_away = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    });
}

/// One open connection.
struct Open(watch::Sender<u64>);

impl Open {
    fn new(open: &watch::Sender<u64>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// Counts an exchange as given up unless it reaches its end.
struct Unfinished(Option<Arc<Shared>>);

impl Unfinished {
    fn finish(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.aborted.send_modify(|count| *count += 1);
        }
    }
}

async fn exchange(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    connection: u64,
    sequence: u64,
) -> Result<Response<ReplyBody>, BoxError> {
    let mut unfinished = Unfinished(Some(Arc::clone(&shared)));
    shared.started.send_modify(|count| *count += 1);
    let (head, body) = request.into_parts();
    let mut received = Received {
        version: head.version,
        method: head.method,
        uri: head.uri,
        headers: head.headers,
        body: Bytes::new(),
        trailers: HeaderMap::new(),
        connection,
        sequence,
    };
    if shared.streaming {
        let head = Reply::echo(&received).head();
        let body = StreamingEcho {
            body,
            shared,
            received: Some(received),
            data: Vec::new(),
            unfinished,
        };
        return Ok(head.map(|()| body.boxed_unsync()));
    }
    let collected = body.collect().await?;
    received.trailers = collected.trailers().cloned().unwrap_or_default();
    received.body = collected.to_bytes();
    shared
        .requests
        .send_modify(|requests| requests.push(received.clone()));
    if shared.holding {
        let permit = shared.gate.acquire().await.expect("never closed");
        permit.forget();
    }
    let reply = shared.reply(&received);
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    if reply.cut == Some(Cut::BeforeHead) {
        unfinished.finish();
        return Err("cut before the head".into());
    }
    let head = reply.head();
    let body = ScriptedBody::new(reply, unfinished);
    Ok(head.map(|()| body.boxed_unsync()))
}

/// The rest of a scripted answer.
struct ScriptedBody {
    chunks: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// Bytes that the head promises.
    promised: u64,
    /// Breaks off after the chunks that are left.
    cut: bool,
    /// Whether the other side has had a chance to see what came before.
    flushed: bool,
    unfinished: Unfinished,
}

impl ScriptedBody {
    fn new(reply: Reply, mut unfinished: Unfinished) -> Self {
        let promised: u64 = reply.chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let mut chunks: VecDeque<Bytes> = reply.chunks.into();
        match reply.cut {
            Some(Cut::AfterHead | Cut::BeforeHead) => chunks.clear(),
            Some(Cut::MidBody) => {
                let mut whole = chunks.iter().flatten().copied().collect::<Vec<u8>>();
                whole.truncate(whole.len() / 2);
                chunks = VecDeque::from([whole.into()]);
            }
            None if chunks.is_empty() && reply.trailers.is_none() => unfinished.finish(),
            None => {}
        }
        Self {
            chunks,
            trailers: reply.trailers,
            // A cut answer always promises more than comes.
            promised: if reply.cut.is_some() {
                promised.max(1)
            } else {
                promised
            },
            cut: reply.cut.is_some(),
            flushed: false,
            unfinished,
        }
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            if self.chunks.is_empty() && self.trailers.is_none() && !self.cut {
                self.unfinished.finish();
            }
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if self.cut {
            // The server flushes what it has before it asks again; an error at once would discard it.
            if !std::mem::replace(&mut self.flushed, true) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.unfinished.finish();
            return Poll::Ready(Some(Err("cut as scripted".into())));
        }
        self.unfinished.finish();
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && self.trailers.is_none() && !self.cut
    }

    fn size_hint(&self) -> SizeHint {
        if self.trailers.is_some() {
            SizeHint::default() // HTTP/1.1 sends trailers only after a chunked body
        } else if self.cut {
            SizeHint::with_exact(self.promised)
        } else {
            SizeHint::with_exact(self.chunks.iter().map(|chunk| chunk.len() as u64).sum())
        }
    }
}

/// Sends frames back as they come and records the request at its end.
struct StreamingEcho {
    body: Incoming,
    shared: Arc<Shared>,
    received: Option<Received>,
    data: Vec<u8>,
    unfinished: Unfinished,
}

impl Body for StreamingEcho {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Some(Ok(frame))) => Some(frame),
            Poll::Ready(None) => None,
        };
        if let Some(data) = frame.as_ref().and_then(Frame::data_ref) {
            this.data.extend_from_slice(data);
        } else if let Some(mut received) = this.received.take() {
            if let Some(trailers) = frame.as_ref().and_then(Frame::trailers_ref) {
                received.trailers = trailers.clone();
            }
            received.body = std::mem::take(&mut this.data).into();
            this.shared
                .requests
                .send_modify(|requests| requests.push(received));
            this.unfinished.finish();
        }
        Poll::Ready(frame.map(Ok))
    }
}
