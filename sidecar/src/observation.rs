//! One exchange that carries a prediction, from its head to its end: timed, counted, and offered to the observer.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HeaderMap};
use http::{Method, StatusCode, request, response};
use plumbline_inference_protocol::coding::Coding;
use plumbline_inference_protocol::grpc::{self, Peek};
use plumbline_inference_protocol::{GrpcCode, Route, rest};
use smallvec::SmallVec;

use crate::logger::{Answer, Logged, Logger};
use crate::metrics::{Code, ExchangeMetrics, Protocol};
use crate::models::{Model, Models};
use crate::observer::{Exchange, Queue};
use crate::skip::SkipReason;
use crate::tee::{Capture, RequestTap};

/// The trailer (or, without a message, the header) with the outcome of a gRPC call.
pub(crate) const GRPC_STATUS: &str = "grpc-status";

/// What observations share.
#[derive(Debug)]
pub(crate) struct Observing {
    pub(crate) models: Models,
    pub(crate) queue: Queue,
    pub(crate) metrics: ExchangeMetrics,
    /// None when payloads are not logged.
    pub(crate) logger: Option<Logger>,
    /// Bytes of a request, and of an answer, that are kept at most.
    pub(crate) capture_limit: usize,
}

impl Observing {
    /// Starts an observation when the request asks for a prediction.
    pub(crate) fn begin(
        self: &Arc<Self>,
        request: &request::Parts,
        started: Instant,
    ) -> Option<Box<Observation>> {
        if request.method != Method::POST {
            return None;
        }
        let route = Route::parse(&request.method, request.uri.path()).ok()?;
        let (protocol, model, streaming) = match route {
            Route::V1Predict(model) => (Protocol::V1, model.name, false),
            Route::Infer(model) => (Protocol::V2, model.name, false),
            // The model's name is in the message.
            Route::Grpc(grpc::Method::ModelInfer) => (Protocol::Grpc, String::new(), false),
            Route::Grpc(grpc::Method::ModelStreamInfer) => (Protocol::Grpc, String::new(), true),
            _ => return None,
        };
        self.metrics.inferences.inc();
        Some(Box::new(Observation {
            observing: Arc::clone(self),
            protocol,
            streaming,
            model,
            started,
            sent: None,
            request: None,
            request_head: BodyHead::of(&request.headers),
            response: Capture::new(self.capture_limit),
            response_head: BodyHead::default(),
            status: None,
            grpc_status: None,
            logged: self.logger.as_ref().and_then(|logger| logger.begin(request)),
            ended: false,
        }))
    }
}

/// What the headers say about a body.
#[derive(Debug, Default)]
pub(crate) struct BodyHead {
    /// How it is compressed.
    pub(crate) coding: Option<Coding>,
    /// It is compressed in a way that is not known here.
    encoded: bool,
    /// `Inference-Header-Content-Length`, as it was sent. Copied, as a slice would pin the connection's read buffer.
    pub(crate) json_length: Option<SmallVec<[u8; 16]>>,
}

