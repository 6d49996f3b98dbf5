//! Requests that are not recorded cost no allocation.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use plumbline_service::TRACEPARENT;
use plumbline_service::traces::{TraceRequests, Tracer};
use plumbline_testkit::allocations::{Counting, so_far};
use tower::Service as _;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn without_a_collector_nothing_is_allocated() {
    let tracer = Tracer::default();
    let caller = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let mut headers = HeaderMap::from_iter([(TRACEPARENT, caller)]);
    let inner = tower::service_fn(|_: Request<()>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(
            b"done",
        )))))
    });
    let mut service = TraceRequests::new(inner, tracer.clone());
    let request = Request::new(());
    let mut context = Context::from_waker(Waker::noop());
    let before = so_far();
    assert!(tracer.begin(&mut headers).is_none());
    let Poll::Ready(Ok(answer)) = pin!(service.call(request)).poll(&mut context) else {
        panic!("the service answers at once");
    };
    let mut body = pin!(answer.into_body());
    assert!(body.as_mut().poll_frame(&mut context).is_ready() && body.is_end_stream());
    assert_eq!(so_far() - before, 0);
}
