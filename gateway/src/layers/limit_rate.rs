//! Bounds how often a client has a model.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use tower::{Layer, Service, layer::layer_fn};

use crate::access::{Access, Standing};
use crate::error::GatewayError;
use crate::layers::Decided;
use crate::layers::resolve_model::RoutedCall;

/// Counts a call, and tells its client how it stands.
#[derive(Clone, Debug)]
pub(crate) struct LimitRate<S> {
    inner: S,
    access: Arc<Access>,
}

pub(crate) fn layer<S>(access: Arc<Access>) -> impl Layer<S, Service = LimitRate<S>> + Clone {
    layer_fn(move |inner| LimitRate {
        inner,
        access: Arc::clone(&access),
    })
}

impl<S, B> Service<RoutedCall> for LimitRate<S>
where
    S: Service<RoutedCall, Response = Response<B>, Error = GatewayError>,
{
    type Response = Response<B>;
    type Error = GatewayError;
    type Future = Decided<Result<Response<B>, GatewayError>, Counted<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, routed: RoutedCall) -> Self::Future {
        match self.access.count(&routed.call, &routed.route.model) {
            Ok(standing) => Decided::Inner {
                future: Counted {
                    inner: self.inner.call(routed),
                    standing,
                },
            },
            Err(error) => Decided::now(Err(error)),
        }
    }
}

pin_project! {
    pub(crate) struct Counted<F> {
        #[pin]
        inner: F,
        standing: Option<Standing>,
    }
}

impl<F, B> Future for Counted<F>
where
    F: Future<Output = Result<Response<B>, GatewayError>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(context))?;
        if let Some(standing) = this.standing {
            standing.write(response.headers_mut());
        }
        Poll::Ready(Ok(response))
    }
}
