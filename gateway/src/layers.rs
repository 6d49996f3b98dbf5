//! The layers of the stack, each in its own file; `stack` says in which order and why.

pub(crate) mod answer_server;
pub(crate) mod authenticate;
pub(crate) mod authorize;
pub(crate) mod check_head;
pub(crate) mod deadline;
pub(crate) mod identify;
pub(crate) mod limit_concurrency;
pub(crate) mod limit_rate;
pub(crate) mod record;
pub(crate) mod resolve_model;
pub(crate) mod respond_to_errors;
pub(crate) mod speak_cors;
pub(crate) mod speak_grpc_web;

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

pin_project! {
    /// What a layer that may refuse returns: its own answer at once, or the inner service's.
    #[project = DecidedProjection]
    pub(crate) enum Decided<T, F> {
        Now { outcome: Option<T> },
        Inner { #[pin] future: F },
    }
}

impl<T, F> Decided<T, F> {
    pub(crate) fn now(outcome: T) -> Self {
        Self::Now {
            outcome: Some(outcome),
        }
    }
}

impl<T, F: Future<Output = T>> Future for Decided<T, F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.project() {
            DecidedProjection::Now { outcome } => Poll::Ready(outcome.take().expect("polled once")),
            DecidedProjection::Inner { future } => future.poll(context),
        }
    }
}

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
