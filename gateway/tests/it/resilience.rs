//! Balancing, retries, cancellation, drain.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::channel::Channel;

use crate::support::*;

#[tokio::test]
async fn waiting_requests_make_an_endpoint_less_attractive() {
    let slow = FakePredictor::holding(Reply::echo).await;
    let fast = FakePredictor::echo().await;
    let gateway = TestGateway::start(vec![churn(&[slow.url(), fast.url()])], |_| {});
    // Until one of them waits at the slow endpoint.
    let mut waiting = None;
    for _ in 0..1_000 {
        if waiting.is_some() {
            break;
        }
        let request = gateway.spawn_infer().await;
        tokio::select! {
            () = slow.started(1) => waiting = Some(request),
            _ = fast.received(fast.received_so_far() + 1) => {
                assert_eq!(request.await.expect("the task ends").0, StatusCode::OK);
            }
        }
    }
    // An endpoint without an answer yet, where one request waits, costs a second; the other less.
    let before = fast.received_so_far();
    for _ in 0..50 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    assert_eq!(fast.received_so_far() - before, 50);
    assert_eq!(slow.received_so_far(), 1);
    slow.release();
    assert_eq!(
        waiting.expect("one waits").await.expect("the task ends").0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_costs_no_request() {
    let down = RefusingPort::new();
    let up = FakePredictor::echo().await;
    let gateway = TestGateway::start(vec![churn(&[down.url(), up.url()])], |_| {});
    for _ in 0..20 {
        let answer = gateway.infer("churn").await;
        assert_eq!(
            (answer.status(), text(answer).await.as_str()),
            (StatusCode::OK, ROW)
        );
        assert_eq!(gateway.grpc(grpc_infer("churn")).await.body, model_infer("churn"));
    }
    assert_eq!(up.received_so_far(), 40);
}

#[tokio::test]
async fn the_last_endpoint_is_always_tried_and_its_failure_told() {
    let down = RefusingPort::new();
    let gateway = TestGateway::start(vec![churn(&[down.url()])], |_| {});
    for _ in 0..2 {
        let answer = gateway.infer("churn").await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(
            error_of(answer).await,
            "no endpoint of model `churn` can be reached"
        );
        assert_eq!(gateway.grpc(grpc_infer("churn")).await.status(), "14");
    }
    let routes: serde_json::Value = serde_json::from_str(&gateway.admin("/routes").await).expect("JSON");
    assert_eq!(
        routes["routes"][0]["revisions"][0]["endpoints"][0]["state"]["ejected"]["cause"],
        "unreachable"
    );
}

#[tokio::test]
async fn pooled_connections_that_closed_while_idle_cost_no_request() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::before(&predictor);
    for _ in 0..3 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
        assert_eq!(gateway.grpc(grpc_infer("churn")).await.body, model_infer("churn"));
        predictor.drop_connections().await;
    }
    assert_eq!(predictor.received(6).await.len(), 6);
    assert_eq!(predictor.accepted(), 6);
}

#[tokio::test]
async fn a_predictor_that_restarts_is_found_again() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::before(&predictor);
    assert_eq!(gateway.grpc(grpc_infer("churn")).await.body, model_infer("churn"));
    let address = predictor.stop().await;
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::BAD_GATEWAY);
    let _restarted = FakePredictor::answering_on(address, Reply::echo);
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    assert_eq!(gateway.grpc(grpc_infer("churn")).await.body, model_infer("churn"));
}

#[tokio::test]
async fn a_request_that_may_have_been_processed_is_not_sent_twice() {
    let predictors = [
        FakePredictor::answering(|_| Reply::json("{}").cut(Cut::BeforeHead)).await,
        FakePredictor::answering(|_| Reply::json("{}").cut(Cut::BeforeHead)).await,
    ];
    let urls: Vec<String> = predictors.iter().map(FakePredictor::url).collect();
    let gateway = TestGateway::start(vec![churn(&urls)], |_| {});
    let answer = gateway.infer("churn").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(
        error_of(answer).await,
        "the endpoint of model `churn` closed before it answered"
    );
    assert_eq!(gateway.grpc(grpc_infer("churn")).await.status(), "14");
    let received: usize = predictors.iter().map(FakePredictor::received_so_far).sum();
    assert_eq!(received, 2, "each of two requests once");
}

