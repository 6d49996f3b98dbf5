//! Finds out who asks.

use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service, layer::layer_fn};

use crate::access::Access;
use crate::call::Call;
use crate::error::GatewayError;
use crate::layers::Decided;

/// Gives a call its principal, or refuses a credential that is not good. Nothing of the body is read.
#[derive(Clone, Debug)]
pub(crate) struct Authenticate<S> {
    inner: S,
    access: Arc<Access>,
}

pub(crate) fn layer<S>(access: Arc<Access>) -> impl Layer<S, Service = Authenticate<S>> + Clone {
    layer_fn(move |inner| Authenticate {
        inner,
        access: Arc::clone(&access),
    })
}

impl<S, R> Service<Call> for Authenticate<S>
where
    S: Service<Call, Response = R, Error = GatewayError>,
{
    type Response = R;
    type Error = GatewayError;
    type Future = Decided<Result<R, GatewayError>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        match self.access.identify(&mut call) {
            Ok(()) => {
                if let (Some(trail), Some(principal)) = (call.ledger.trail.get(), &call.principal) {
                    trail.asked_by(principal);
                }
                Decided::Inner {
                    future: self.inner.call(call),
                }
            }
            Err(error) => Decided::now(Err(error)),
        }
    }
}
