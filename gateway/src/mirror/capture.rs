//! Keeps an answer, within the budget, to be compared.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, HeaderMap};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use plumbline_inference_protocol::rest::HEADER_LENGTH;
use tokio::sync::oneshot;

use super::Slot;
use crate::call::Family;
use crate::error::GRPC_STATUS;

/// A whole answer that tells of predictions.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Bytes,
    /// Bytes of its JSON part, where tensors are binary.
    pub(super) json_len: Option<Box<[u8]>>,
    /// Its bytes are held until it has been compared.
    _slot: Arc<Slot>,
}

/// An answer that a client is getting.
pub(super) type Pending = oneshot::Receiver<Answer>;

/// What has been kept of an answer so far; nothing once it cannot be compared.
#[derive(Debug)]
pub(super) struct Keep {
    family: Family,
    slot: Arc<Slot>,
    kept: Option<(BytesMut, Option<Box<[u8]>>)>,
    /// For gRPC, whether the status was 0.
    succeeded: bool,
}

impl Keep {
    pub(super) fn new(family: Family, slot: Arc<Slot>) -> Self {
        Self {
            family,
            slot,
            kept: None,
            succeeded: false,
        }
    }

    pub(super) fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.succeeded = match self.family {
            Family::Grpc => is_zero(headers),
            Family::V1 | Family::V2 | Family::Other => true,
        };
        if status == StatusCode::OK && !headers.contains_key(CONTENT_ENCODING) {
            let json_len = headers.get(HEADER_LENGTH).map(|value| value.as_bytes().into());
            self.kept = Some((BytesMut::new(), json_len));
        }
    }

    pub(super) fn frame(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            self.succeeded |= is_zero(trailers);
        }
        let (Some(data), Some((body, _))) = (frame.data_ref(), &mut self.kept) else {
            return;
        };
        if self.slot.hold(data.len()) {
            body.extend_from_slice(data);
        } else {
            self.kept = None;
        }
    }

    pub(super) fn finish(self) -> Option<Answer> {
        let (body, json_len) = self.kept.filter(|_| self.succeeded)?;
        Some(Answer {
            body: body.freeze(),
            json_len,
            _slot: self.slot,
        })
    }
}

fn is_zero(headers: &HeaderMap) -> bool {
    headers.get(GRPC_STATUS).is_some_and(|status| status == "0")
}

/// Keeps an answer on its way to the client and hands it over at its end; one that breaks off is never handed over.
#[derive(Debug)]
pub(crate) struct Capture {
    keep: Keep,
    hand_over: oneshot::Sender<Answer>,
}

pub(super) fn pair(family: Family, slot: Arc<Slot>) -> (Capture, Pending) {
    let (hand_over, answer) = oneshot::channel();
    let keep = Keep::new(family, slot);
    (Capture { keep, hand_over }, answer)
}

impl Capture {
    fn finish(self) {
        if let Some(answer) = self.keep.finish() {
            let _given_up = self.hand_over.send(answer);
        }
    }
}

pin_project! {
    /// An answer's body, with who keeps a copy of it, if anyone does.
    pub(crate) struct Captured<B> {
        #[pin]
        body: B,
        capture: Option<Capture>,
    }
}

impl<B: Body<Data = Bytes>> Captured<B> {
    /// Passes `response` on, and its content into `capture`.
    pub(crate) fn new(response: Response<B>, mut capture: Option<Capture>) -> Response<Self> {
        if let Some(capture) = &mut capture {
            capture.keep.head(response.status(), response.headers());
        }
        response.map(|body| {
            let mut captured = Self { body, capture };
            captured.finish_at_end();
            captured
        })
    }

    fn finish_at_end(&mut self) {
        if self.capture.is_some() && self.body.is_end_stream() {
            self.capture.take().into_iter().for_each(Capture::finish);
        }
    }
}

impl<B: Body<Data = Bytes>> Body for Captured<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(context));
        if let Some(capture) = this.capture {
            match &frame {
                Some(Ok(frame)) => capture.keep.frame(frame),
                Some(Err(_)) => *this.capture = None,
                None => {}
            }
            if frame.is_none() || this.body.is_end_stream() {
                this.capture.take().into_iter().for_each(Capture::finish);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
