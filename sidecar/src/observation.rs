//! One exchange that carries a prediction, from its head to its end: timed, counted, and offered to the observer.
//!
//! All of it runs beside a request. A panic here is caught where it happens, counted, and costs the exchange its
//! observation; the request does not notice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HeaderMap};
use http::{Method, StatusCode, request, response};
use http_body::Frame;
use plumbline_inference_protocol::coding::Coding;
use plumbline_inference_protocol::grpc::{self, Peek};
use plumbline_inference_protocol::{GrpcCode, ModelRef, Route, rest};
use smallvec::SmallVec;

use crate::feedback::Feedback;
use crate::logger::{Answer, Logged, Logger};
use crate::metrics::{Code, ExchangeMetrics, Protocol};
use crate::models::{Model, Models};
use crate::observer::Queue;
use crate::skip::SkipReason;
use crate::tee::{Capture, Keeping, RequestTap};
use crate::upstream::AnswerTimes;

/// The trailer (or, without a message, the header) with the outcome of a gRPC call.
pub(crate) const GRPC_STATUS: &str = "grpc-status";

/// The header with the client's own name for a request.
const REQUEST_ID: &str = "x-request-id";

/// A longer one is no identifier.
const MOST_REQUEST_ID: usize = 256;

/// What observations share.
#[derive(Debug)]
pub(crate) struct Observing {
    pub(crate) models: Models,
    pub(crate) queue: Queue,
    pub(crate) metrics: ExchangeMetrics,
    pub(crate) keeping: Arc<Keeping>,
    /// Why nothing is observed at all, if so.
    pub(crate) off: Option<SkipReason>,
    /// None when payloads are not logged.
    pub(crate) logger: Option<Logger>,
    pub(crate) feedback: Feedback,
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
        let began = catch_unwind(AssertUnwindSafe(|| {
            self.keeping.hook();
            Observation::begin(self, request, started)
        }));
        began.unwrap_or_else(|_panic| {
            self.metrics.panics.inc();
            self.metrics.inferences.inc();
            self.skip(&self.models.other(), SkipReason::Panic, 1);
            None
        })
    }

    /// Counts an exchange that is not observed; `rows` is 1 where they cannot be counted.
    pub(crate) fn skip(&self, model: &Model, reason: SkipReason, rows: u64) {
        model.metrics.rows_skipped(reason, rows);
        self.metrics.skipped.inc();
    }

    /// Why the rows of this model are not read, if so.
    fn unwanted(&self, model: Option<&Model>) -> Option<SkipReason> {
        let observed = model.is_some_and(Model::is_observed);
        self.off.or((!observed).then_some(SkipReason::NoProfile))
    }
}

/// What the headers say about a body.
#[derive(Debug, Default)]
pub(crate) struct BodyHead {
    /// How it is compressed.
    pub(crate) coding: Option<Coding>,
    /// How gRPC messages in it are compressed, those that are.
    pub(crate) message_coding: Option<Coding>,
    /// It is compressed in a way that is not known here.
    encoded: bool,
    /// `Inference-Header-Content-Length`, as it was sent. Copied, as a slice would pin the connection's read buffer.
    pub(crate) json_length: Option<SmallVec<[u8; 16]>>,
}

impl BodyHead {
    fn of(headers: &HeaderMap, protocol: Protocol) -> Self {
        let coding = Coding::of_content(headers.get_all(CONTENT_ENCODING));
        let message_coding = (protocol == Protocol::Grpc)
            .then(|| headers.get("grpc-encoding"))
            .flatten()
            .and_then(|coding| grpc::message_coding(Some(coding.as_bytes())).ok()?);
        Self {
            encoded: coding.is_err(),
            coding: coding.unwrap_or_default(),
            message_coding,
            json_length: headers
                .get(rest::HEADER_LENGTH)
                .map(|length| SmallVec::from_slice(length.as_bytes())),
        }
    }
}

/// A client's name for a request, as it was sent.
pub(crate) type RequestId = SmallVec<[u8; 40]>;

fn request_id(headers: &HeaderMap) -> Option<RequestId> {
    request_id_of(headers.get(REQUEST_ID)?.as_bytes())
}

