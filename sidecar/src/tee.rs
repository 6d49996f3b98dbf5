//! Bodies that are passed on as they come while a copy of their frames is kept for the observer.

mod capture;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

pub(crate) use capture::{Capture, Keeping};

use crate::observation::{Ending, Observation};
use crate::skip::SkipReason;
use crate::upstream::UpstreamBody;

/// How far the body of a request has been sent, and its frames, for those who outlive it.
#[derive(Debug)]
pub(crate) struct RequestTap {
    frames: AtomicUsize,
    ended: AtomicBool,
    capture: Mutex<Option<Capture>>,
}

impl RequestTap {
    /// Takes what has been kept; frames that come later are not.
    pub(crate) fn take(&self) -> Option<Capture> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Capture>> {
        self.capture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with what has been kept, if it was asked for.
    pub(crate) fn with_capture<T>(&self, act: impl FnOnce(&mut Capture) -> T) -> Option<T> {
        self.lock().as_mut().map(act)
    }

    /// Keeps a frame. What fails here must not reach the request.
    fn keep(&self, data: &Bytes) {
        self.with_capture(|capture| {
            if catch_unwind(AssertUnwindSafe(|| capture.push(data))).is_err() {
                capture.lose(SkipReason::Panic);
            }
        });
    }
}

/// See [`RequestTap`]; a request without a body has ended from the start.
#[derive(Debug)]
pub(crate) struct Progress(Option<Arc<RequestTap>>);

impl Progress {
    pub(crate) fn is_ended(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|tap| tap.ended.load(Ordering::Relaxed))
    }

    /// Frames sent so far.
    pub(crate) fn frames(&self) -> usize {
        self.0
            .as_ref()
            .map_or(0, |tap| tap.frames.load(Ordering::Relaxed))
    }
}

/// The body of a request on its way to the model server.
#[derive(Debug)]
pub(crate) struct RequestBody(Option<(Incoming, Arc<RequestTap>)>);

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    /// Passes `incoming` on, and its frames into `capture`.
    pub(crate) fn new(incoming: Incoming, capture: Option<Capture>) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let tap = RequestTap {
            frames: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            capture: Mutex::new(capture),
        };
        Self(Some((incoming, Arc::new(tap))))
    }

    /// How far it has been sent.
    pub(crate) fn progress(&self) -> Progress {
        Progress(self.tap())
    }

    /// Its frames, for later.
    pub(crate) fn tap(&self) -> Option<Arc<RequestTap>> {
        self.0.as_ref().map(|(_, tap)| Arc::clone(tap))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((incoming, tap)) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *incoming).poll_frame(context);
        match &polled {
            Poll::Pending => return polled,
            Poll::Ready(Some(Ok(frame))) => {
                tap.frames.fetch_add(1, Ordering::Relaxed);
                if let Some(data) = frame.data_ref() {
                    tap.keep(data);
                }
                if incoming.is_end_stream() {
                    tap.ended.store(true, Ordering::Relaxed);
                }
            }
            Poll::Ready(Some(Err(_)) | None) => tap.ended.store(true, Ordering::Relaxed),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|(incoming, _)| incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or(SizeHint::with_exact(0), |(incoming, _)| incoming.size_hint())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some((_, tap)) = &self.0 {
            tap.ended.store(true, Ordering::Relaxed);
        }
    }
}

/// The body of an answer on its way to the client.
///
/// The observation ends when the body is dropped, which is after its last frame has been taken: nothing stands between
/// a frame and the client but a copy.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    source: Source,
    observation: Option<Box<Observation>>,
    /// How the exchange has ended, were it to end now.
    ending: Ending,
}

#[derive(Debug)]
enum Source {
    Upstream(UpstreamBody),
    /// Made here, for an answer that the model server did not give.
    Own(Option<Bytes>),
}

impl ResponseBody {
    /// Passes `body` on; `observation` gets its frames and its end.
    pub(crate) fn forwarded(body: UpstreamBody, observation: Option<Box<Observation>>) -> Self {
        // Nobody polls a body that has nothing in it.
        let ending = if body.is_end_stream() {
            Ending::Complete
        } else {
            Ending::ClientGone
        };
        Self {
            source: Source::Upstream(body),
            observation,
            ending,
        }
    }

    /// A short body of our own.
    pub(crate) fn own(body: Bytes) -> Self {
        let source = Source::Own(Some(body).filter(|body| !body.is_empty()));
        Self {
            source,
            observation: None,
            ending: Ending::UpstreamFailed,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let body = match &mut this.source {
            Source::Upstream(body) => body,
            Source::Own(body) => return Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
        };
        let polled = Pin::new(&mut *body).poll_frame(context);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => this.ending = Ending::Complete,
            Poll::Ready(Some(Err(_))) => this.ending = Ending::UpstreamFailed,
            Poll::Ready(Some(Ok(frame))) => {
                // Trailers are the last frame, whether or not the body says so; nobody asks for what comes after them.
                if body.is_end_stream() || frame.is_trailers() {
                    this.ending = Ending::Complete;
                }
                if let Some(observation) = &mut this.observation {
                    observation.response_frame(frame);
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Upstream(body) => body.is_end_stream(),
            Source::Own(body) => body.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Upstream(body) => body.size_hint(),
            Source::Own(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(observation) = self.observation.take() {
            observation.finish(self.ending);
        }
    }
}
