//! Sends a call to an endpoint; to another one when the first has not processed it, or when that does no harm.

mod attempt;

use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::EXPECT;
use http::{HeaderMap, Method, Request, Response, StatusCode};
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
use crate::hold::{NotHeld, Wanted, is_reachable};
use crate::layers::BoxFuture;
use crate::layers::deadline::tell;
use crate::layers::resolve_model::{Kind, RoutedCall};
use crate::limiter::{Bounds, Full, Permit};
use crate::mirror::{Capture, Captured};
use crate::outcome::{Outcome, forbids_retry};
use crate::replay::{Replay, copy_of_head};
use crate::route::{Revision, Route};
use crate::snapshot::Routes;
use attempt::{AnswerBody, Attempted, Failed, protocol};

pub(crate) use attempt::Attempt;

/// Attempts of one request at a revision, hedges aside. Those of which nothing was processed are free, and bounded by
/// this alone.
const MAX_ATTEMPTS: usize = 3;

/// The innermost service.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    /// For requests that wait for what is not there yet.
    pub(crate) routes: Arc<Routes>,
}

impl Service<RoutedCall> for Forward {
    type Response = Response<Captured<AnswerBody>>;
    type Error = GatewayError;
    type Future = BoxFuture<Result<Self::Response, GatewayError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, routed: RoutedCall) -> Self::Future {
        Box::pin(forward(Arc::clone(&self.routes), routed))
    }
}

