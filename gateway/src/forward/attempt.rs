//! One attempt at an endpoint, from its choice to the end of its answer, and what is learned from it.

mod spans;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::response::Parts;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use plumbline_inference_protocol::GrpcCode;
use plumbline_service::TRACEPARENT;
use plumbline_service::traces::Span;
use plumbline_service::upstream::{Protocol, SendError, UpstreamBody, UpstreamError, strip_hop_by_hop};
use tokio::time::Instant;

use crate::balance::{Choice, Reason};
use crate::body::RequestBody;
use crate::call::{Family, Ledger};
use crate::endpoint::{Cause, Endpoint, Pending, Probe, Suspicion};
use crate::error::GRPC_STATUS;
use crate::layers::resolve_model::Kind;
use crate::limiter::Permit;
use crate::outcome::{Outcome, PENALTY};
use crate::route::Revision;

/// What an endpoint is spoken to in. gRPC needs HTTP/2; every server speaks HTTP/1.1.
pub(super) fn protocol(family: Family) -> Protocol {
    match family {
        Family::Grpc => Protocol::Http2,
        Family::V1 | Family::V2 | Family::Other => Protocol::Http1,
    }
}

/// An answer with what came of it, as far as its head tells, or none.
pub(crate) type Attempted = Result<(Response<AnswerBody>, Option<Outcome>), Box<Failed>>;

/// An attempt without an answer.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(super) sent: SendError<RequestBody>,
    /// It was under way when its endpoint ended ([`Endpoint::broke`]).
    pub(super) endpoint_ended: bool,
}

/// Dropped before an answer: given up.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Whose requests are counted, and whose endpoints are compared; nothing for a copy, which tells of its endpoint alone.
    revision: Option<Arc<Revision>>,
    family: Family,
    kind: Kind,
    pending: Pending,
    began: Instant,
    ledger: Arc<Ledger>,
    /// Given up after the outcome was told.
    probe: Option<Probe>,
    answered: bool,
    /// What came of it is known: nothing more is learned.
    decided: bool,
    /// If its request is recorded.
    span: Option<Box<Span>>,
}

impl Attempt {
    pub(crate) fn begin(
        revision: Option<&Arc<Revision>>,
        choice: Choice<'_>,
        (family, kind): (Family, Kind),
        ledger: &Arc<Ledger>,
        now: Instant,
    ) -> Self {
        if let (Some(trail), Some(revision)) = (ledger.trail.get(), revision) {
            trail.tried(revision, choice.endpoint);
        }
        let span = revision.and_then(|revision| spans::begin(ledger, revision, choice.endpoint));
        Self {
            revision: revision.map(Arc::clone),
            family,
            kind,
            pending: choice.endpoint.begin(now),
            began: now,
            ledger: Arc::clone(ledger),
            probe: match choice.reason {
                Reason::Probe(probe) => Some(probe),
                Reason::Cheaper | Reason::LastResort => None,
            },
            answered: false,
            decided: false,
            span,
        }
    }

    /// Sends the request. Dropping the future, or later the answer's body, cancels it.
    pub(crate) async fn send(mut self, mut request: Request<RequestBody>) -> Attempted {
        if let Some(span) = &self.span {
            let context = span.context().header_value();
            request.headers_mut().insert(TRACEPARENT, context);
        }
        let upstream = &self.endpoint().used().upstream;
        let sent = upstream.send(protocol(self.family), request).await;
        match sent {
            Ok(response) => {
                let (mut head, body) = response.into_parts();
                let outcome = self.answered(&head);
                strip_hop_by_hop(&mut head.headers);
                if let Some(span) = &self.span {
                    spans::answered(span, self.family, &head, body.is_end_stream());
                }
                let body = AnswerBody::new(body, self);
                Ok((Response::from_parts(head, body), outcome))
            }
            Err(sent) => {
                if let Some(span) = &self.span {
                    span.fail(spans::failure(&sent.error));
                }
                // A fault of the client's is not the endpoint's.
                let endpoint_ended = self.ledger.body_fault().is_none() && self.failed(&sent.error);
                Err(Box::new(Failed { sent, endpoint_ended }))
            }
        }
    }

    fn endpoint(&self) -> &Arc<Endpoint> {
        &self.pending.endpoint
    }

    /// Since when the endpoint has had all it needs to answer.
    fn asked_since(&self) -> Option<Instant> {
        Some(self.ledger.whole_since()?.max(self.began))
    }

