//! Bodies: the request's, replayed and limited; the answer's, with what has to last as long.

mod client;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::call::{Family, Ledger};
use crate::mirror::Tee;
use crate::replay::{Left, Recorder, Tape};
pub(crate) use client::{ClientBody, ClientBodyError};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A client's body: the bytes that routing read are given again, the rest streams, and a limit ends it.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// Read for routing, not yet given on.
    replay: VecDeque<Bytes>,
    /// Nothing when all of it is to be given again.
    body: Option<ClientBody>,
    /// Of a body that is given again, after its data.
    trailers: Option<HeaderMap>,
    /// Where what is given on is kept, in case it has to be given again.
    recorder: Option<Recorder>,
    meter: Meter,
    ledger: Arc<Ledger>,
    /// Keeps a copy of what is given on.
    tee: Option<Box<Tee>>,
}

/// Why a client's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestBodyError {
    #[error("the request's body is larger than allowed")]
    TooLarge,
    #[error("the request's body ended early")]
    Incomplete(#[source] hyper::Error),
    #[error("the request's body has trailers")]
    Trailers,
    #[error("the request's body is not base64")]
    NotBase64,
}

impl RequestBody {
    pub(crate) fn new(body: ClientBody, family: Family, ledger: Arc<Ledger>) -> Self {
        Self {
            replay: VecDeque::new(),
            body: Some(body),
            trailers: None,
            recorder: None,
            meter: Meter::new(family),
            ledger,
            tee: None,
        }
    }

    /// A body that is given again, or its copy: what was given on, and what was not read yet.
    pub(crate) fn recorded(
        data: Vec<Bytes>,
        trailers: Option<HeaderMap>,
        rest: Option<ClientBody>,
        family: Family,
        ledger: &Arc<Ledger>,
    ) -> Self {
        Self {
            replay: data.into(),
            body: rest,
            trailers,
            recorder: None,
            meter: Meter::new(family),
            ledger: Arc::clone(ledger),
            tee: None,
        }
    }

    /// Keeps on `tape` what is given on from now.
    pub(crate) fn record(&mut self, tape: &Arc<Mutex<Tape>>) {
        let recorder = Recorder::to(tape);
        if self.is_end_stream() {
            recorder.complete();
        }
        self.recorder = Some(recorder);
    }

    /// Keeps a copy of what is given on from now. A body that has ended already is copied at once.
    pub(crate) fn tee(&mut self, mut tee: Box<Tee>) {
        if self.is_end_stream() {
            tee.end();
        } else {
            self.tee = Some(tee);
        }
    }

    fn ended(&mut self) {
        self.ledger.body_ended();
        if let Some(recorder) = &self.recorder {
            recorder.complete();
        }
        if let Some(mut tee) = self.tee.take() {
            tee.end();
        }
    }

    fn poll_incoming(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if let (Some(trail), Some(Ok(frame))) = (self.ledger.trail.get(), &frame) {
            trail.received(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) if frame.is_trailers() && !self.ledger.admits_trailers() => {
                Err(RequestBodyError::Trailers)
            }
            Ok(frame) => Ok(frame),
            Err(ClientBodyError::Broken(error)) => {
                self.ledger.body_incomplete();
                Err(RequestBodyError::Incomplete(error))
            }
            Err(ClientBodyError::NotBase64) => {
                self.ledger.body_not_base64();
                Err(RequestBodyError::NotBase64)
            }
        }))
    }

    /// The next piece of data, without giving it on; nothing at the end. Give it back with [`Self::give_back`].
    ///
    /// # Errors
    /// The client went away, broke its framing, or sent something other than the base64 that it announced.
    pub(crate) async fn peek_frame(&mut self) -> Result<Option<Bytes>, RequestBodyError> {
        loop {
            let frame = std::future::poll_fn(|context| self.poll_incoming(context)).await;
            // A request's trailers come after its last message; before the first there is nothing to keep them for.
            match frame.transpose()?.map(Frame::into_data) {
                None => return Ok(None),
                Some(Ok(data)) => return Ok(Some(data)),
                Some(Err(_not_data)) => {}
            }
        }
    }

    /// Puts a piece behind those that wait to be given on.
    pub(crate) fn give_back(&mut self, data: Bytes) {
        self.replay.push_back(data);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let this = &mut *self;
        let frame = match (this.replay.pop_front(), &this.body) {
            (Some(data), _) => Frame::data(data),
            (None, Some(_)) => match ready!(this.poll_incoming(context)) {
                Some(Ok(frame)) => frame,
                end => {
                    match (&end, &this.recorder) {
                        (None, _) => this.ended(),
                        (Some(_), Some(recorder)) => recorder.broken(),
                        (Some(_), None) => {}
                    }
                    return Poll::Ready(end);
                }
            },
            (None, None) => match this.trailers.take() {
                Some(trailers) => Frame::trailers(trailers),
                None => return Poll::Ready(None),
            },
        };
        let limit = this.ledger.limit();
        if let Some(data) = frame.data_ref()
            && !this.meter.admits(data, limit)
        {
            this.ledger.body_too_large();
            return Poll::Ready(Some(Err(RequestBodyError::TooLarge)));
        }
        if let Some(recorder) = &this.recorder {
            if let Some(data) = frame.data_ref() {
                recorder.data(data);
            } else if let Some(trailers) = frame.trailers_ref() {
                recorder.trailers(trailers);
            }
        }
        if let (Some(tee), Some(data)) = (&mut this.tee, frame.data_ref()) {
            tee.push(data);
        }
        // Nobody asks for more once this is true.
        if frame.is_trailers() || this.is_end_stream() {
            this.ended();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.replay.is_empty()
            && self.trailers.is_none()
            && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let waiting: u64 = self.replay.iter().map(|data| data.len() as u64).sum();
        let rest = self
            .body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + waiting);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + waiting);
        }
        hint
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let (Some(recorder), Some(body)) = (&self.recorder, self.body.take()) {
            // What lies here unsent comes before what nobody has read.
            for data in self.replay.drain(..) {
                recorder.data(&data);
            }
            let body = (!body.is_end_stream()).then_some(body);
            let tee = self.tee.take();
            recorder.leave(Left { body, tee });
        }
    }
}

