//! Turns failures into answers: the only place where one becomes the other.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Response, Version};
use http_body_util::Either;
use pin_project_lite::pin_project;
use tower::{Layer, Service, layer::layer_fn};

use crate::call::{Call, Family, Ledger};
use crate::error::{GatewayError, status};
use plumbline_service::WholeBody;

/// Answers a failure in the client's own protocol.
#[derive(Clone, Debug)]
pub(crate) struct RespondToErrors<S> {
    inner: S,
}

pub(crate) fn layer<S>() -> impl Layer<S, Service = RespondToErrors<S>> + Clone {
    layer_fn(|inner| RespondToErrors { inner })
}

impl<S, B> Service<Call> for RespondToErrors<S>
where
    S: Service<Call, Response = Response<B>, Error = GatewayError>,
{
    type Response = Response<Either<WholeBody, B>>;
    type Error = Infallible;
    type Future = Responded<S::Future>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Every layer below is always ready: what cannot be taken is refused by name, when it is called.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let logged = call.ledger.trail.get().is_some();
        Responded {
            ledger: logged.then(|| Arc::clone(&call.ledger)),
            family: call.family,
            version: call.request.version(),
            inner: self.inner.call(call),
        }
    }
}

pin_project! {
    pub(crate) struct Responded<F> {
        // Of a request that may come to be in the access log.
        ledger: Option<Arc<Ledger>>,
        family: Family,
        version: Version,
        #[pin]
        inner: F,
    }
}

impl<F, B> Future for Responded<F>
where
    F: Future<Output = Result<Response<B>, GatewayError>>,
{
    type Output = Result<Response<Either<WholeBody, B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match ready!(this.inner.poll(context)) {
            Ok(response) => response.map(Either::Right),
            Err(error) => {
                log(&error);
                if let Some(trail) = this.ledger.as_ref().and_then(|ledger| ledger.trail.get()) {
                    trail.refused(&error);
                }
                let response = match *this.family {
                    Family::Grpc => error.to_grpc(*this.version),
                    Family::V1 | Family::V2 | Family::Other => error.to_rest(*this.version),
                };
                response.map(Either::Left)
            }
        };
        Poll::Ready(Ok(response))
    }
}

/// Per request, so at a level for those who ask: the endpoint's change of state is logged where it is noticed.
fn log(error: &GatewayError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::debug!(%error, cause, code = status(error).code, "request failed");
}
