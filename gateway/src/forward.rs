//! Sends a call to an endpoint; to another one when the first has not processed it, or when that does no harm.

mod attempt;

use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::EXPECT;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use plumbline_service::upstream::{Protocol, SendError, UpstreamError, strip_hop_by_hop};
use tokio::time::{Instant, sleep};
use tower::Service;

use crate::balance::{Choice, Reason, choose};
use crate::body::RequestBody;
use crate::call::{Call, Family, Ledger};
use crate::config::HedgeAfter;
use crate::endpoint::Endpoint;
use crate::error::GatewayError;
use crate::hold::{NotHeld, is_reachable};
use crate::layers::BoxFuture;
use crate::layers::deadline::tell;
use crate::layers::resolve_model::RoutedCall;
use crate::limiter::{Bounds, Full, Permit};
use crate::outcome::{Outcome, forbids_retry};
use crate::replay::Replay;
use crate::route::{Revision, Route};
use attempt::Attempt;

pub(crate) use attempt::AnswerBody;

/// Attempts at one request, hedges aside. Those of which nothing was processed are free, and bounded by this alone.
const MAX_ATTEMPTS: usize = 3;

/// The innermost service.
#[derive(Clone, Debug)]
pub(crate) struct Forward;

impl Service<RoutedCall> for Forward {
    type Response = Response<AnswerBody>;
    type Error = GatewayError;
    type Future = BoxFuture<Result<Self::Response, GatewayError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, routed: RoutedCall) -> Self::Future {
        Box::pin(forward(routed))
    }
}

async fn forward(routed: RoutedCall) -> Result<Response<AnswerBody>, GatewayError> {
    let RoutedCall {
        call,
        mut route,
        streaming,
    } = routed;
    let Call {
        mut request,
        family,
        ledger,
        ..
    } = call;
    strip_hop_by_hop(request.headers_mut());
    // Answered by our own server when the body is first asked for.
    request.headers_mut().remove(EXPECT);
    let sender = Sender::new(&mut request, &route, family, streaming, ledger);
    let mut revision = Arc::clone(route.revision());
    route.state.retries.deposit(route.protection.retry_budget);
    loop {
        match sender.send(&route, &revision, request).await {
            Ok(response) => return Ok(response),
            Err(Unsent::Failed(error)) => return Err(error),
            Err(Unsent::Nowhere { request: back, error }) => {
                (route, revision) = sender.hold(&route, &revision, error).await?;
                request = *back;
                sender.tell_time_left(&mut request);
            }
        }
    }
}

/// What stays the same over all attempts at a request.
struct Sender {
    family: Family,
    protocol: Protocol,
    streaming: bool,
    /// It may be processed twice.
    idempotent: bool,
    replay: Option<Replay>,
    ledger: Arc<Ledger>,
}

/// A request that was not answered.
enum Unsent {
    Failed(GatewayError),
    /// There is no endpoint to send it to now, and nothing of it was sent; what to answer if none comes.
    Nowhere {
        request: Box<Request<RequestBody>>,
        error: GatewayError,
    },
}

impl From<GatewayError> for Unsent {
    fn from(error: GatewayError) -> Self {
        Self::Failed(error)
    }
}

/// An answer with what came of it, as far as its head tells, or none.
type Attempted = Result<(Response<AnswerBody>, Option<Outcome>), Box<SendError<RequestBody>>>;

/// Whether there is nothing better to wait for.
fn is_good(attempted: &Attempted) -> bool {
    matches!(attempted, Ok((_, None | Some(Outcome::Good))))
}

