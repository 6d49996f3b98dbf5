//! Tells HTTP/1.1 clients, from the beginning of a shutdown on, that their connection is at its end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use pin_project_lite::pin_project;
use tower::Service;

use crate::Shutdown;

/// Adds `Connection: close` to answers once shutdown has begun, so that clients are gone before the port closes:
/// closing an idle connection races with its next request. HTTP/2 has GOAWAY.
#[derive(Clone, Debug)]
pub(super) struct Closing<S> {
    inner: S,
    /// Of this connection alone: cloning a [`Shutdown`] for each request takes the locks that all connections share.
    shutdown: Arc<Shutdown>,
}

impl<S> Closing<S> {
    pub(super) fn new(inner: S, shutdown: Shutdown) -> Self {
        Self {
            inner,
            shutdown: Arc::new(shutdown),
        }
    }
}

impl<S, A, B> Service<Request<A>> for Closing<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let may_end = request.version() < Version::HTTP_2;
        Answering {
            answer: self.inner.call(request),
            shutdown: may_end.then(|| Arc::clone(&self.shutdown)),
        }
    }
}

pin_project! {
    /// An answer on its way.
    pub(super) struct Answering<F> {
        #[pin]
        answer: F,
        // Of HTTP/1.1 connections.
        shutdown: Option<Arc<Shutdown>>,
    }
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = ready!(this.answer.poll(context));
        if let (Ok(answer), Some(shutdown)) = (&mut answer, this.shutdown)
            && shutdown.has_begun()
        {
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Readiness;

    #[tokio::test]
    async fn only_http1_answers_of_a_shutdown_end_their_connection() {
        let shutdown = Shutdown::new(Readiness::default(), Duration::from_secs(5), Duration::ZERO);
        let inner = tower::service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
        let mut closing = Closing::new(inner, shutdown.clone());
        let mut ends = async |version| {
            let mut request = Request::new(());
            *request.version_mut() = version;
            let answer = closing.call(request).await.expect("infallible");
            answer.headers().contains_key(CONNECTION)
        };
        assert!(!ends(Version::HTTP_11).await);
        shutdown.begin_now();
        assert!(ends(Version::HTTP_11).await);
        assert!(!ends(Version::HTTP_2).await);
    }
}