impl BodyHead {
    fn of(headers: &HeaderMap) -> Self {
        let coding = Coding::of_content(headers.get_all(CONTENT_ENCODING));
        Self {
            encoded: coding.is_err(),
            coding: coding.unwrap_or_default(),
            json_length: headers
                .get(rest::HEADER_LENGTH)
                .map(|length| SmallVec::from_slice(length.as_bytes())),
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The whole answer was passed on.
    Complete,
    /// The model server gave no answer, or broke off.
    UpstreamFailed,
    /// The client left; what the model server would have said is unknown.
    ClientGone,
}

/// One exchange under way. Dropped before its end, it counts as given up by the client.
#[derive(Debug)]
pub(crate) struct Observation {
    observing: Arc<Observing>,
    protocol: Protocol,
    streaming: bool,
    /// As the path names it; empty for gRPC.
    model: String,
    started: Instant,
    sent: Option<Instant>,
    request: Option<Arc<RequestTap>>,
    request_head: BodyHead,
    response: Capture,
    response_head: BodyHead,
    status: Option<StatusCode>,
    grpc_status: Option<GrpcCode>,
    /// Its part of the payload log.
    logged: Option<Box<Logged>>,
    ended: bool,
}

impl Observation {
    /// The request's frames come from here.
    pub(crate) fn request_body(&mut self, tap: Option<Arc<RequestTap>>) {
        self.request = tap;
    }

    /// The answer's head has come; its request was handed to a connection at `sent`.
    pub(crate) fn response_head(&mut self, head: &response::Parts, sent: Instant) {
        self.sent = Some(sent);
        self.status = Some(head.status);
        self.response_head = BodyHead::of(&head.headers);
        self.read_grpc_status(&head.headers);
        if let Some(logged) = &mut self.logged {
            logged.response_head(head);
        }
    }

    /// Some of the answer's body.
    pub(crate) fn response_data(&mut self, data: &Bytes) {
        self.response.push(data);
    }

    /// The answer's trailers.
    pub(crate) fn response_trailers(&mut self, trailers: &HeaderMap) {
        self.read_grpc_status(trailers);
    }

    /// The sidecar answers with this instead of the model server.
    pub(crate) fn failed(mut self: Box<Self>, status: StatusCode, grpc_status: GrpcCode) {
        (self.status, self.grpc_status) = (Some(status), Some(grpc_status));
        self.end(Ending::UpstreamFailed);
    }

    /// The answer has ended.
    pub(crate) fn finish(mut self: Box<Self>, ending: Ending) {
        self.end(ending);
    }

    fn read_grpc_status(&mut self, headers: &HeaderMap) {
        if self.protocol == Protocol::Grpc
            && let Some(status) = headers.get(GRPC_STATUS)
        {
            self.grpc_status = Some(GrpcCode::from_trailer(status.as_bytes()));
        }
    }

    fn end(&mut self, ending: Ending) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let request = self
            .request
            .take()
            .map_or_else(|| Capture::new(0), |tap| tap.take());
        let code = self.code(ending);
        let success = matches!(code, Code::Http(StatusCode::OK) | Code::Grpc(GrpcCode::Ok));
        let model = self.find_model(&request, success);
        let now = Instant::now();
        model
            .metrics
            .durations
            .record(self.protocol, code, now - self.started);
        if let Some(sent) = self.sent {
            model
                .metrics
                .overhead
                .observe((sent - self.started).as_secs_f64());
        }
        self.log(&model.name, &request, ending);
        if let Some(reason) = self.unobservable(ending, success, &request) {
            self.observing.skip(&model, reason, 1);
            return;
        }
        let exchange = self.exchange(model, request);
        if let Err(refused) = self.observing.queue.offer(exchange) {
            self.observing.skip(&refused.model, SkipReason::QueueFull, 1);
        }
    }

    /// Offers what was kept to the payload log, whatever the status.
    fn log(&mut self, model: &str, request: &Capture, ending: Ending) {
        let (Some(logger), Some(logged)) = (&self.observing.logger, self.logged.take()) else {
            return;
        };
        let whole = |capture: &Capture| capture.is_complete().then(|| capture.clone().into_bytes());
        let answer = match ending {
            Ending::Complete => Answer::Whole {
                body: whole(&self.response),
                grpc_status: self.grpc_status,
            },
            Ending::UpstreamFailed | Ending::ClientGone => Answer::Incomplete,
        };
        let name = if self.model.is_empty() { model } else { &self.model };
        logger.offer(*logged, name, whole(request), answer);
    }

    fn exchange(&mut self, model: Arc<Model>, request: Capture) -> Exchange {
        Exchange {
            model,
            protocol: self.protocol,
            request,
            request_head: std::mem::take(&mut self.request_head),
            response: std::mem::replace(&mut self.response, Capture::new(0)),
            response_head: std::mem::take(&mut self.response_head),
        }
    }

    fn code(&self, ending: Ending) -> Code {
        match (self.protocol, ending) {
            (Protocol::Grpc, Ending::Complete) => Code::Grpc(self.grpc_status.unwrap_or(GrpcCode::Unknown)),
            (Protocol::Grpc, Ending::UpstreamFailed) => {
                Code::Grpc(self.grpc_status.unwrap_or(GrpcCode::Unavailable))
            }
            (Protocol::Grpc, Ending::ClientGone) => Code::Grpc(GrpcCode::Cancelled),
            (_, Ending::Complete) => Code::Http(self.status.unwrap_or(StatusCode::BAD_GATEWAY)),
            // A success that broke off is none.
            (_, Ending::UpstreamFailed) => Code::Http(
                self.status
                    .filter(|status| !status.is_success())
                    .unwrap_or(StatusCode::BAD_GATEWAY),
            ),
            (_, Ending::ClientGone) => {
                Code::Http(StatusCode::from_u16(499).expect("three digits are a status"))
            }
        }
    }

    /// Why the exchange cannot be observed, as far as that is known without reading the bodies.
    fn unobservable(&self, ending: Ending, success: bool, request: &Capture) -> Option<SkipReason> {
        match ending {
            Ending::ClientGone => return Some(SkipReason::ClientGone),
            Ending::UpstreamFailed => return Some(SkipReason::UpstreamFailed),
            Ending::Complete => {}
        }
        if !success {
            Some(SkipReason::ErrorStatus)
        } else if self.streaming {
            Some(SkipReason::Streaming)
        } else if self.request_head.encoded || self.response_head.encoded {
            Some(SkipReason::Encoded)
        } else if !request.is_complete() || !self.response.is_complete() {
            Some(SkipReason::TooLarge)
        } else {
            None
        }
    }

    /// The model that the request names. One that answers gets series of its own, as far as there is room.
    fn find_model(&self, request: &Capture, success: bool) -> Arc<Model> {
        if self.protocol != Protocol::Grpc {
            return self.observing.models.find(&self.model, success);
        }
        match grpc::peek_model(&request.beginning()) {
            Peek::Found { name, version: _ } => self.observing.models.find(name, success),
            Peek::NeedMore | Peek::Unreadable => self.observing.models.other(),
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.end(Ending::ClientGone);
    }
}

impl Observing {
    /// Counts an exchange that is not observed; `rows` is 1 where they cannot be counted.
    pub(crate) fn skip(&self, model: &Model, reason: SkipReason, rows: u64) {
        model.metrics.rows_skipped(reason, rows);
        self.metrics.skipped.inc();
    }
}
