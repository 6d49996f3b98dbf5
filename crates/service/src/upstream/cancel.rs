//! A request's body that ends when its exchange is given up.
//!
//! The task of an HTTP/2 connection owns the body while it sends. Without this, giving up an answer would leave the task
//! sending the rest of the request, and nothing would tell the endpoint.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::BoxError;

/// The exchange goes on until this is dropped; [`Exchange::finish`] lets the request be sent to its end.
#[derive(Debug, Default)]
pub(super) struct Exchange(Option<oneshot::Sender<()>>);

impl Exchange {
    /// The answer has ended in order.
    pub(super) fn finish(&mut self) {
        if let Some(going_on) = self.0.take() {
            let _sent_already = going_on.send(());
        }
    }
}

/// A body that fails once its [`Exchange`] is dropped.
#[derive(Debug)]
pub(super) struct Cancellable<B> {
    body: B,
    going_on: Option<oneshot::Receiver<()>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the exchange was given up")]
struct GivenUp;

pub(super) fn watch<B: Body>(request: Request<B>) -> (Exchange, Request<Cancellable<B>>) {
    if request.body().is_end_stream() {
        return (
            Exchange::default(),
            request.map(|body| Cancellable { body, going_on: None }),
        );
    }
    let (exchange, going_on) = oneshot::channel();
    let request = request.map(|body| Cancellable {
        body,
        going_on: Some(going_on),
    });
    (Exchange(Some(exchange)), request)
}

impl<B> Cancellable<B> {
    pub(super) fn into_inner(self) -> B {
        self.body
    }
}

impl<B> Body for Cancellable<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(going_on) = &mut self.going_on {
            match Pin::new(going_on).poll(context) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.going_on = None,
                Poll::Ready(Err(_)) => return Poll::Ready(Some(Err(Box::new(GivenUp)))),
            }
        }
        let frame = Pin::new(&mut self.body).poll_frame(context);
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