async fn forward(
    routes: Arc<Routes>,
    routed: RoutedCall,
) -> Result<Response<Captured<AnswerBody>>, GatewayError> {
    let RoutedCall {
        call,
        mut route,
        kind,
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
    let wanted = route.wanted(request.headers());
    let mut wanted = Arc::clone(wanted.ok_or_else(|| no_endpoint(&route))?);
    let mut revision = Arc::clone(route.or_fallback(&wanted, family, Instant::now()));
    revision.state.requested();
    route.state.retries.deposit(route.spec.protection.retry_budget);
    let capture = mirror(&mut request, family, &route, kind);
    let sender = Sender::new(&mut request, &route, (family, kind), ledger);
    loop {
        let Unsent { error, request: back } = match sender.send(&route, &revision, request).await {
            Ok(response) => return Ok(Captured::new(response, capture)),
            Err(unsent) => unsent,
        };
        let Some(back) = back else { return Err(error) };
        request = *back;
        unset(request.headers_mut(), &revision);
        let next = match route.fall_back(&revision, family, Instant::now()) {
            Some(fallback) => Arc::clone(fallback),
            None if is_reachable(&revision, family, Instant::now()) => return Err(error),
            None => {
                let headers = request.headers();
                (route, wanted) = sender.hold(&routes, &route, &wanted, headers, error).await?;
                Arc::clone(route.or_fallback(&wanted, family, Instant::now()))
            }
        };
        if !Arc::ptr_eq(&next.state, &revision.state) {
            next.state.requested();
        }
        revision = next;
        sender.tell_time_left(&mut request);
    }
}

/// Begins a copy of an inference request, if its route has a mirror. Streams may go on for hours and are not copied.
fn mirror(request: &mut Request<RequestBody>, family: Family, route: &Route, kind: Kind) -> Option<Capture> {
    let mirror = route.mirror.as_ref().filter(|_| kind == Kind::Infer)?;
    let expected = request.body().size_hint().lower();
    let head = || copy_of_head(request);
    let (tee, capture) = mirror.begin(family, route.spec.timeout, expected, head)?;
    request.body_mut().tee(tee);
    capture
}

/// Sets the headers that a revision's endpoints ask for.
fn set(headers: &mut HeaderMap, revision: &Revision) {
    for (name, value) in &revision.headers {
        headers.insert(name, value.clone());
    }
}

fn unset(headers: &mut HeaderMap, revision: &Revision) {
    for (name, _) in &revision.headers {
        headers.remove(name);
    }
}

/// What stays the same over all attempts at a request.
struct Sender {
    family: Family,
    kind: Kind,
    /// It may be processed twice.
    idempotent: bool,
    replay: Option<Replay>,
    ledger: Arc<Ledger>,
}

/// A request that was not answered.
struct Unsent {
    error: GatewayError,
    /// It is as good as new, and may go elsewhere: nothing of it was sent.
    request: Option<Box<Request<RequestBody>>>,
}

impl From<GatewayError> for Unsent {
    fn from(error: GatewayError) -> Self {
        Self { error, request: None }
    }
}

/// Whether there is nothing better to wait for.
fn is_good(attempted: &Attempted) -> bool {
    matches!(attempted, Ok((_, outcome)) if outcome.is_none_or(Outcome::is_well))
}

impl Sender {
    fn new(
        request: &mut Request<RequestBody>,
        route: &Route,
        (family, kind): (Family, Kind),
        ledger: Arc<Ledger>,
    ) -> Self {
        let read = matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
        let idempotent = (route.spec.protection.idempotent || read) && kind != Kind::Stream;
        // An HTTP/2 server can say that it has not processed what it was sent.
        let again = idempotent || protocol(family) == Protocol::Http2;
        Self {
            family,
            kind,
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
        let endpoints = revision.endpoints.of(self.family);
        let protection = &route.spec.protection;
        let slow_start = protection.slow_start;
        let holds = !protection.hold.is_zero();
        let mut choice = choose(endpoints, &tried, slow_start, began);
        let mut attempts = 0;
        loop {
            let chosen = choice.filter(|chosen| {
                let last = matches!(chosen.reason, Reason::LastResort);
                // Rather than to be refused by an endpoint that cannot be reached, it waits for one that can.
                !(last && holds && !is_reachable(revision, self.family, Instant::now()))
            });
            let Some(chosen) = chosen else {
                let (error, request) = (no_endpoint(route), Some(Box::new(request)));
                return Err(Unsent { error, request });
            };
            attempts += 1;
            let endpoint = chosen.endpoint;
            let hedge = protection.hedge.filter(|_| self.idempotent && attempts == 1);
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
                let next = more.then(|| choose(endpoints, &tried, slow_start, Instant::now()))?;
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
                    let Failed {
                        sent: SendError { error, unsent },
                        endpoint_ended,
                    } = *failed;
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
                        let (error, request) = (failure(route, error), unsent.map(Box::new));
                        return Err(Unsent { error, request });
                    };
                    let request = match unsent {
                        Some(unsent) => Some(unsent),
                        None if unprocessed => again(),
                        None if self.idempotent => again().filter(|_| endpoint_ended || may_retry(route)),
                        None => None,
                    };
                    match request {
                        Some(request) => (Some(next), request),
                        None => return Err(failure(route, error).into()),
                    }
                }
            };
            endpoint.used().metrics.retries.inc();
            self.tell_time_left(&mut request);
        }
    }

    /// Streams last as long as they like: they have no latency to limit by.
    fn bounds(&self, route: &Route) -> Option<Bounds> {
        let limits = route.spec.protection.concurrency;
        let limits = limits.filter(|_| self.kind != Kind::Stream)?;
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
        match revision.state.limiter().acquire(bounds).await {
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
        mut request: Request<RequestBody>,
    ) -> Attempted {
        let _waiting = Waiting::begin(&self.ledger);
        set(request.headers_mut(), revision);
        let what = (self.family, self.kind);
        let attempt = Attempt::begin(Some(revision), choice, what, &self.ledger, Instant::now());
        attempt.send(request).await
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
        let endpoints = revision.endpoints.of(self.family);
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
        if endpoints.len() < 2 {
            return first.await;
        }
        if !route.state.may_hedge() {
            route.state.extra().hedges_no_budget.inc();
            return first.await;
        }
        let slow_start = route.spec.protection.slow_start;
        let other = choose(endpoints, tried, slow_start, Instant::now());
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
        let metrics = route.state.extra();
        let counter = if won {
            &metrics.hedges_won
        } else {
            &metrics.hedges_lost
        };
        counter.inc();
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
        let hedge = route.spec.protection.hedge.filter(|_| self.idempotent);
        if bounds.is_none() && hedge.is_none() {
            return;
        }
        let now = Instant::now();
        let whole = self.ledger.whole_since();
        let took = now - whole.map_or(began, |whole| whole.max(began));
        match (outcome, bounds) {
            (None | Some(Outcome::Good | Outcome::Refused), Some(bounds)) => {
                revision.state.limiter().answered(took, now, bounds);
            }
            (Some(Outcome::Full(_)), Some(bounds)) => revision.state.limiter().refused(now, bounds),
            (Some(Outcome::Failed), Some(_)) | (_, None) => {}
        }
        if let Some(after) = hedge {
            route.state.answered(after, took);
        }
    }

    /// Waits for an endpoint, for as long after its arrival as the route allows.
    async fn hold(
        &self,
        routes: &Routes,
        route: &Route,
        revision: &Revision,
        headers: &HeaderMap,
        error: GatewayError,
    ) -> Result<(Arc<Route>, Arc<Revision>), GatewayError> {
        let protection = &route.spec.protection;
        let until = self.ledger.arrived + protection.hold;
        if Instant::now() >= until {
            return Err(error);
        }
        let _waiting = Waiting::begin(&self.ledger);
        let wanted = Wanted {
            model: &route.model,
            revision: &revision.name,
            headers,
            family: self.family,
        };
        let hold = &route.state.hold;
        let held = hold.wait(routes, wanted, protection.hold_max, until).await;
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
    let metrics = route.state.extra();
    let may = route.state.retries.withdraw();
    let counter = if may { &metrics.sent } else { &metrics.no_budget };
    counter.inc();
    may
}

fn no_endpoint(route: &Route) -> GatewayError {
    let model = route.model.clone();
    GatewayError::NoEndpoint { model }
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