#[tokio::test]
async fn a_read_that_meets_a_closing_connection_is_sent_again() {
    // The first request on a connection is answered, the second finds it closed: a keep-alive race.
    let predictor = FakePredictor::answering(|request| {
        if request.sequence == 0 {
            Reply::echo(request)
        } else {
            Reply::echo(request).cut(Cut::BeforeHead)
        }
    })
    .await;
    let gateway = TestGateway::before(&predictor);
    for _ in 0..3 {
        assert_eq!(
            gateway.send(get("/v2/models/churn/ready")).await.status(),
            StatusCode::OK
        );
    }
    // The same for a POST, whose bytes may have been acted on.
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_complete() {
    let predictor = FakePredictor::answering(|_| Reply::json("0123456789").cut(Cut::MidBody)).await;
    let gateway = TestGateway::before(&predictor);
    let answer = gateway.infer("churn").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(
        http_body_util::BodyExt::collect(answer.into_body())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_endpoints_work() {
    let predictor = FakePredictor::holding(Reply::echo).await;
    let gateway = TestGateway::before(&predictor);
    let over_http1 = gateway.spawn_infer().await;
    predictor.received(1).await;
    over_http1.abort();
    predictor.aborted(1).await;
    let mut client = gateway.http2().await;
    let over_http2 = tokio::spawn(async move { client.send_request(grpc_infer("churn")).await.is_ok() });
    predictor.received(2).await;
    over_http2.abort();
    predictor.aborted(2).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_body_ends_the_endpoints_work() {
    let predictor = FakePredictor::streaming_echo().await;
    let gateway = TestGateway::before(&predictor);
    let (mut frames, body) = Channel::<Bytes, std::io::Error>::new(1);
    let request = Request::post("/v2/models/churn/infer")
        .header("host", "gateway")
        .body(body)
        .expect("a request");
    let mut client = gateway.http1().await;
    let answer = tokio::spawn(async move { client.send_request(request).await });
    frames
        .send_data(Bytes::from_static(b"half"))
        .await
        .expect("taken");
    predictor.started(1).await;
    answer.abort();
    frames.abort(std::io::Error::other("gone"));
    predictor.aborted(1).await;
}

#[tokio::test]
async fn draining_finishes_what_was_accepted_and_says_so() {
    let predictor = FakePredictor::holding(Reply::echo).await;
    let gateway = TestGateway::before(&predictor);
    let mut requests = Vec::new();
    for _ in 0..8 {
        requests.push(gateway.spawn_infer().await);
    }
    let mut client = gateway.http2().await;
    let grpc = tokio::spawn(async move {
        Grpc::of(client.send_request(grpc_infer("churn")).await.expect("an answer")).await
    });
    predictor.received(9).await;
    assert!(gateway.readiness().is_ready());
    gateway.begin_shutdown();
    assert!(!gateway.readiness().is_ready());
    predictor.release();
    for request in requests {
        let (status, body) = request.await.expect("the task ends");
        assert_eq!((status, body.as_str()), (StatusCode::OK, ROW));
    }
    assert_eq!(grpc.await.expect("the task ends").body, model_infer("churn"));
    gateway.drained().await;
}

#[tokio::test]
async fn a_gateway_drained_under_load_loses_nothing_that_it_accepted() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::start(vec![churn(&[predictor.url()])], |config| {
        // In this time, each client hears that its connection is at its end.
        config.common.drain_delay = Duration::from_secs(1);
    });
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = gateway.http1().await;
        clients.push(tokio::spawn(async move {
            let mut answered = 0_usize;
            // Until the gateway says that this connection is at its end.
            loop {
                let answer = client.send_request(infer("churn")).await.expect("an answer");
                assert_eq!(answer.status(), StatusCode::OK);
                let closing = answer
                    .headers()
                    .get("connection")
                    .is_some_and(|value| value == "close");
                assert_eq!(text(answer).await, ROW);
                answered += 1;
                if closing {
                    return answered;
                }
            }
        }));
    }
    predictor.received(200).await;
    let shutdown = gateway.shutdown();
    let leaving = tokio::spawn(async move { shutdown.begin().await });
    let mut answered = 0;
    for client in clients {
        answered += tokio::time::timeout(Duration::from_secs(30), client)
            .await
            .expect("the gateway ends its connections")
            .expect("no request failed");
    }
    leaving.await.expect("the task ends");
    gateway.drained().await;
    assert_eq!(
        answered,
        predictor.received_so_far(),
        "each request that reached the endpoint was answered"
    );
}
