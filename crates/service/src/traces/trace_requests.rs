//! A span for each request of a service.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::Service;

use super::{Answered, Span, Tracer};
use crate::trace::REQUEST_ID;

const GRPC_STATUS: &str = "grpc-status";

/// The span of a request, among its extensions; and, among those of an answer, that of the attempt which it came from
/// and with whose body it ends.
#[derive(Clone, Debug)]
pub struct RequestSpan(pub Arc<Span>);

/// Tells a span of every request that is recorded, from its head to the last byte of its answer.
#[derive(Clone, Debug)]
pub struct TraceRequests<S> {
    inner: S,
    tracer: Tracer,
}

impl<S> TraceRequests<S> {
    /// In front of `inner`.
    pub fn new(inner: S, tracer: Tracer) -> Self {
        Self { inner, tracer }
    }
}

impl<S, A, B> Service<Request<A>> for TraceRequests<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    type Response = Response<TracedBody<B>>;
    type Error = Infallible;
    type Future = Traced<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let exchange = if self.tracer.is_on() {
            begin(&self.tracer, &mut request)
        } else {
            None
        };
        Traced {
            inner: self.inner.call(request),
            exchange,
        }
    }
}

fn begin<A>(tracer: &Tracer, request: &mut Request<A>) -> Option<Box<Exchange>> {
    let span = Arc::new(tracer.begin(request.headers_mut())?);
    let content_type = request.headers().get(CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let without_body = request.method() == Method::HEAD;
    span.asks(is_grpc, request.method(), request.uri(), request.version());
    if !is_grpc && let Some(model) = model(request.uri().path()) {
        span.set("model.name", model.to_owned());
    }
    request.extensions_mut().insert(RequestSpan(Arc::clone(&span)));
    Some(Box::new(Exchange {
        span,
        attempt: None,
        is_grpc,
        without_body,
    }))
}

/// The model of a REST path.
fn model(path: &str) -> Option<&str> {
    let rest = path
        .strip_prefix("/v2/models/")
        .or_else(|| path.strip_prefix("/v1/models/"))?;
    let name = rest.split(['/', ':']).next()?;
    (!name.is_empty()).then_some(name)
}

/// Knows how a recorded request ends. Dropped before it knows: the client left.
#[derive(Debug)]
struct Exchange {
    span: Arc<Span>,
    attempt: Option<RequestSpan>,
    is_grpc: bool,
    /// The answer's body is not sent, and nobody asks for it.
    without_body: bool,
}

impl Exchange {
    fn head<B>(&mut self, response: &mut Response<B>) {
        self.attempt = response.extensions_mut().remove();
        if let Some(id) = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()) {
            self.span.set("request.id", id.to_owned());
        }
        if self.is_grpc {
            // An answer without a status is one that its server did not finish.
            self.answered(grpc(response.headers()).unwrap_or(UNKNOWN));
        } else {
            self.answered(Answered::Http(response.status()));
        }
    }

    fn answered(&self, status: Answered) {
        self.both().for_each(|span| span.answered(status));
    }

    fn end(&self) {
        self.both().for_each(Span::end);
    }

    /// The attempt first, so that it does not end after the request.
    fn both(&self) -> impl Iterator<Item = &Span> {
        let attempt = self.attempt.iter().map(|RequestSpan(attempt)| &**attempt);
        attempt.chain([&*self.span])
    }
}

const UNKNOWN: Answered = Answered::Grpc(2);

fn grpc(headers: &HeaderMap) -> Option<Answered> {
    let code = headers.get(GRPC_STATUS)?.to_str().ok()?;
    code.parse().ok().map(Answered::Grpc)
}

pin_project! {
    /// Waits for the answer's head.
    #[derive(Debug)]
    pub struct Traced<F> {
        #[pin]
        inner: F,
        exchange: Option<Box<Exchange>>,
    }
}

impl<F, B> Future for Traced<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<TracedBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.inner.poll(context));
        let mut exchange = this.exchange.take();
        if let Some(exchange) = &mut exchange {
            exchange.head(&mut response);
            if exchange.without_body || response.body().is_end_stream() {
                exchange.end();
            }
        }
        Poll::Ready(Ok(response.map(|body| TracedBody { body, exchange })))
    }
}

pin_project! {
    /// Notices how an answer ends.
    #[derive(Debug)]
    pub struct TracedBody<B> {
        #[pin]
        body: B,
        exchange: Option<Box<Exchange>>,
    }
}

impl<B: Body<Data = Bytes>> Body for TracedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(context));
        if let Some(exchange) = this.exchange {
            match &frame {
                None => exchange.end(),
                Some(Ok(frame)) => {
                    if let Some(trailers) = frame.trailers_ref()
                        && exchange.is_grpc
                        && let Some(status) = grpc(trailers)
                    {
                        exchange.answered(status);
                    }
                    if frame.is_trailers() || this.body.is_end_stream() {
                        exchange.end();
                    }
                }
                // The spans are dropped as aborted.
                Some(Err(_)) => *this.exchange = None,
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
