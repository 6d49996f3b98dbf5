//! Counts and times every request, from its head to the last byte of its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use plumbline_inference_protocol::GrpcCode;
use plumbline_service::traces::{Answered, Span};
use tower::{Layer, Service, layer::layer_fn};

use crate::access_log::{AccessLog, Logged, milliseconds};
use crate::call::{Call, Family, Ledger};
use crate::error::GRPC_STATUS;
use crate::metrics::{Ending, ModelMetrics};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Records each request once, whatever becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct RecordRequests<S> {
    inner: S,
    /// For requests that name no model.
    server: Arc<ModelMetrics>,
    log: Option<Arc<AccessLog>>,
    /// Whether answers tell how long they took.
    server_timing: bool,
}

pub(crate) fn layer<S>(
    server: Arc<ModelMetrics>,
    log: Option<Arc<AccessLog>>,
    server_timing: bool,
) -> impl Layer<S, Service = RecordRequests<S>> + Clone {
    layer_fn(move |inner| RecordRequests {
        inner,
        server: Arc::clone(&server),
        log: log.clone(),
        server_timing,
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
            logged: self.log.as_ref().map(|log| Logged::begin(log, &call)),
            server_timing: self.server_timing,
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
    /// Its line in the access log.
    logged: Option<Box<Logged>>,
    server_timing: bool,
}

impl Recorder {
    fn model(&self) -> &ModelMetrics {
        self.ledger.model.get().unwrap_or(&self.server)
    }

    fn head(&mut self, status: StatusCode, headers: &mut HeaderMap) {
        let (elapsed, waited) = (self.ledger.arrived.elapsed(), self.ledger.waited());
        let overhead = elapsed.saturating_sub(waited);
        self.model().observe_overhead(overhead);
        if let Some(logged) = &mut self.logged {
            logged.head(overhead, waited);
        }
        if self.server_timing {
            headers.append(SERVER_TIMING, server_timing(overhead, waited));
        }
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
        if let Some(logged) = &self.logged {
            logged.end(&self.ledger, &model.model, ending, elapsed);
        }
        if let Some(span) = self.ledger.span.get() {
            end(span, &model.model, ending);
        }
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

fn end(span: &Span, model: &str, ending: Ending) {
    span.set("model.name", model.to_owned());
    match ending {
        Ending::Http(status) => span.answered(Answered::Http(status)),
        Ending::Grpc(code) => span.answered(Answered::Grpc(code as u8)),
        Ending::Aborted => return span.fail("aborted"),
    }
    span.end();
}

/// `gateway;dur=…, upstream;dur=…` in milliseconds. Source: <https://www.w3.org/TR/server-timing/>.
fn server_timing(overhead: Duration, waited: Duration) -> HeaderValue {
    let (overhead, waited) = (milliseconds(overhead), milliseconds(waited));
    let text = format!("gateway;dur={overhead}, upstream;dur={waited}");
    HeaderValue::try_from(text).expect("numbers and letters are a header value")
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
        let (mut head, body) = response.into_parts();
        let mut recorder = this.recorder.take().expect("polled once after it is ready");
        recorder.head(head.status, &mut head.headers);
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
                if let (Some(logged), Some(data)) = (&mut this.recorder.logged, frame.data_ref()) {
                    logged.sent(data.len());
                }
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
