//! Resets an HTTP/2 stream whose client gives it no window.
//!
//! hyper takes a frame from an answer's body, waits until flow control lets it go, and asks for the next. While it
//! waits, the body is not polled and cannot end the wait; so what hyper spawns for a stream is wrapped, and told by the
//! body, on the thread that polls both, whether a frame of its is waiting.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower::Service;

use super::write_timeout::WriteTimeout;

/// Data are given to flow control in pieces of this size, the largest frame of HTTP/2 unless a peer allows more: every
/// piece taken is progress. No more than the last piece of an answer lies with flow control when its stream has ended.
const PIECE: usize = 16 << 10;

/// Set while data wait for flow control.
const WAITS: u64 = 1;
/// One more time that the body was asked.
const ASKED: u64 = 2;

thread_local! {
    /// Of the stream that this thread polls now.
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// Spawns hyper's future of each HTTP/2 stream.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor(pub(super) WriteTimeout);

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(Stream {
            exchange: stream,
            write_timeout: self.0.clone(),
            state: 0,
            timer: None,
        });
    }
}

pin_project! {
    struct Stream<F> {
        #[pin]
        exchange: F,
        write_timeout: WriteTimeout,
        state: u64,
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    /// Ready without the stream being so: it is dropped then, which resets it.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        STATE.set(*this.state);
        let polled = this.exchange.poll(context);
        let before = std::mem::replace(this.state, STATE.get());
        if polled.is_ready() || *this.state & WAITS == 0 {
            return polled;
        }
        let after = this.write_timeout.timeout;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(after)));
        if *this.state != before {
            timer.as_mut().reset(Instant::now() + after);
        }
        ready!(timer.as_mut().poll(context));
        this.write_timeout.ended.inc();
        tracing::debug!(?after, "stream reset: the client gives no window");
        Poll::Ready(())
    }
}

/// Gives the bodies of HTTP/2 answers on in pieces, and tells when one waits.
#[derive(Clone, Debug)]
pub(super) struct InPieces<S>(pub(super) S);

impl<S, A, B> Service<Request<A>> for InPieces<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<Pieces<B>>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let is_http2 = request.version() == Version::HTTP_2;
        let answer = self.0.call(request);
        Answering { answer, is_http2 }
    }
}

pin_project! {
    /// An answer on its way.
    pub(super) struct Answering<F> {
        #[pin]
        answer: F,
        is_http2: bool,
    }
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<Pieces<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(answer) = ready!(this.answer.poll(context));
        let is_http2 = *this.is_http2;
        Poll::Ready(Ok(answer.map(|body| Pieces {
            body,
            rest: Bytes::new(),
            is_http2,
        })))
    }
}

pin_project! {
    /// A body in pieces, if it goes over HTTP/2.
    pub(super) struct Pieces<B> {
        #[pin]
        body: B,
        rest: Bytes,
        is_http2: bool,
    }
}

impl<B: Body<Data = Bytes>> Body for Pieces<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if !*this.is_http2 {
            return this.body.poll_frame(context);
        }
        let asked = (STATE.get() & !WAITS).wrapping_add(ASKED);
        STATE.set(asked);
        let mut data = std::mem::take(this.rest);
        if data.is_empty() {
            let frame = ready!(this.body.poll_frame(context));
            data = match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
        }
        if data.len() > PIECE {
            *this.rest = data.split_off(PIECE);
        }
        STATE.set(asked | WAITS);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if rest > 0 {
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + rest);
            }
            hint.set_lower(hint.lower() + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn a_body_stays_the_same_in_pieces() {
        for (is_http2, frames) in [(true, vec![PIECE, PIECE, 10]), (false, vec![2 * PIECE + 10])] {
            let mut whole = Pieces {
                body: Full::new(Bytes::from(vec![7; 2 * PIECE + 10])),
                rest: Bytes::new(),
                is_http2,
            };
            let (mut lengths, mut left) = (Vec::new(), (2 * PIECE + 10) as u64);
            while let Some(frame) = whole.frame().await {
                let data = frame.expect("infallible").into_data().expect("data");
                left -= data.len() as u64;
                lengths.push(data.len());
                assert_eq!(whole.size_hint().exact(), Some(left));
                assert_eq!(whole.is_end_stream(), left == 0);
            }
            assert_eq!(lengths, frames);
        }
    }
}