impl Sender {
    fn new(
        request: &mut Request<RequestBody>,
        route: &Route,
        family: Family,
        streaming: bool,
        ledger: Arc<Ledger>,
    ) -> Self {
        let protocol = match family {
            // gRPC needs HTTP/2; every server speaks HTTP/1.1.
            Family::Grpc => Protocol::Http2,
            Family::V1 | Family::V2 | Family::Other => Protocol::Http1,
        };
        let read = matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
        let idempotent = (route.protection.idempotent || read) && !streaming;
        // An HTTP/2 server can say that it has not processed what it was sent.
        let again = idempotent || protocol == Protocol::Http2;
        Self {
            family,
            protocol,
            streaming,
            idempotent,
            replay: again.then(|| Replay::of(request)),
            ledger,
        }
    }

    /// Sends the request to endpoints of `revision` until there is an answer or no sense in trying on.
    async fn send(
        &self,
        route: &Arc<Route>,
        revision: &Arc<Revision>,
        mut request: Request<RequestBody>,
    ) -> Result<Response<AnswerBody>, Unsent> {
        let bounds = self.bounds(route);
        let mut permit = self.admit(route, revision, bounds).await?;
        let began = Instant::now();
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        let slow_start = route.protection.slow_start;
        let holds = !route.protection.hold.is_zero();
        let mut choice = choose(&revision.endpoints, &tried, slow_start, began);
        let mut attempts = 0;
        loop {
            let Some(chosen) = choice else {
                let model = route.model.clone();
                let error = GatewayError::NoEndpoint { model };
                return Err(Self::nowhere(holds, request, error));
            };
            if holds && matches!(chosen.reason, Reason::LastResort) && !is_reachable(revision, Instant::now())
            {
                let model = route.model.clone();
                let error = GatewayError::NoEndpoint { model };
                return Err(Self::nowhere(true, request, error));
            }
            attempts += 1;
            let endpoint = chosen.endpoint;
            let hedge = route
                .protection
                .hedge
                .filter(|_| self.idempotent && attempts == 1);
            let attempted = match hedge {
                Some(after) => Box::pin(self.hedged(route, revision, chosen, request, after)).await,
                None => self.attempt(revision, chosen, request).await,
            };
            let may_go_on = match &attempted {
                Ok((response, _)) => self.idempotent && is_retryable(response),
                Err(_) => true,
            };
            if may_go_on {
                tried.push(Arc::clone(endpoint));
            }
            // Another endpoint that is in use, or due to be probed.
            let another = || {
                let more = attempts < MAX_ATTEMPTS;
                let next = more.then(|| choose(&revision.endpoints, &tried, slow_start, Instant::now()))?;
                next.filter(|next| !matches!(next.reason, Reason::LastResort))
            };
            let again = || self.replay.as_ref()?.again(self.family, &self.ledger);
            (choice, request) = match attempted {
                Ok((response, outcome)) => {
                    self.learn(route, revision, bounds, began, outcome);
                    let next = may_go_on.then(another).flatten().and_then(|next| {
                        let request = again()?;
                        may_retry(route).then_some((request, next))
                    });
                    let Some((request, next)) = next else {
                        return Ok(response.map(|body| body.holding(permit.take())));
                    };
                    (Some(next), request)
                }
                Err(failed) => {
                    let SendError { error, unsent } = *failed;
                    if let Some(fault) = self.ledger.body_fault() {
                        // The client's doing: the endpoint is not to blame.
                        return Err(fault.into());
                    }
                    let unprocessed = error.is_unprocessed();
                    // A connection that its endpoint was closing says nothing about the endpoint.
                    let stale = matches!(error, UpstreamError::Closed { reused: true, .. });
                    let same = || {
                        let reason = Reason::Cheaper;
                        (attempts < MAX_ATTEMPTS && (stale || unprocessed))
                            .then_some(Choice { endpoint, reason })
                    };
                    let Some(next) = another().or_else(same) else {
                        let holds = holds && error.is_connect() && !is_reachable(revision, Instant::now());
                        let error = failure(route, error);
                        return Err(match unsent {
                            Some(request) => Self::nowhere(holds, request, error),
                            None => error.into(),
                        });
                    };
                    let request = match unsent {
                        Some(unsent) => Some(unsent),
                        None if unprocessed => again(),
                        None if self.idempotent => again().filter(|_| may_retry(route)),
                        None => None,
                    };
                    match request {
                        Some(request) => (Some(next), request),
                        None => return Err(failure(route, error).into()),
                    }
                }
            };
            endpoint.metrics.retries.inc();
            self.tell_time_left(&mut request);
        }
    }

