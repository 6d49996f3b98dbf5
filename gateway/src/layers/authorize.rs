//! Lets a call have its model, or not.

use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service, layer::layer_fn};

use crate::access::Access;
use crate::error::GatewayError;
use crate::layers::Decided;
use crate::layers::resolve_model::RoutedCall;

/// Asks the policy about the route's model.
#[derive(Clone, Debug)]
pub(crate) struct Authorize<S> {
    inner: S,
    access: Arc<Access>,
}

pub(crate) fn layer<S>(access: Arc<Access>) -> impl Layer<S, Service = Authorize<S>> + Clone {
    layer_fn(move |inner| Authorize {
        inner,
        access: Arc::clone(&access),
    })
}

impl<S, R> Service<RoutedCall> for Authorize<S>
where
    S: Service<RoutedCall, Response = R, Error = GatewayError>,
{
    type Response = R;
    type Error = GatewayError;
    type Future = Decided<Result<R, GatewayError>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, routed: RoutedCall) -> Self::Future {
        match self.access.authorize(&routed.call, &routed.route.model) {
            Ok(()) => Decided::Inner {
                future: self.inner.call(routed),
            },
            Err(error) => Decided::now(Err(error)),
        }
    }
}
