//! Counts and times every request, from its head to the last byte of its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use plumbline_inference_protocol::GrpcCode;
use tower::{Layer, Service, layer::layer_fn};

use crate::call::{Call, Family, Ledger};
use crate::error::GRPC_STATUS;
use crate::metrics::{Ending, ModelMetrics};

/// Records each request once, whatever becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct RecordRequests<S> {
    inner: S,
    /// For requests that name no model.
    server: Arc<ModelMetrics>,
}

pub(crate) fn layer<S>(server: Arc<ModelMetrics>) -> impl Layer<S, Service = RecordRequests<S>> + Clone {
    layer_fn(move |inner| RecordRequests {
        inner,
        server: Arc::clone(&server),
    })
}

impl<S, B> Service<Call> for RecordRequests<S>
where
    S: Service<Call, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    type Response = Response<RecordedBody<B>>;
    type Error = S::Error;
    type Future = Recorded<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let recorder = Recorder {
            ledger: Arc::clone(&call.ledger),
            server: Arc::clone(&self.server),
            family: call.family,
            without_body: call.request.method() == Method::HEAD,
            status: None,
            recorded: false,
        };
        Recorded {
            inner: self.inner.call(call),
            recorder: Some(recorder),
        }
    }
}

/// Knows how a request ends. Dropped before it knows: the client left.
struct Recorder {
    ledger: Arc<Ledger>,
    server: Arc<ModelMetrics>,
    family: Family,
    /// The answer's body is not sent, and nobody asks for it.
    without_body: bool,
    /// The answer's status, for gRPC once it is known.
    status: Option<Ending>,
    recorded: bool,
}

impl Recorder {
    fn model(&self) -> &ModelMetrics {
        self.ledger.model.get().unwrap_or(&self.server)
    }

    fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        let elapsed = self.ledger.arrived.elapsed();
        let overhead = elapsed.saturating_sub(self.ledger.waited());
        self.model().observe_overhead(overhead);
        self.status = match self.family {
            Family::Grpc => grpc_status(headers).map(Ending::Grpc),
            Family::V1 | Family::V2 | Family::Other => Some(Ending::Http(status)),
        };
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        if self.family == Family::Grpc {
            self.status = grpc_status(trailers).map(Ending::Grpc).or(self.status);
        }
    }

    fn end(&mut self) {
        // A gRPC answer without a status is one that its server did not finish.
        let ending = self.status.unwrap_or(Ending::Grpc(GrpcCode::Unknown));
        self.record(ending);
    }

    fn record(&mut self, ending: Ending) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        let (model, elapsed) = (self.model(), self.ledger.arrived.elapsed());
        model.record(self.family, ending, elapsed);
        tracing::debug!(
            model.name = &*model.model,
            protocol = self.family.label(),
            ?ending,
            ?elapsed,
            "request ended"
        );
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.record(Ending::Aborted);
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<GrpcCode> {
    let value = headers.get(GRPC_STATUS)?;
    Some(GrpcCode::from_trailer(value.as_bytes()))
}

pin_project! {
    /// Waits for the answer's head.
    pub(crate) struct Recorded<F> {
        #[pin]
        inner: F,
        recorder: Option<Recorder>,
    }
}

impl<F, B, E> Future for Recorded<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<RecordedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(context))?;
        let (head, body) = response.into_parts();
        let mut recorder = this.recorder.take().expect("polled once after it is ready");
        recorder.head(head.status, &head.headers);
        if recorder.without_body || body.is_end_stream() {
            recorder.end();
        }
        Poll::Ready(Ok(Response::from_parts(head, RecordedBody { body, recorder })))
    }
}

pin_project! {
    /// Notices how an answer ends.
    pub(crate) struct RecordedBody<B> {
        #[pin]
        body: B,
        recorder: Recorder,
    }
}

impl<B: Body<Data = Bytes>> Body for RecordedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(context));
        match &frame {
            None => this.recorder.end(),
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.recorder.trailers(trailers);
                    this.recorder.end();
                } else if this.body.is_end_stream() {
                    // Nobody asks for more once this is true.
                    this.recorder.end();
                }
            }
            Some(Err(_)) => this.recorder.record(Ending::Aborted),
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