    /// The head of the answer came. What came of it, unless only the trailers tell.
    fn answered(&mut self, head: &Parts) -> Option<Outcome> {
        self.answered = true;
        if let Some(trail) = self.ledger.trail.get() {
            trail.answered_by(self.endpoint());
        }
        self.pending.waits_no_more();
        let now = Instant::now();
        // A slow client does not make a slow endpoint.
        let took = now - self.asked_since().unwrap_or(self.began);
        self.endpoint().answered(took, now);
        if let Some(revision) = &self.revision {
            revision.state.answered(took);
        }
        let metrics = &self.endpoint().used().metrics;
        metrics.answered.inc();
        metrics.duration.observe(took.as_secs_f64());
        let outcome = match (self.family, head.headers.get(GRPC_STATUS)) {
            (Family::Grpc, _) if !head.status.is_success() => {
                Some(Outcome::of_http(head.status, &head.headers))
            }
            (Family::Grpc, Some(code)) => {
                let code = GrpcCode::from_trailer(code.as_bytes());
                Some(Outcome::of_grpc(code, &head.headers))
            }
            // A stream may go on for hours.
            (Family::Grpc, None) => (self.kind == Kind::Stream).then_some(Outcome::Good),
            (Family::V1 | Family::V2 | Family::Other, _) => {
                Some(Outcome::of_http(head.status, &head.headers))
            }
        };
        if let Some(outcome) = outcome {
            self.decide(outcome, now);
        }
        outcome
    }

    /// There was no answer, and why. Whether it was under way when its endpoint ended.
    fn failed(&mut self, error: &UpstreamError) -> bool {
        self.answered = true;
        let now = Instant::now();
        let endpoint = Arc::clone(self.endpoint());
        let metrics = &endpoint.used().metrics;
        match error {
            UpstreamError::Connect { .. }
            | UpstreamError::ConnectTimeout { .. }
            | UpstreamError::Handshake { .. } => {
                metrics.connect_failed.inc();
                self.decided = true;
                self.count(Outcome::Failed);
                // Out at once, whatever its peers do: nobody is served there.
                endpoint.put_out(Cause::Unreachable, self.began, now);
            }
            UpstreamError::Closed { reused, .. } => {
                metrics.closed.inc();
                // A connection that was idle too long, or a refusal to begin: no sign of illness.
                if !reused && !error.is_unprocessed() {
                    self.decide(Outcome::Failed, now);
                }
                return endpoint.broke(self.began, now);
            }
            UpstreamError::InvalidAnswer { .. } => {
                metrics.invalid.inc();
                self.decide(Outcome::Failed, now);
            }
            UpstreamError::RequestBody { .. } => metrics.given_up.inc(),
        }
        false
    }

    fn decide(&mut self, outcome: Outcome, now: Instant) {
        if std::mem::replace(&mut self.decided, true) {
            return;
        }
        self.count(outcome);
        match outcome {
            Outcome::Good | Outcome::Refused => self.endpoint().succeeded(self.began, now),
            Outcome::Full(until_free) => {
                self.endpoint().penalize(until_free, now);
                // It answers: it is in use again, at the price that it has now.
                self.endpoint().succeeded(self.began, now);
            }
            Outcome::Failed => {
                self.endpoint().penalize(PENALTY, now);
                self.suspect(now);
            }
        }
        self.probe = None;
    }

    fn count(&self, outcome: Outcome) {
        if let Some(revision) = &self.revision {
            revision.state.count(outcome);
        }
    }

    fn suspect(&self, now: Instant) {
        let endpoint = self.endpoint();
        match endpoint.failed(self.began, now) {
            Suspicion::None => {}
            Suspicion::Suspect => {
                if let Some(revision) = &self.revision {
                    revision.put_out_if_worse(endpoint, self.family, self.began, now);
                }
            }
            Suspicion::ProbeFailed => endpoint.put_out(Cause::Failing, self.began, now),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.answered {
            let now = Instant::now();
            self.endpoint().used().metrics.given_up.inc();
            if let Some(since) = self.asked_since() {
                let slower = self.endpoint().kept_waiting(now - since, now);
                let late = self
                    .ledger
                    .deadline
                    .get()
                    .is_some_and(|deadline| now >= *deadline);
                if slower && late {
                    self.suspect(now);
                }
            }
        }
    }
}

/// An answer's body: with it lasts what counts the request as in flight, and its end may tell what came of it.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    body: UpstreamBody<RequestBody>,
    attempt: Attempt,
    /// Given back when this is dropped.
    permit: Option<Permit>,
}

impl AnswerBody {
    fn new(body: UpstreamBody<RequestBody>, attempt: Attempt) -> Self {
        Self {
            body,
            attempt,
            permit: None,
        }
    }

    /// Keeps the permit until the body is dropped.
    pub(super) fn holding(mut self, permit: Option<Permit>) -> Self {
        self.permit = permit;
        self
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let attempt = &mut self.attempt;
        match &frame {
            Some(Ok(frame)) => {
                if !attempt.decided
                    && let Some(trailers) = frame.trailers_ref()
                {
                    let code = trailers.get(GRPC_STATUS);
                    let code = code.map_or(GrpcCode::Unknown, |code| GrpcCode::from_trailer(code.as_bytes()));
                    attempt.decide(Outcome::of_grpc(code, trailers), Instant::now());
                }
            }
            // A gRPC answer without a status is one that its server did not finish.
            None => {
                if !attempt.decided {
                    attempt.decide(Outcome::Failed, Instant::now());
                }
            }
            Some(Err(_)) => {
                attempt.decided = false;
                attempt.decide(Outcome::Failed, Instant::now());
            }
        }
        if let Some(span) = &self.attempt.span {
            spans::frame(
                span,
                self.attempt.family,
                frame.as_ref(),
                self.body.is_end_stream(),
            );
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