pub(crate) fn request_id_of(id: &[u8]) -> Option<RequestId> {
    (1..=MOST_REQUEST_ID)
        .contains(&id.len())
        .then(|| RequestId::from_slice(id))
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

/// One exchange under way, then on its way to the observer. Dropped before its end, it counts as given up by the client.
#[derive(Debug)]
pub(crate) struct Observation {
    observing: Arc<Observing>,
    pub(crate) protocol: Protocol,
    form: Form,
    subject: Subject,
    pub(crate) request_id: Option<RequestId>,
    times: Times,
    timed: Option<Timed>,
    request: Option<Arc<RequestTap>>,
    /// The request's copy, at the end.
    taken: Option<Capture>,
    pub(crate) request_head: BodyHead,
    response: Option<Capture>,
    pub(crate) response_head: BodyHead,
    status: Option<StatusCode>,
    grpc_status: Option<GrpcCode>,
    /// Its part of the payload log.
    logged: Option<Box<Logged>>,
    panicked: bool,
    ended: bool,
}

/// How many requests an exchange carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    One,
    /// A stream of requests and answers.
    Stream,
    /// The beginning of a stream that goes on; the exchange is counted at its end.
    Part,
}

/// Which model an exchange is about.
#[derive(Debug)]
enum Subject {
    Known(Arc<Model>),
    /// As the path names it; whether it gets series depends on the answer.
    Named(ModelRef),
    /// The name is in the request's message.
    InMessage,
}

/// When the parts of an exchange were done.
#[derive(Debug)]
struct Times {
    started: Instant,
    /// Spent here so far, beside the waiting for the model server.
    overhead: Duration,
    /// What came last from the model server.
    last: Option<Instant>,
}

/// What its metrics get to know of an exchange.
#[derive(Debug)]
struct Timed {
    code: Code,
    duration: Duration,
    overhead: Option<Duration>,
}

impl Observation {
    fn begin(observing: &Arc<Observing>, request: &request::Parts, started: Instant) -> Option<Box<Self>> {
        let route = Route::parse(&request.method, request.uri.path()).ok()?;
        let (protocol, subject, form) = match route {
            Route::V1Predict(model) => (Protocol::V1, observing.subject(model), Form::One),
            Route::Infer(model) => (Protocol::V2, observing.subject(model), Form::One),
            Route::Grpc(grpc::Method::ModelInfer) => (Protocol::Grpc, Subject::InMessage, Form::One),
            Route::Grpc(grpc::Method::ModelStreamInfer) => (Protocol::Grpc, Subject::InMessage, Form::Stream),
            _ => return None,
        };
        observing.metrics.inferences.inc();
        Some(Box::new(Self {
            observing: Arc::clone(observing),
            protocol,
            form,
            subject,
            request_id: request_id(&request.headers),
            times: Times {
                started,
                overhead: Duration::ZERO,
                last: None,
            },
            timed: None,
            request: None,
            taken: None,
            request_head: BodyHead::of(&request.headers, protocol),
            response: None,
            response_head: BodyHead::default(),
            status: None,
            grpc_status: None,
            // A stream may have no end, and is not kept whole.
            logged: observing
                .logger
                .as_ref()
                .filter(|_| form == Form::One)
                .and_then(|logger| logger.begin(request)),
            panicked: false,
            ended: false,
        }))
    }

    /// Where the request's frames are to go; nowhere when nobody would read them.
    pub(crate) fn request_capture(&self) -> Option<Capture> {
        let observing = &self.observing;
        if self.logged.is_some() {
            return self.capture_unless(None);
        }
        match &self.subject {
            Subject::Known(model) => self.capture_unless(observing.unwanted(Some(model))),
            Subject::Named(_) => None,
            Subject::InMessage => {
                let nobody = (!observing.models.any_observed()).then_some(SkipReason::NoProfile);
                let unwanted = observing.off.or(nobody);
                let beginning = |reason| Capture::of_beginning(Arc::clone(&observing.keeping), reason);
                unwanted.map_or_else(|| self.capture_unless(None), |reason| Some(beginning(reason)))
            }
        }
    }

    fn capture_unless(&self, unwanted: Option<SkipReason>) -> Option<Capture> {
        let keeping = &self.observing.keeping;
        unwanted.is_none().then(|| Capture::new(Arc::clone(keeping)))
    }

    /// The request's frames come from here.
    pub(crate) fn request_body(&mut self, tap: Option<Arc<RequestTap>>) {
        self.request = tap;
    }

