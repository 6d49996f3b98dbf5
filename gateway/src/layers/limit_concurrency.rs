//! A full gateway refuses instead of queueing.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service, layer::layer_fn};

use crate::body::Guarded;
use crate::error::GatewayError;
use crate::layers::Decided;

/// Admits up to a number of requests at once; the permit of one lasts until its answer's body has ended.
#[derive(Clone, Debug)]
pub(crate) struct LimitConcurrency<S> {
    inner: S,
    limit: NonZeroUsize,
    permits: Arc<Semaphore>,
    in_flight: IntGauge,
    shed: IntCounter,
}

pub(crate) fn layer<S>(
    limit: NonZeroUsize,
    in_flight: IntGauge,
    shed: IntCounter,
) -> impl Layer<S, Service = LimitConcurrency<S>> + Clone {
    let permits = Arc::new(Semaphore::new(limit.get().min(Semaphore::MAX_PERMITS)));
    layer_fn(move |inner| LimitConcurrency {
        inner,
        limit,
        permits: Arc::clone(&permits),
        in_flight: in_flight.clone(),
        shed: shed.clone(),
    })
}

/// One admitted request.
pub(crate) struct Permit {
    _permit: OwnedSemaphorePermit,
    in_flight: IntGauge,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

impl<S, R, B> Service<R> for LimitConcurrency<S>
where
    S: Service<R, Response = Response<B>, Error = GatewayError>,
{
    type Response = Response<Guarded<B, Permit>>;
    type Error = GatewayError;
    type Future = Decided<Result<Self::Response, GatewayError>, Admitted<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.shed.inc();
            let limit = self.limit.get();
            return Decided::now(Err(GatewayError::Overloaded { limit }));
        };
        self.in_flight.inc();
        let permit = Permit {
            _permit: permit,
            in_flight: self.in_flight.clone(),
        };
        Decided::Inner {
            future: Admitted {
                inner: self.inner.call(request),
                permit: Some(permit),
            },
        }
    }
}

pin_project! {
    pub(crate) struct Admitted<F> {
        #[pin]
        inner: F,
        permit: Option<Permit>,
    }
}

impl<F, B> Future for Admitted<F>
where
    F: Future<Output = Result<Response<B>, GatewayError>>,
{
    type Output = Result<Response<Guarded<B, Permit>>, GatewayError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(context))?;
        let permit = this.permit.take().expect("polled once after it is ready");
        Poll::Ready(Ok(response.map(|body| Guarded::new(body, permit))))
    }
}

#[cfg(test)]
mod tests {
    use plumbline_service::metrics::Metrics as Registry;
    use tower::ServiceExt as _;

    use super::*;
    use crate::metrics::Metrics;
    use plumbline_service::WholeBody;

    #[tokio::test]
    async fn a_permit_lasts_until_the_body_is_dropped() {
        let metrics = Metrics::declare(&Registry::default());
        let (in_flight, shed) = (metrics.in_flight.clone(), metrics.shed_max_in_flight.clone());
        let limit = NonZeroUsize::new(1).expect("not zero");
        let inner =
            tower::service_fn(|()| async { Ok::<_, GatewayError>(Response::new(WholeBody::new("body"))) });
        let service = layer(limit, in_flight.clone(), shed.clone()).layer(inner);
        let first = service.clone().oneshot(()).await.expect("admitted");
        assert_eq!(in_flight.get(), 1);
        let refused = service.clone().oneshot(()).await.err().expect("refused");
        assert!(matches!(refused, GatewayError::Overloaded { limit: 1 }));
        assert_eq!(shed.get(), 1);
        drop(first);
        assert_eq!(in_flight.get(), 0);
        assert!(service.oneshot(()).await.is_ok());
    }
}
