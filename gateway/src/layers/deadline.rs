//! Ends what takes too long, and tells the endpoint how long it has.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use plumbline_inference_protocol::grpc;
use plumbline_service::REQUEST_TIMEOUT;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::{Layer, Service, layer::layer_fn};

use crate::body::BoxError;
use crate::call::Family;
use crate::error::{GatewayError, status, write_grpc_status};
use crate::layers::Decided;
use crate::layers::check_head::GRPC_TIMEOUT;
use crate::layers::resolve_model::{Kind, RoutedCall};

/// Gives a call the client's time, or its route's; what is left of it goes to the endpoint in `grpc-timeout` or
/// `x-request-timeout`. When it has passed, the endpoint's work is given up.
#[derive(Clone, Debug)]
pub(crate) struct Deadline<S> {
    inner: S,
}

pub(crate) fn layer<S>() -> impl Layer<S, Service = Deadline<S>> + Clone {
    layer_fn(|inner| Deadline { inner })
}

impl<S, B> Service<RoutedCall> for Deadline<S>
where
    S: Service<RoutedCall, Response = Response<B>, Error = GatewayError>,
{
    type Response = Response<TimedBody<B>>;
    type Error = GatewayError;
    type Future = Decided<Result<Self::Response, GatewayError>, Timed<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut routed: RoutedCall) -> Self::Future {
        let call = &mut routed.call;
        // A stream without a deadline of its own may go on.
        let default = (routed.kind != Kind::Stream).then_some(routed.route.spec.timeout);
        let limit = call.client_timeout.or(default).map(|after| Limit {
            at: call.ledger.arrived + after,
            after,
        });
        if let Some(limit) = limit {
            let left = limit.at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Decided::now(Err(limit.passed()));
            }
            let _set_once = call.ledger.deadline.set(limit.at);
            tell(call.request.headers_mut(), call.family, left);
        }
        let family = call.family;
        Decided::Inner {
            future: Timed {
                inner: self.inner.call(routed),
                sleep: limit.map(|limit| sleep_until(limit.at)),
                limit,
                family,
            },
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    at: Instant,
    after: Duration,
}

impl Limit {
    fn passed(self) -> GatewayError {
        GatewayError::DeadlineExceeded { after: self.after }
    }
}

/// Tells an endpoint that `left` is left to answer.
pub(crate) fn tell(headers: &mut HeaderMap, family: Family, left: Duration) {
    let (name, value) = match family {
        Family::Grpc => (GRPC_TIMEOUT, grpc::format_timeout(left)),
        // At least 1 ms: rounded down to 0 it would be refused unread.
        Family::V1 | Family::V2 | Family::Other => {
            let milliseconds = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            (REQUEST_TIMEOUT, format!("{}ms", milliseconds.max(1)))
        }
    };
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(name, value);
    }
}

pin_project! {
    /// Waits for the answer's head or the deadline.
    pub(crate) struct Timed<F> {
        #[pin]
        inner: F,
        #[pin]
        sleep: Option<Sleep>,
        limit: Option<Limit>,
        family: Family,
    }
}

impl<F, B> Future for Timed<F>
where
    F: Future<Output = Result<Response<B>, GatewayError>>,
{
    type Output = Result<Response<TimedBody<B>>, GatewayError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(outcome) = this.inner.poll(context) {
            let (limit, family) = (*this.limit, *this.family);
            let timed = |body| TimedBody {
                body,
                limit,
                sleep: None,
                family,
                ended: false,
            };
            return Poll::Ready(outcome.map(|response| response.map(timed)));
        }
        if let (Some(sleep), Some(limit)) = (this.sleep.as_pin_mut(), this.limit) {
            ready!(sleep.poll(context));
            return Poll::Ready(Err(limit.passed()));
        }
        Poll::Pending
    }
}

pin_project! {
    /// An answer that ends at the deadline: with a status for gRPC, broken off for REST.
    pub(crate) struct TimedBody<B> {
        #[pin]
        body: B,
        limit: Option<Limit>,
        // Made when the body is waited for: most answers are there when they are asked for.
        #[pin]
        sleep: Option<Sleep>,
        family: Family,
        ended: bool,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the deadline passed in the middle of the answer")]
struct DeadlinePassed;

impl<B> Body for TimedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = this.body.poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(limit) = *this.limit else {
            return Poll::Pending;
        };
        if this.sleep.is_none() {
            this.sleep.set(Some(sleep_until(limit.at)));
        }
        if let Some(sleep) = this.sleep.as_pin_mut() {
            ready!(sleep.poll(context));
        }
        *this.ended = true;
        Poll::Ready(Some(match this.family {
            Family::Grpc => {
                let (error, mut trailers) = (limit.passed(), HeaderMap::new());
                write_grpc_status(&mut trailers, status(&error).grpc, &error.to_string());
                Ok(Frame::trailers(trailers))
            }
            Family::V1 | Family::V2 | Family::Other => Err(Box::new(DeadlinePassed)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
