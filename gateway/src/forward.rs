//! Sends a call to an endpoint, and to another one when nothing of it was sent.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::EXPECT;
use http::{Method, Request, Response, request::Parts};
use http_body::Body as _;
use plumbline_service::upstream::{Protocol, SendError, UpstreamBody, UpstreamError, strip_hop_by_hop};
use tokio::time::Instant;
use tower::Service;

use crate::balance::choose;
use crate::body::{Guarded, RequestBody};
use crate::call::{Call, Family, Ledger};
use crate::endpoint::{Endpoint, Pending};
use crate::error::GatewayError;
use crate::layers::BoxFuture;
use crate::layers::resolve_model::{Kind, RoutedCall};
use crate::mirror::{Capture, Captured};
use crate::route::Route;

/// Attempts at one request, each at an endpoint of its own. Only attempts of which nothing was sent are repeated, so
/// this bounds time, not load.
const MAX_ATTEMPTS: usize = 3;

/// The innermost service.
#[derive(Clone, Debug)]
pub(crate) struct Forward;

pub(crate) type AnswerBody = Captured<Guarded<UpstreamBody<RequestBody>, Pending>>;

impl Service<RoutedCall> for Forward {
    type Response = Response<AnswerBody>;
    type Error = GatewayError;
    type Future = BoxFuture<Result<Self::Response, GatewayError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, RoutedCall { call, route, kind }: RoutedCall) -> Self::Future {
        Box::pin(forward(call, route, kind))
    }
}

async fn forward(call: Call, route: Arc<Route>, kind: Kind) -> Result<Response<AnswerBody>, GatewayError> {
    let Call {
        mut request,
        family,
        ledger,
        ..
    } = call;
    strip_hop_by_hop(request.headers_mut());
    // Answered by our own server when the body is first asked for.
    request.headers_mut().remove(EXPECT);
    let protocol = protocol(family);
    let mut again = SendAgain::new(&request);
    let chosen = route.revision(request.headers(), family, Instant::now());
    let mut revision = chosen.ok_or_else(|| no_endpoint(&route))?;
    revision.metrics.request(&route.model, &revision.name);
    let mut capture = mirror(&mut request, family, &route, kind);
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    loop {
        let now = Instant::now();
        let endpoints = revision.endpoints.of(family);
        let endpoint = choose(endpoints, &tried, now).ok_or_else(|| no_endpoint(&route))?;
        for (name, value) in &revision.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let mut attempt = Attempt::new(endpoint, &ledger, now);
        let SendError { error, unsent } = match endpoint.used().upstream.send(protocol, request).await {
            Ok(response) => return Ok(Captured::new(attempt.answered(response), capture.take())),
            Err(failure) => failure,
        };
        if let Some(fault) = ledger.body_fault() {
            // The client's doing: the endpoint is not to blame.
            return Err(fault);
        }
        attempt.failed(&error);
        tried.push(Arc::clone(endpoint));
        let others_left = tried.len() < endpoints.len().min(MAX_ATTEMPTS);
        request = match unsent {
            Some(unsent) if others_left => unsent,
            Some(mut unsent) => {
                let Some(fallback) = route.fall_back(revision, family, now) else {
                    return Err(failure(&route, error));
                };
                for (name, _) in &revision.headers {
                    unsent.headers_mut().remove(name);
                }
                revision = fallback;
                revision.metrics.request(&route.model, &revision.name);
                tried.clear();
                unsent
            }
            None => match again.take(&error, &ledger) {
                // A stale connection says nothing about the endpoint: it may be chosen again.
                Some(request) => {
                    tried.pop();
                    request
                }
                None => return Err(failure(&route, error)),
            },
        };
        endpoint.used().metrics.retries.inc();
    }
}

/// What an endpoint is spoken to in. gRPC needs HTTP/2; every server speaks HTTP/1.1.
pub(crate) fn protocol(family: Family) -> Protocol {
    match family {
        Family::Grpc => Protocol::Http2,
        Family::V1 | Family::V2 | Family::Other => Protocol::Http1,
    }
}