    fn nowhere(holds: bool, request: Request<RequestBody>, error: GatewayError) -> Unsent {
        if !holds {
            return Unsent::Failed(error);
        }
        let request = Box::new(request);
        Unsent::Nowhere { request, error }
    }

    /// Streams last as long as they like: they have no latency to limit by.
    fn bounds(&self, route: &Route) -> Option<Bounds> {
        let limits = route.protection.concurrency.filter(|_| !self.streaming)?;
        Some(Bounds {
            min: limits.min as usize,
            max: limits.max as usize,
        })
    }

    async fn admit(
        &self,
        route: &Route,
        revision: &Revision,
        bounds: Option<Bounds>,
    ) -> Result<Option<Permit>, GatewayError> {
        let Some(bounds) = bounds else {
            return Ok(None);
        };
        let _waiting = Waiting::begin(&self.ledger);
        match revision.state.limiter.acquire(bounds).await {
            Ok(permit) => Ok(Some(permit)),
            Err(Full { limit }) => {
                let model = route.model.clone();
                Err(GatewayError::AtConcurrencyLimit { model, limit })
            }
        }
    }

    async fn attempt(
        &self,
        revision: &Arc<Revision>,
        choice: Choice<'_>,
        request: Request<RequestBody>,
    ) -> Attempted {
        let _waiting = Waiting::begin(&self.ledger);
        let endpoint = choice.endpoint;
        let mut attempt = Attempt::begin(revision, choice, &self.ledger, Instant::now());
        match endpoint.upstream.send(self.protocol, request).await {
            Ok(response) => {
                let (mut head, body) = response.into_parts();
                let outcome = attempt.answered(&head, self.family, self.streaming);
                strip_hop_by_hop(&mut head.headers);
                let body = AnswerBody::new(body, attempt);
                Ok((Response::from_parts(head, body), outcome))
            }
            Err(failure) => {
                if self.ledger.body_fault().is_none() {
                    attempt.failed(&failure.error);
                }
                Err(Box::new(failure))
            }
        }
    }

    /// An attempt, and a second one at another endpoint when the first takes long. Whoever answers well first wins; the
    /// other is cancelled.
    async fn hedged(
        &self,
        route: &Route,
        revision: &Arc<Revision>,
        choice: Choice<'_>,
        request: Request<RequestBody>,
        after: HedgeAfter,
    ) -> Attempted {
        let metrics = &route.state.metrics;
        let tried = std::slice::from_ref(choice.endpoint);
        let mut first = std::pin::pin!(self.attempt(revision, choice, request));
        let Some(after) = route.state.hedge_after(after) else {
            return first.await;
        };
        tokio::select! {
            biased;
            attempted = &mut first => return attempted,
            () = sleep(after) => {}
        }
        let replay = self.replay.as_ref();
        let Some(mut copy) = replay.and_then(|replay| replay.beside(self.family, &self.ledger)) else {
            return first.await;
        };
        if revision.endpoints.len() < 2 {
            return first.await;
        }
        if !route.state.may_hedge() {
            metrics.hedges_no_budget.inc();
            return first.await;
        }
        let other = choose(
            &revision.endpoints,
            tried,
            route.protection.slow_start,
            Instant::now(),
        );
        let Some(other) = other.filter(|other| !matches!(other.reason, Reason::LastResort)) else {
            return first.await;
        };
        self.tell_time_left(&mut copy);
        let mut second = std::pin::pin!(self.attempt(revision, other, copy));
        let (attempted, won) = tokio::select! {
            biased;
            attempted = &mut first => {
                if is_good(&attempted) { (attempted, false) } else { (second.await, true) }
            }
            attempted = &mut second => {
                if is_good(&attempted) { (attempted, true) } else { (first.await, false) }
            }
        };
        if won {
            metrics.hedges_won.inc();
        } else {
            metrics.hedges_lost.inc();
        }
        attempted
    }