/// Measures a body against its limit: in whole, or each message of a gRPC stream, which may go on for hours.
#[derive(Debug)]
enum Meter {
    Whole { bytes: u64 },
    Messages { prefix: [u8; 5], have: usize, left: u64 },
}

impl Meter {
    fn new(family: Family) -> Self {
        match family {
            Family::Grpc => Self::Messages {
                prefix: [0; 5],
                have: 0,
                left: 0,
            },
            Family::V1 | Family::V2 | Family::Other => Self::Whole { bytes: 0 },
        }
    }

    fn admits(&mut self, mut data: &[u8], limit: u64) -> bool {
        match self {
            Self::Whole { bytes } => {
                *bytes = bytes.saturating_add(data.len() as u64);
                *bytes <= limit
            }
            Self::Messages { prefix, have, left } => loop {
                let step = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                *left -= step as u64;
                data = &data[step..];
                if data.is_empty() {
                    return true;
                }
                let step = (prefix.len() - *have).min(data.len());
                prefix[*have..*have + step].copy_from_slice(&data[..step]);
                *have += step;
                data = &data[step..];
                if *have == prefix.len() {
                    *have = 0;
                    *left = u64::from(u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]));
                    if *left > limit {
                        return false;
                    }
                }
            },
        }
    }
}

pin_project! {
    /// A body that keeps something until it is dropped: a permit, a count.
    pub(crate) struct Guarded<B, G> {
        #[pin]
        body: B,
        guard: G,
    }
}

impl<B, G> Guarded<B, G> {
    pub(crate) fn new(body: B, guard: G) -> Self {
        Self { body, guard }
    }
}

impl<B: Body, G> Body for Guarded<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(limit: u64, pieces: &[&[u8]]) -> Vec<bool> {
        let mut meter = Meter::new(Family::Grpc);
        pieces.iter().map(|piece| meter.admits(piece, limit)).collect()
    }

    #[test]
    fn a_plain_body_is_measured_in_whole() {
        let mut meter = Meter::new(Family::V2);
        assert!(meter.admits(b"123", 5));
        assert!(meter.admits(b"45", 5));
        assert!(!meter.admits(b"6", 5));
    }

    #[test]
    fn a_grpc_stream_is_measured_by_the_message() {
        let two = b"\0\0\0\0\x03abc\0\0\0\0\x03def";
        assert_eq!(messages(3, &[two]), [true]);
        let bytes: Vec<&[u8]> = two.chunks(1).collect();
        assert!(messages(3, &bytes).iter().all(|admitted| *admitted));
        assert_eq!(messages(2, &[two]), [false]);
        // The announced length is enough: nothing of the message has to arrive.
        assert_eq!(
            messages(3, &[b"\0\0\0\0", b"\x03abc\0\xff\xff\xff\xff"]),
            [true, false]
        );
        assert_eq!(messages(3, &[b"\0\0\0\0\0\0\0\0\0\0", b"\0"]), [true, true]);
    }
}
