//! The body of an answer, with what must outlive it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::BoxError;
use super::cancel::{Cancellable, Exchange};
use super::h1::Lease;
use super::h2::StreamGuard;

/// The body of an answer. At its end the connection goes back to its pool; dropped before, the exchange is cancelled.
pub struct UpstreamBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    body: Incoming,
    held: Held<B>,
    exchange: Exchange,
}

enum Held<B> {
    Connection(Lease<Cancellable<B>>),
    Stream {
        /// Counted until dropped.
        _streams: StreamGuard,
    },
    Nothing,
}

impl<B> UpstreamBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn http1(body: Incoming, exchange: Exchange, lease: Lease<Cancellable<B>>) -> Self {
        let mut body = Self {
            body,
            held: Held::Connection(lease),
            exchange,
        };
        body.release_at_end();
        body
    }

    pub(super) fn http2(body: Incoming, exchange: Exchange, streams: StreamGuard) -> Self {
        let mut body = Self {
            body,
            held: Held::Stream { _streams: streams },
            exchange,
        };
        body.release_at_end();
        body
    }

    fn release_at_end(&mut self) {
        if self.body.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        self.exchange.finish();
        if let Held::Connection(lease) = std::mem::replace(&mut self.held, Held::Nothing) {
            lease.finish();
        }
    }
}

impl<B> Body for UpstreamBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(None) => self.release(),
            Poll::Ready(Some(Ok(_))) => self.release_at_end(),
            // A connection that failed is not used again.
            Poll::Ready(Some(Err(_))) => self.held = Held::Nothing,
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> std::fmt::Debug for UpstreamBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody").finish_non_exhaustive()
    }
}
