//! Writes gRPC's answers for clients of gRPC-Web: trailers as the last frame of the body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::response::Parts;
use http::{HeaderName, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use plumbline_inference_protocol::grpc;
use tower::{Layer, Service, layer::layer_fn};

use crate::call::Call;
use crate::error::{GRPC_MESSAGE, GRPC_STATUS};
use crate::grpc_web::{Form, trailers_frame};

const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Leaves everything but gRPC's answers to gRPC-Web's requests as it is.
#[derive(Clone, Debug)]
pub(crate) struct SpeakGrpcWeb<S> {
    inner: S,
}

pub(crate) fn layer<S>() -> impl Layer<S, Service = SpeakGrpcWeb<S>> + Clone {
    layer_fn(|inner| SpeakGrpcWeb { inner })
}

impl<S, B> Service<Call> for SpeakGrpcWeb<S>
where
    S: Service<Call, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    type Response = Response<SpokenBody<B>>;
    type Error = S::Error;
    type Future = Spoken<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        Spoken {
            form: call.grpc_web.map(|web| web.answer),
            inner: self.inner.call(call),
        }
    }
}

pin_project! {
    /// Waits for the answer's head.
    pub(crate) struct Spoken<F> {
        form: Option<Form>,
        #[pin]
        inner: F,
    }
}

impl<F, B, E> Future for Spoken<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<SpokenBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut head, body) = ready!(this.inner.poll(context))?.into_parts();
        let web = this.form.and_then(|form| Web::begin(form, &mut head));
        Poll::Ready(Ok(Response::from_parts(head, SpokenBody { body, web })))
    }
}

/// An answer on its way to a client of gRPC-Web.
#[derive(Debug)]
struct Web {
    form: Form,
    /// A status that came in the head, since there was no message.
    status: HeaderMap,
    ended: bool,
}

impl Web {
    /// Nothing for an answer that is not gRPC's, as of a proxy before the endpoint.
    fn begin(form: Form, head: &mut Parts) -> Option<Box<Self>> {
        let headers = &mut head.headers;
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !content_type.is_some_and(grpc::is_grpc) {
            return None;
        }
        headers.insert(CONTENT_TYPE, form.content_type());
        headers.remove(CONTENT_LENGTH);
        let mut status = HeaderMap::new();
        for name in [GRPC_STATUS, GRPC_MESSAGE, GRPC_DETAILS] {
            if let Some(value) = headers.remove(&name) {
                status.insert(name, value);
            }
        }
        let ended = false;
        Some(Box::new(Self { form, status, ended }))
    }

    fn end(&mut self, trailers: &HeaderMap) -> Frame<Bytes> {
        self.ended = true;
        Frame::data(self.form.write(trailers_frame(trailers)))
    }
}

pin_project! {
    /// An answer's body as its client reads it.
    pub(crate) struct SpokenBody<B> {
        #[pin]
        body: B,
        web: Option<Box<Web>>,
    }
}

impl<B: Body<Data = Bytes>> Body for SpokenBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let Some(web) = this.web else {
            return this.body.poll_frame(context);
        };
        if web.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(this.body.poll_frame(context)?);
        Poll::Ready(match frame.map(Frame::into_data) {
            Some(Ok(data)) => Some(Ok(Frame::data(web.form.write(data)))),
            Some(Err(frame)) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                Some(Ok(web.end(&trailers)))
            }
            // A server that did not finish has given no status.
            None if web.status.is_empty() => None,
            None => {
                let status = std::mem::take(&mut web.status);
                Some(Ok(web.end(&status)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.web {
            None => self.body.is_end_stream(),
            Some(web) => web.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.web {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}
