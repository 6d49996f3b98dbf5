//! Deadlines, shedding, sizes.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Full};
use plumbline_service::config::ByteSize;

use crate::support::*;

fn with_timeout(timeout: &'static str) -> Request<Full<Bytes>> {
    let mut request = infer("churn");
    request
        .headers_mut()
        .insert("x-request-timeout", HeaderValue::from_static(timeout));
    request
}

fn grpc_with_timeout(timeout: &'static str) -> Request<Full<Bytes>> {
    let mut request = grpc_infer("churn");
    request
        .headers_mut()
        .insert("grpc-timeout", HeaderValue::from_static(timeout));
    request
}

#[tokio::test]
async fn a_deadline_ends_a_request_and_the_endpoints_work() {
    let predictor = FakePredictor::holding(Reply::echo).await;
    let gateway = TestGateway::before(&predictor);
    let answer = gateway.send(with_timeout("200ms")).await;
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(
        error_of(answer).await,
        "the request's deadline of 200ms has passed"
    );
    predictor.aborted(1).await;
    let answer = gateway.grpc(grpc_with_timeout("200m")).await;
    assert_eq!(answer.status(), "4", "{}", answer.message());
    predictor.aborted(2).await;
}

#[tokio::test]
async fn a_routes_timeout_holds_where_the_client_sets_none() {
    let predictor = FakePredictor::holding(Reply::echo).await;
    let mut route = churn(&[predictor.url()]);
    route.timeout = Duration::from_millis(40);
    let gateway = TestGateway::start(vec![route], |_| {});
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(gateway.grpc(grpc_infer("churn")).await.status(), "4");
}

#[tokio::test]
async fn what_is_left_of_the_deadline_goes_to_the_endpoint() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::before(&predictor);
    gateway.send(with_timeout("5")).await;
    gateway.infer("churn").await;
    gateway.grpc(grpc_with_timeout("5S")).await;
    let requests = predictor.received(3).await;
    let left = |index: usize| -> u64 {
        let text = requests[index].header("x-request-timeout");
        text.strip_suffix("ms")
            .and_then(|text| text.parse().ok())
            .expect("milliseconds")
    };
    assert!((4_000..=5_000).contains(&left(0)), "{}", left(0));
    assert!((29_000..=30_000).contains(&left(1)), "{}", left(1));
    let grpc = requests[2].header("grpc-timeout");
    let grpc = plumbline_inference_protocol::grpc::parse_timeout(grpc.as_bytes()).expect("a timeout");
    assert!(
        grpc < Duration::from_secs(5) && grpc > Duration::from_secs(4),
        "{grpc:?}"
    );
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_refused_unsent_and_a_malformed_one_too() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::before(&predictor);
    assert_eq!(
        gateway.send(with_timeout("0s")).await.status(),
        StatusCode::GATEWAY_TIMEOUT
    );
    assert_eq!(gateway.grpc(grpc_with_timeout("0m")).await.status(), "4");
    let answer = gateway.send(with_timeout("soon")).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(error_of(answer).await.contains("x-request-timeout"));
    assert_eq!(
        gateway.grpc(grpc_with_timeout("999999999999S")).await.status(),
        "3"
    );
    assert_eq!(predictor.received_so_far(), 0);
}

#[tokio::test]
async fn a_deadline_in_the_middle_of_an_answer_ends_it_with_a_status_or_an_abort() {
    let predictor = FakePredictor::streaming_echo().await;
    let gateway = TestGateway::before(&predictor);
    let (mut frames, body) = Channel::<Bytes, std::io::Error>::new(4);
    let request = Request::post("http://gateway/inference.GRPCInferenceService/ModelStreamInfer")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "300m")
        .body(body)
        .expect("a request");
    frames.send_data(model_infer("churn")).await.expect("taken");
    let answer = gateway
        .http2()
        .await
        .send_request(request)
        .await
        .expect("an answer");
    let answer = Grpc::of(answer).await;
    assert_eq!((answer.status(), &answer.body), ("4", &model_infer("churn")));
    predictor.aborted(1).await;

    let (mut frames, body) = Channel::<Bytes, std::io::Error>::new(4);
    let request = Request::post("/v2/models/churn/infer")
        .header("host", "gateway")
        .header("x-request-timeout", "300ms")
        .body(body)
        .expect("a request");
    frames
        .send_data(Bytes::from_static(b"first"))
        .await
        .expect("taken");
    let answer = gateway
        .http1()
        .await
        .send_request(request)
        .await
        .expect("an answer");
    assert!(answer.into_body().collect().await.is_err());
    predictor.aborted(2).await;
}

