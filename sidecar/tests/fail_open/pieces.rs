//! A body that comes in pieces, and may break off.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces {
    pub(crate) data: VecDeque<Bytes>,
    pub(crate) trailers: Option<HeaderMap>,
    /// The length that the head tells; chunks without one.
    pub(crate) told: Option<u64>,
    /// Ends in an error instead of trailers.
    pub(crate) cut: bool,
    /// Does not end.
    pub(crate) held: bool,
    /// Whether the other side has had a chance to see what came before.
    pub(crate) flushed: bool,
}

impl Pieces {
    /// The bytes before a cut or the end.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.data.iter().flatten().copied().collect()
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        // Each piece is written by itself: hyper flushes what it has when there is nothing more at the moment.
        if !std::mem::replace(&mut self.flushed, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.flushed = false;
        if let Some(piece) = self.data.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if self.held {
            return Poll::Pending;
        }
        if self.cut {
            return Poll::Ready(Some(Err("cut as planned")));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none() && !self.cut && !self.held
    }

    fn size_hint(&self) -> SizeHint {
        self.told.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