/// Begins a copy of an inference request, if its route has a mirror. Streams may go on for hours and are not copied.
fn mirror(request: &mut Request<RequestBody>, family: Family, route: &Route, kind: Kind) -> Option<Capture> {
    let mirror = route.mirror.as_ref().filter(|_| kind == Kind::Infer)?;
    let expected = request.body().size_hint().lower();
    let (tee, capture) = mirror.begin(family, route.spec.timeout, expected, || request.clone_parts())?;
    request.body_mut().tee(tee);
    capture
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

/// A request that may be sent once more after its bytes were on the wire: it changes nothing and has no body, and the
/// connection was one that its endpoint was closing.
struct SendAgain(Option<Parts>);

impl SendAgain {
    fn new(request: &Request<RequestBody>) -> Self {
        let safe = matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
        Self(safe.then(|| request.clone_parts()))
    }

    fn take(&mut self, error: &UpstreamError, ledger: &Arc<Ledger>) -> Option<Request<RequestBody>> {
        if !matches!(error, UpstreamError::Closed { reused: true, .. }) {
            return None;
        }
        let head = self.0.take()?;
        Some(Request::from_parts(head, RequestBody::empty(Arc::clone(ledger))))
    }
}

trait CloneParts {
    fn clone_parts(&self) -> Parts;
}

impl<B> CloneParts for Request<B> {
    fn clone_parts(&self) -> Parts {
        let mut head = Request::new(());
        *head.method_mut() = self.method().clone();
        *head.uri_mut() = self.uri().clone();
        *head.version_mut() = self.version();
        head.headers_mut().clone_from(self.headers());
        head.into_parts().0
    }
}

/// One attempt at an endpoint. Dropped without an outcome: given up.
struct Attempt<'a> {
    endpoint: &'a Arc<Endpoint>,
    ledger: &'a Ledger,
    began: Instant,
    pending: Option<Pending>,
    ended: bool,
}

impl<'a> Attempt<'a> {
    fn new(endpoint: &'a Arc<Endpoint>, ledger: &'a Ledger, now: Instant) -> Self {
        Self {
            endpoint,
            ledger,
            began: now,
            pending: Some(endpoint.begin()),
            ended: false,
        }
    }

    fn end(&mut self) -> Duration {
        self.ended = true;
        let took = self.began.elapsed();
        self.ledger.add_wait(took);
        took
    }

    fn answered(
        &mut self,
        mut response: Response<UpstreamBody<RequestBody>>,
    ) -> Response<Guarded<UpstreamBody<RequestBody>, Pending>> {
        let took = self.end();
        self.endpoint.answered(took, self.began + took);
        let metrics = &self.endpoint.used().metrics;
        metrics.answered.inc();
        metrics.duration.observe(took.as_secs_f64());
        strip_hop_by_hop(response.headers_mut());
        let pending = self.pending.take().expect("taken once, here");
        response.map(|body| Guarded::new(body, pending))
    }

    fn failed(&mut self, error: &UpstreamError) {
        self.end();
        let metrics = &self.endpoint.used().metrics;
        match error {
            UpstreamError::Connect { .. }
            | UpstreamError::ConnectTimeout { .. }
            | UpstreamError::Handshake { .. } => {
                metrics.connect_failed.inc();
                if !self.endpoint.is_avoided(self.began) {
                    tracing::warn!(endpoint = %self.endpoint.target(), %error, "endpoint avoided for a short time");
                }
                self.endpoint.unreachable(Instant::now());
            }
            UpstreamError::Closed { .. } => metrics.closed.inc(),
            UpstreamError::InvalidAnswer { .. } => metrics.invalid.inc(),
            UpstreamError::RequestBody { .. } => metrics.given_up.inc(),
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end();
            self.endpoint.used().metrics.given_up.inc();
        }
    }
}