#[tokio::test]
async fn a_client_that_sends_a_head_and_no_message_is_given_up() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::before(&predictor);
    let (_frames, body) = Channel::<Bytes, std::io::Error>::new(1);
    let request = Request::post("http://gateway/inference.GRPCInferenceService/ModelInfer")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "40m")
        .body(body)
        .expect("a request");
    let answer = gateway
        .http2()
        .await
        .send_request(request)
        .await
        .expect("an answer");
    assert_eq!(Grpc::of(answer).await.status(), "4");
}

#[tokio::test]
async fn a_full_gateway_sheds_instead_of_queueing_and_is_still_alive() {
    let predictor = FakePredictor::holding(Reply::echo).await;
    let gateway = TestGateway::start(vec![churn(&[predictor.url()])], |config| {
        config.max_in_flight = NonZeroUsize::new(1).expect("not zero");
    });
    let first = gateway.spawn_infer().await;
    predictor.received(1).await;
    let answer = gateway.infer("churn").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(error_of(answer).await, "1 requests are in flight already");
    assert_eq!(gateway.grpc(grpc_infer("churn")).await.status(), "14");
    assert_eq!(
        gateway.send(get("/v2/health/ready")).await.status(),
        StatusCode::OK
    );
    predictor.release();
    assert_eq!(first.await.expect("the task ends").0, StatusCode::OK);
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    let metrics = gateway.admin("/metrics").await;
    assert!(
        metrics.contains("plumbline_gateway_shed_total{reason=\"max_in_flight\"} 2"),
        "{metrics}"
    );
    assert!(metrics.contains("plumbline_gateway_in_flight 0"), "{metrics}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_or_while_it_is_sent() {
    let predictor = FakePredictor::echo().await;
    let mut route = churn(&[predictor.url()]);
    route.max_body = ByteSize(100);
    let gateway = TestGateway::start(vec![route], |_| {});
    let large: &'static str = Box::leak("x".repeat(101).into_boxed_str());
    let answer = gateway.send(post("/v2/models/churn/infer", large)).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        error_of(answer).await,
        "the request's body is larger than 100 bytes"
    );

    let (mut frames, body) = Channel::<Bytes, std::io::Error>::new(4);
    let request = Request::post("/v2/models/churn/infer")
        .header("host", "gateway")
        .body(body)
        .expect("a request");
    for _ in 0..3 {
        frames
            .send_data(Bytes::from_static(&[b'x'; 40]))
            .await
            .expect("taken");
    }
    let answer = gateway
        .http1()
        .await
        .send_request(request)
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);

    // 64 bytes of tensor, and 5 + 2 + 5 + 2 around them, fit; the limit is on the message without its frame.
    assert_eq!(gateway.grpc(grpc_infer("churn")).await.body, model_infer("churn"));
    let name = "churn";
    let mut larger = model_infer(name).slice(5..).to_vec();
    larger.extend_from_slice(&[0x2a, 100]);
    larger.extend_from_slice(&[0; 100]);
    let request = grpc_request("inference.GRPCInferenceService/ModelInfer", grpc_message(&larger));
    let answer = gateway.grpc(request).await;
    assert_eq!(answer.status(), "8", "{}", answer.message());
    assert!(answer.message().contains("100 bytes"), "{}", answer.message());
    assert_eq!(predictor.received_so_far(), 1);
}

#[tokio::test]
async fn a_long_stream_of_small_messages_is_not_too_large() {
    let predictor = FakePredictor::echo().await;
    let mut route = churn(&[predictor.url()]);
    route.max_body = ByteSize(100);
    let gateway = TestGateway::start(vec![route], |_| {});
    let body: Vec<u8> = std::iter::repeat_n(model_infer("churn"), 50).flatten().collect();
    let request = grpc_request("inference.GRPCInferenceService/ModelStreamInfer", body.into());
    assert_eq!(
        gateway.grpc(request).await.body.len(),
        50 * model_infer("churn").len()
    );
}