    /// The answer's head has come, and is ready to be passed on.
    pub(crate) fn response_head(&mut self, head: &response::Parts, answer: AnswerTimes) {
        self.guarded(|observation| {
            observation.status = Some(head.status);
            observation.response_head = BodyHead::of(&head.headers, observation.protocol);
            observation.read_grpc_status(&head.headers);
            observation.expect_body();
            let now = Instant::now();
            let times = &mut observation.times;
            times.overhead = (answer.sent - times.started) + (now - answer.received);
            times.last = Some(now);
            if let Some(logged) = &mut observation.logged {
                logged.response_head(head);
            }
        });
    }

    /// Decides whether the answer's body is kept.
    fn expect_body(&mut self) {
        if let Subject::InMessage = self.subject
            && let Some(Some(model)) = self.peek(|name, version| self.observing.models.known(name, version))
        {
            self.subject = Subject::Known(model);
        }
        let whole = |tap: &Arc<RequestTap>| tap.with_capture(|capture| capture.lost()) == Some(None);
        let unwanted = match &self.subject {
            Subject::Known(model) => self.observing.unwanted(Some(model)),
            Subject::Named(_) => Some(SkipReason::NoProfile),
            Subject::InMessage => None,
        };
        let logged = self.logged.is_some();
        if let (Some(reason), Some(tap), false) = (unwanted, &self.request, logged) {
            tap.with_capture(|capture| capture.lose(reason));
        }
        // An early answer overtakes its request; then the rest of the request is still to come.
        if logged || unwanted.is_none() && self.request.as_ref().is_some_and(whole) {
            self.response = Some(Capture::new(Arc::clone(&self.observing.keeping)));
        }
    }

    /// A frame of the answer, before it is passed on.
    pub(crate) fn response_frame(&mut self, frame: &Frame<Bytes>) {
        self.times.last = Some(Instant::now());
        self.guarded(|observation| {
            if let Some(data) = frame.data_ref() {
                if let Some(response) = &mut observation.response {
                    response.push(data);
                }
                if observation.is_streaming()
                    && observation
                        .request_head
                        .coding
                        .or(observation.response_head.coding)
                        .is_none()
                {
                    observation.hand_over_answered();
                }
            } else if let Some(trailers) = frame.trailers_ref() {
                observation.read_grpc_status(trailers);
            }
        });
    }

    /// Hands what is answered of a stream to the observer: a stream may have no end. The moment for it is when each request
    /// so far has its answer.
    fn hand_over_answered(&mut self) {
        let (Some(tap), Some(response)) = (&self.request, &mut self.response) else {
            return;
        };
        let Some(answers) = response.whole_messages().filter(|answers| *answers > 0) else {
            return;
        };
        let requests =
            tap.with_capture(|request| (request.whole_messages() == Some(answers)).then(|| request.split()));
        let Some(Some(request)) = requests else { return };
        let response = response.split();
        let observing = Arc::clone(&self.observing);
        let part = Box::new(Self {
            observing: Arc::clone(&observing),
            protocol: self.protocol,
            form: Form::Part,
            subject: Subject::Known(self.model()),
            request_id: self.request_id.clone(),
            times: Times {
                started: self.times.started,
                overhead: Duration::ZERO,
                last: None,
            },
            timed: None,
            request: None,
            taken: Some(request),
            request_head: BodyHead {
                message_coding: self.request_head.message_coding,
                ..BodyHead::default()
            },
            response: Some(response),
            response_head: BodyHead {
                message_coding: self.response_head.message_coding,
                ..BodyHead::default()
            },
            status: None,
            grpc_status: None,
            logged: None,
            panicked: false,
            ended: true,
        });
        if let Err(full) = observing.queue.offer(part) {
            let rows = answers as u64;
            full.model().metrics.rows_skipped(SkipReason::QueueFull, rows);
        }
    }

    /// The sidecar answers with this instead of the model server.
    pub(crate) fn failed(mut self: Box<Self>, status: StatusCode, grpc_status: GrpcCode) {
        (self.status, self.grpc_status) = (Some(status), Some(grpc_status));
        self.finish(Ending::UpstreamFailed);
    }

    /// The answer has ended.
    pub(crate) fn finish(mut self: Box<Self>, ending: Ending) {
        let observing = Arc::clone(&self.observing);
        let mut refused = self.end(ending).err();
        if refused.is_none()
            && let Err(mut full) = observing.queue.offer(self)
        {
            let model = full.model();
            refused = Some(full.refused(Some(model), SkipReason::QueueFull));
        }
        if let Some(Refused { model, reason }) = refused {
            observing.skip(&model, reason, 1);
        }
    }

