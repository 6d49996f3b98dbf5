//! The body of an answer, with what must outlive it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::BoxError;
use super::cancel::Exchange;
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
    /// How it broke off, to be told after what came before.
    broken: Option<hyper::Error>,
}

enum Held<B> {
    Connection(Lease<B>),
    Stream {
        exchange: Exchange,
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
    pub(super) fn http1(body: Incoming, lease: Lease<B>) -> Self {
        let mut body = Self {
            body,
            held: Held::Connection(lease),
            broken: None,
        };
        body.release_at_end();
        body
    }

    pub(super) fn http2(body: Incoming, exchange: Exchange, streams: StreamGuard) -> Self {
        let mut body = Self {
            body,
            held: Held::Stream {
                exchange,
                _streams: streams,
            },
            broken: None,
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
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Connection(lease) => lease.finish(),
            Held::Stream { mut exchange, .. } => exchange.finish(),
            Held::Nothing => {}
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
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let body = Pin::new(&mut this.body);
        let frame = match &mut this.held {
            Held::Connection(lease) => lease.poll_frame(body, context),
            Held::Stream { .. } | Held::Nothing => body.poll_frame(context),
        };
        match frame {
            Poll::Ready(None) => {
                self.release();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                // A connection that failed is not used again. Whoever passes the answer on throws away what it has not
                // written yet when it sees the error; it writes when it has to wait.
                self.held = Held::Nothing;
                self.broken = Some(error);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.body.is_end_stream()
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