    /// Tells the limiter and the hedge what an answer's head says of the latency.
    fn learn(
        &self,
        route: &Route,
        revision: &Revision,
        bounds: Option<Bounds>,
        began: Instant,
        outcome: Option<Outcome>,
    ) {
        let hedge = route.protection.hedge.filter(|_| self.idempotent);
        if bounds.is_none() && hedge.is_none() {
            return;
        }
        let now = Instant::now();
        let whole = self.ledger.whole_since();
        let took = now - whole.map_or(began, |whole| whole.max(began));
        match (outcome, bounds) {
            (None | Some(Outcome::Good), Some(bounds)) => {
                revision.state.limiter.answered(took, now, bounds);
            }
            (Some(Outcome::Full(_)), Some(bounds)) => revision.state.limiter.refused(now, bounds),
            (Some(Outcome::Failed), Some(_)) | (_, None) => {}
        }
        if let Some(after) = hedge {
            route.state.answered(after, took);
        }
    }

    /// Waits for an endpoint.
    async fn hold(
        &self,
        route: &Route,
        revision: &Revision,
        error: GatewayError,
    ) -> Result<(Arc<Route>, Arc<Revision>), GatewayError> {
        let _waiting = Waiting::begin(&self.ledger);
        let protection = &route.protection;
        let until = self.ledger.arrived + protection.hold;
        let held = route
            .state
            .hold
            .wait(&revision.name, protection.hold_max, until)
            .await;
        held.map_err(|reason| match reason {
            NotHeld::NoneCame => error,
            NotHeld::Full => GatewayError::HoldFull {
                model: route.model.clone(),
                limit: protection.hold_max,
            },
        })
    }

    /// A later attempt has less time than the first.
    fn tell_time_left(&self, request: &mut Request<RequestBody>) {
        if let Some(deadline) = self.ledger.deadline.get() {
            let left = deadline.saturating_duration_since(Instant::now());
            tell(request.headers_mut(), self.family, left);
        }
    }
}

/// Whether an endpoint answered that it could not do it, and another may.
fn is_retryable(response: &Response<AnswerBody>) -> bool {
    let head = response.headers();
    let failed = match response.status() {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => true,
        // Trailers-only UNAVAILABLE.
        StatusCode::OK => head
            .get(crate::error::GRPC_STATUS)
            .is_some_and(|code| code == "14"),
        _ => false,
    };
    failed && !forbids_retry(head)
}

fn may_retry(route: &Route) -> bool {
    let metrics = &route.state.metrics;
    let may = route.state.retries.withdraw();
    let counter = if may { &metrics.sent } else { &metrics.no_budget };
    counter.inc();
    may
}

fn failure(route: &Route, source: UpstreamError) -> GatewayError {
    let (model, source) = (route.model.clone(), Box::new(source));
    match &*source {
        UpstreamError::Connect { .. }
        | UpstreamError::ConnectTimeout { .. }
        | UpstreamError::Handshake { .. } => GatewayError::Unreachable { model, source },
        UpstreamError::Closed { .. } => GatewayError::Closed { model, source },
        UpstreamError::InvalidAnswer { .. } => GatewayError::InvalidAnswer { model, source },
        UpstreamError::RequestBody { .. } => GatewayError::BodyIncomplete,
    }
}

/// Time that is not the gateway's own, until dropped.
struct Waiting<'a> {
    ledger: &'a Ledger,
    began: Instant,
}

impl<'a> Waiting<'a> {
    fn begin(ledger: &'a Ledger) -> Self {
        let began = Instant::now();
        Self { ledger, began }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.ledger.add_wait(self.began.elapsed());
    }
}
