//! Bodies that are passed on as they come while a copy of their frames is kept for the observer.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use smallvec::SmallVec;

use crate::observation::{Ending, Observation};
use crate::upstream::UpstreamBody;

/// Frames up to this size are copied. A refcounted slice would keep the connection's whole read buffer from being used
/// again, which costs more than the copy; larger frames fill most of the buffer that they pin.
const COPIED_FRAME: usize = 16 << 10;

/// What is kept of a body that is too large: enough to read the model's name out of a gRPC message.
const KEPT_PREFIX: usize = 512;

/// The frames of one body, up to a number of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    frames: SmallVec<[Bytes; 2]>,
    bytes: usize,
    limit: usize,
    complete: bool,
}

impl Capture {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            frames: SmallVec::new(),
            bytes: 0,
            limit,
            complete: true,
        }
    }

    /// Adds a frame.
    pub(crate) fn push(&mut self, frame: &Bytes) {
        if !self.complete || frame.is_empty() {
            return;
        }
        self.bytes += frame.len();
        if self.bytes > self.limit {
            self.give_up(frame);
            return;
        }
        let kept = if frame.len() <= COPIED_FRAME {
            Bytes::copy_from_slice(frame)
        } else {
            frame.clone()
        };
        self.frames.push(kept);
    }

    /// Frees what was kept, but for the beginning.
    fn give_up(&mut self, last: &Bytes) {
        self.complete = false;
        self.frames.push(last.clone());
        let beginning = Bytes::from(self.beginning().into_owned());
        self.frames = SmallVec::from_iter([beginning]);
    }

    /// Whether the whole body is here.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Bytes kept.
    pub(crate) fn len(&self) -> usize {
        self.frames.iter().map(Bytes::len).sum()
    }

    /// The body's first bytes: all that were kept, up to a number that holds a model's name.
    pub(crate) fn beginning(&self) -> Cow<'_, [u8]> {
        match self.frames.as_slice() {
            [] => Cow::Borrowed(&[]),
            [only] => Cow::Borrowed(&only[..only.len().min(KEPT_PREFIX)]),
            frames => {
                // A gRPC message's five-byte prefix often comes in a frame of its own.
                Cow::Owned(frames.iter().flatten().copied().take(KEPT_PREFIX).collect())
            }
        }
    }

    /// The body in one piece, copied only if it came in several.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        match self.frames.len() {
            0 => Bytes::new(),
            1 => self.frames.remove(0),
            _ => {
                let mut whole = BytesMut::with_capacity(self.len());
                self.frames
                    .iter()
                    .for_each(|frame| whole.extend_from_slice(frame));
                whole.freeze()
            }
        }
    }
}

/// How far the body of a request has been sent, and its frames, for those who outlive it.
#[derive(Debug)]
pub(crate) struct RequestTap {
    frames: AtomicUsize,
    ended: AtomicBool,
    capture: Option<Mutex<Capture>>,
}

impl RequestTap {
    /// Takes the frames that have been kept; nothing when they were not asked for.
    pub(crate) fn take(&self) -> Capture {
        let Some(capture) = &self.capture else {
            return Capture::new(0);
        };
        let mut capture = capture.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut capture, Capture::new(0))
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

    /// Passes `incoming` on, and keeps its frames when `capture` says how many bytes at most.
    pub(crate) fn new(incoming: Incoming, capture: Option<usize>) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let tap = RequestTap {
            frames: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            capture: capture.map(|limit| Mutex::new(Capture::new(limit))),
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
                if let (Some(data), Some(capture)) = (frame.data_ref(), &tap.capture) {
                    capture.lock().unwrap_or_else(PoisonError::into_inner).push(data);
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
#[derive(Debug)]
pub(crate) struct ResponseBody {
    source: Source,
    /// Ends the observation with the body; on an early drop, as given up by the client.
    observation: Option<Box<Observation>>,
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
        let mut passed = Self {
            source: Source::Upstream(body),
            observation,
        };
        if passed.is_end_stream() {
            // Nobody will poll it.
            passed.finish(Ending::Complete);
        }
        passed
    }

    /// A short body of our own.
    pub(crate) fn own(body: Bytes) -> Self {
        let source = Source::Own(Some(body).filter(|body| !body.is_empty()));
        Self {
            source,
            observation: None,
        }
    }

    fn finish(&mut self, ending: Ending) {
        if let Some(observation) = self.observation.take() {
            observation.finish(ending);
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
        if let Some(observation) = &mut this.observation {
            let ended = body.is_end_stream();
            match &polled {
                Poll::Pending => {}
                Poll::Ready(None) => this.finish(Ending::Complete),
                Poll::Ready(Some(Err(_))) => this.finish(Ending::UpstreamFailed),
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        observation.response_data(data);
                    } else if let Some(trailers) = frame.trailers_ref() {
                        observation.response_trailers(trailers);
                    }
                    if ended {
                        this.finish(Ending::Complete);
                    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_pieces_becomes_one() {
        let mut capture = Capture::new(8);
        capture.push(&Bytes::from_static(b"abc"));
        capture.push(&Bytes::from_static(b""));
        capture.push(&Bytes::from_static(b"defgh"));
        assert!(capture.is_complete());
        assert_eq!((capture.len(), &*capture.beginning()), (8, &b"abcdefgh"[..]));
        assert_eq!(capture.into_bytes(), "abcdefgh");
    }

    #[test]
    fn a_body_over_the_limit_keeps_only_its_beginning() {
        let mut capture = Capture::new(2_000);
        capture.push(&Bytes::from(vec![1; 1_500]));
        capture.push(&Bytes::from(vec![2; 1_500]));
        capture.push(&Bytes::from(vec![3; 10]));
        assert!(!capture.is_complete());
        assert_eq!(*capture.beginning(), [1; KEPT_PREFIX]);
        assert_eq!(capture.len(), KEPT_PREFIX);
        let mut at_once = Capture::new(10);
        at_once.push(&Bytes::from_static(b"longer than ten"));
        assert_eq!(&*at_once.beginning(), b"longer than ten");
    }
}