    fn guarded(&mut self, act: impl FnOnce(&mut Self)) {
        let acted = catch_unwind(AssertUnwindSafe(|| {
            self.observing.keeping.hook();
            act(self);
        }));
        if acted.is_err() {
            self.panicked = true;
            self.observing.metrics.panics.inc();
        }
    }

    fn read_grpc_status(&mut self, headers: &HeaderMap) {
        if self.protocol == Protocol::Grpc
            && let Some(status) = headers.get(GRPC_STATUS)
        {
            self.grpc_status = Some(GrpcCode::from_trailer(status.as_bytes()));
        }
    }

    /// Times and counts the exchange.
    ///
    /// # Errors
    /// It is not for the observer.
    fn end(&mut self, ending: Ending) -> Result<(), Refused> {
        self.ended = true;
        let now = Instant::now();
        let concluded = catch_unwind(AssertUnwindSafe(|| {
            self.observing.keeping.hook();
            self.conclude(ending, now)
        }));
        concluded.unwrap_or_else(|_panic| {
            self.observing.metrics.panics.inc();
            Err(Refused {
                model: self.observing.models.other(),
                reason: SkipReason::Panic,
            })
        })
    }

    fn conclude(&mut self, ending: Ending, now: Instant) -> Result<(), Refused> {
        self.log(ending);
        let code = self.code(ending);
        let success = matches!(code, Code::Http(StatusCode::OK) | Code::Grpc(GrpcCode::Ok));
        self.timed = Some(Timed {
            code,
            duration: now - self.times.started,
            overhead: self.times.last.map(|last| self.times.overhead + (now - last)),
        });
        let reason = self.unobservable(ending, success);
        let model = self.find_model(success);
        let reason = reason.or_else(|| {
            let unwanted = model
                .as_deref()
                .and_then(|model| self.observing.unwanted(Some(model)));
            unwanted.or_else(|| self.take_request())
        });
        match (model, reason) {
            // The observer reads the name, and then records the time.
            (None, None) => Ok(()),
            (model, Some(reason)) => Err(self.refused(model, reason)),
            (Some(model), None) => {
                self.is_about(&model);
                Ok(())
            }
        }
    }

    /// Offers what was kept to the payload log, whatever the status.
    fn log(&mut self, ending: Ending) {
        let (Some(logger), Some(logged)) = (&self.observing.logger, self.logged.take()) else {
            return;
        };
        let request = match &self.request {
            Some(tap) => tap.with_capture(|capture| capture.copy()).flatten(),
            None => Some(Bytes::new()),
        };
        let answer = match ending {
            Ending::Complete => Answer::Whole {
                body: self.response.as_ref().and_then(Capture::copy),
                grpc_status: self.grpc_status,
            },
            Ending::UpstreamFailed | Ending::ClientGone => Answer::Incomplete,
        };
        let offer = |model: &str| logger.offer(*logged, model, request, answer);
        match &self.subject {
            Subject::Known(model) => offer(&model.name),
            Subject::Named(model) => offer(&model.name),
            Subject::InMessage => {
                let name = self.peek(|name, _| name.to_owned());
                offer(name.as_deref().unwrap_or_default());
            }
        }
    }

    fn refused(&mut self, model: Option<Arc<Model>>, reason: SkipReason) -> Refused {
        let model = model.unwrap_or_else(|| self.observing.models.other());
        self.is_about(&model);
        Refused { model, reason }
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

    /// Why the exchange cannot be observed, as far as that is known without its model and its bodies.
    fn unobservable(&self, ending: Ending, success: bool) -> Option<SkipReason> {
        match ending {
            Ending::ClientGone => return Some(SkipReason::ClientGone),
            Ending::UpstreamFailed => return Some(SkipReason::UpstreamFailed),
            Ending::Complete => {}
        }
        if self.panicked {
            Some(SkipReason::Panic)
        } else if !success {
            Some(SkipReason::ErrorStatus)
        } else if self.request_head.encoded || self.response_head.encoded {
            Some(SkipReason::Encoded)
        } else {
            None
        }
    }

    /// Takes the request's copy, which its body's sender may still hold. Why the bodies cannot be read, if so.
    fn take_request(&mut self) -> Option<SkipReason> {
        let Some(tap) = self.request.take() else {
            return Some(SkipReason::Unparsable);
        };
        self.taken = tap.take();
        let lost = |capture: &Option<Capture>| match capture {
            Some(capture) => capture.lost(),
            // It began before there was anything to compare it with.
            None => Some(SkipReason::NoProfile),
        };
        lost(&self.taken).or_else(|| lost(&self.response))
    }

    /// The model that the request names. One that answers gets series of its own, as far as there is room. None when the
    /// name does not stand at the beginning of the message, or the message is compressed.
    fn find_model(&self, success: bool) -> Option<Arc<Model>> {
        let models = &self.observing.models;
        match &self.subject {
            Subject::Known(model) => Some(Arc::clone(model)),
            Subject::Named(ModelRef { name, version }) => {
                Some(models.find(name, version.as_deref(), success))
            }
            Subject::InMessage => self.peek(|name, version| models.find(name, version, success)),
        }
    }

    /// Calls `look` with the name and version in the first message, if they can be read.
    fn peek<T>(&self, look: impl FnOnce(&str, Option<&str>) -> T) -> Option<T> {
        let tap = self.request.as_ref()?;
        tap.with_capture(|capture| match grpc::peek_model(capture.beginning()) {
            Peek::Found { name, version } => {
                let version = Some(version).filter(|version| !version.is_empty());
                Some(look(name, version))
            }
            Peek::NeedMore | Peek::Unreadable => None,
        })?
    }

    /// Records the time of an exchange whose model is known now.
    pub(crate) fn is_about(&mut self, model: &Arc<Model>) {
        if let Some(timed) = self.timed.take() {
            model
                .metrics
                .durations
                .record(self.protocol, timed.code, timed.duration);
            if let Some(overhead) = timed.overhead {
                model.metrics.overhead.observe(overhead.as_secs_f64());
            }
        }
        self.subject = Subject::Known(Arc::clone(model));
    }

    /// The model, or the one that stands for all others while it is not known.
    pub(crate) fn model(&self) -> Arc<Model> {
        match &self.subject {
            Subject::Known(model) => Arc::clone(model),
            Subject::Named(_) | Subject::InMessage => self.observing.models.other(),
        }
    }

    /// Whether it is a stream of requests and answers.
    pub(crate) fn is_streaming(&self) -> bool {
        self.form != Form::One
    }

    /// Whether it is the beginning of a stream, which is counted at its end.
    pub(crate) fn is_part(&self) -> bool {
        self.form == Form::Part
    }

    /// Names the request `id` unless the client's header did.
    pub(crate) fn name_request(&mut self, id: Option<&str>) {
        if self.request_id.is_none() {
            self.request_id = id.and_then(|id| request_id_of(id.as_bytes()));
        }
    }

    /// Whether only the message tells the model.
    pub(crate) fn is_model_unknown(&self) -> bool {
        matches!(self.subject, Subject::InMessage)
    }

    /// For tests: the bodies as if they had passed.
    #[cfg(test)]
    pub(crate) fn put_bodies(&mut self, request: &Bytes, response: &Bytes, json_length: Option<&str>) {
        let capture = |body| {
            let mut capture = Capture::new(Arc::clone(&self.observing.keeping));
            capture.push(body);
            Some(capture)
        };
        (self.taken, self.response) = (capture(request), capture(response));
        self.response_head.json_length = json_length.map(|length| SmallVec::from_slice(length.as_bytes()));
    }

    /// The bodies of request and answer. What they took from the budget is held until this is dropped.
    pub(crate) fn take_bodies(&mut self) -> (Bytes, Bytes) {
        let take = |capture: &mut Option<Capture>| {
            let bytes = capture.as_mut().map(Capture::take_bytes);
            bytes.unwrap_or_default()
        };
        (take(&mut self.taken), take(&mut self.response))
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if !self.ended
            && let Err(Refused { model, reason }) = self.end(Ending::ClientGone)
        {
            self.observing.skip(&model, reason, 1);
        }
    }
}

/// An exchange that the observer does not get.
#[derive(Debug)]
pub(crate) struct Refused {
    model: Arc<Model>,
    reason: SkipReason,
}

impl Observing {
    /// The model that a path names.
    fn subject(&self, model: ModelRef) -> Subject {
        let known = self.models.known(&model.name, model.version.as_deref());
        known.map_or_else(|| Subject::Named(model), Subject::Known)
    }
}
