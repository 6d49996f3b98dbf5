//! Retries, hedging, ejection, the adaptive limit and holding, over real sockets.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use plumbline_gateway::{ConcurrencySpec, HedgeAfter, ProtectionSpec, RouteSpec};
use plumbline_inference_protocol::grpc;
use plumbline_testkit::predictor::Received;
use std::time::Duration;
use tokio::net::TcpListener;

use crate::support::*;

fn protected(predictors: &[&FakePredictor], protection: ProtectionSpec) -> RouteSpec {
    let urls: Vec<String> = predictors.iter().map(|predictor| predictor.url()).collect();
    RouteSpec {
        protection,
        ..churn(&urls)
    }
}

fn idempotent() -> ProtectionSpec {
    ProtectionSpec {
        idempotent: true,
        slow_start: Duration::ZERO,
        ..ProtectionSpec::default()
    }
}

fn unavailable(_request: &Received) -> Reply {
    Reply::status(StatusCode::SERVICE_UNAVAILABLE)
}

/// One more request on a connection that is there already.
async fn infer_on(client: &mut SendRequest<Full<Bytes>>) -> Response<Incoming> {
    client.send_request(infer("churn")).await.expect("an answer")
}

async fn metrics(gateway: &TestGateway) -> String {
    gateway.admin("/metrics").await
}

/// The state of endpoint `index`, as `/routes` has it.
async fn state(gateway: &TestGateway, index: usize) -> serde_json::Value {
    let routes: serde_json::Value = serde_json::from_str(&gateway.admin("/routes").await).expect("JSON");
    routes["routes"][0]["revisions"][0]["endpoints"][index]["state"].clone()
}

#[tokio::test]
async fn an_idempotent_route_hides_an_endpoint_that_cannot() {
    for (status, http) in [(502, true), (503, true), (504, true), (0, false)] {
        let ill = FakePredictor::answering(move |_| match StatusCode::from_u16(status) {
            Ok(status) => Reply::status(status),
            Err(_) => Reply::grpc_error(14, "not now"),
        })
        .await;
        let well = FakePredictor::echo().await;
        let gateway = TestGateway::start(vec![protected(&[&ill, &well], idempotent())], |_| {});
        while ill.received_so_far() == 0 {
            if http {
                let answer = gateway.infer("churn").await;
                assert_eq!(answer.status(), StatusCode::OK);
                assert_eq!(text(answer).await, ROW);
            } else {
                assert_eq!(gateway.grpc(grpc_infer("churn")).await.body, model_infer("churn"));
            }
        }
        let retried = r#"plumbline_gateway_retries_total{model="churn",outcome="sent"} 1"#;
        assert!(metrics(&gateway).await.contains(retried));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_retried_only_where_that_does_no_harm() {
    for (protection, expected) in [
        (idempotent(), StatusCode::OK),
        (ProtectionSpec::default(), StatusCode::BAD_GATEWAY),
    ] {
        let ill = FakePredictor::answering(|_| Reply::json("{}").cut(Cut::BeforeHead)).await;
        let well = FakePredictor::echo().await;
        let gateway = TestGateway::start(vec![protected(&[&ill, &well], protection)], |_| {});
        let mut last = StatusCode::OK;
        while ill.received_so_far() == 0 {
            last = gateway.infer("churn").await.status();
        }
        assert_eq!(last, expected);
    }
}

#[tokio::test]
async fn a_body_too_large_to_keep_is_not_sent_again() {
    let ill = [
        FakePredictor::answering(unavailable).await,
        FakePredictor::answering(unavailable).await,
    ];
    let gateway = TestGateway::start(vec![protected(&[&ill[0], &ill[1]], idempotent())], |_| {});
    let large = |bytes: usize| {
        Request::post("/v2/models/churn/infer")
            .header("host", "gateway")
            .body(Full::from(vec![b'x'; bytes]))
            .expect("a request")
    };
    let received = || ill[0].received_so_far() + ill[1].received_so_far();
    let answer = gateway.send(large((64 << 10) + 1)).await;
    assert_eq!(
        (answer.status(), received()),
        (StatusCode::SERVICE_UNAVAILABLE, 1)
    );
    let answer = gateway.send(large(60 << 10)).await;
    assert_eq!(
        (answer.status(), received()),
        (StatusCode::SERVICE_UNAVAILABLE, 3)
    );
}

#[tokio::test]
async fn in_a_full_outage_retries_stay_within_their_budget() {
    let mut predictors = Vec::new();
    for _ in 0..4 {
        predictors.push(FakePredictor::answering(unavailable).await);
    }
    let all: Vec<&FakePredictor> = predictors.iter().collect();
    let gateway = TestGateway::start(vec![protected(&all, idempotent())], |_| {});
    let mut client = gateway.http1().await;
    for _ in 0..500 {
        assert_eq!(
            infer_on(&mut client).await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
    let attempts: usize = predictors.iter().map(FakePredictor::received_so_far).sum();
    // The reserve of 3 is there once.
    assert!(
        (570..=578).contains(&attempts),
        "{attempts} attempts for 500 requests"
    );
}

/// More than the budget's reserve; each is at an endpoint of its own choice, so that some are at either.
#[tokio::test]
async fn requests_that_an_endpoint_takes_along_when_it_dies_are_all_sent_again() {
    const REQUESTS: usize = 40;
    let dies = FakePredictor::holding(Reply::grpc_or_echo).await;
    let lives = FakePredictor::holding(Reply::grpc_or_echo).await;
    let gateway = TestGateway::start(vec![protected(&[&dies, &lives], idempotent())], |_| {});
    let (mut requests, mut grpc) = (Vec::new(), Vec::new());
    for _ in 0..REQUESTS {
        requests.push(gateway.spawn_infer().await);
        let mut client = gateway.http2().await;
        grpc.push(tokio::spawn(async move {
            Grpc::of(client.send_request(grpc_infer("churn")).await.expect("an answer")).await
        }));
    }
    while dies.received_so_far() + lives.received_so_far() < 2 * REQUESTS {
        tokio::task::yield_now().await;
    }
    let died = dies.received_so_far();
    assert!(died > 3, "{died} requests at the endpoint that dies");
    dies.stop().await;
    lives.release();
    for request in requests {
        assert_eq!(request.await.expect("the task ends").0, StatusCode::OK);
    }
    for answer in grpc {
        assert_eq!(answer.await.expect("the task ends").status(), "0");
    }
    assert_eq!(lives.received_so_far(), 2 * REQUESTS);
    let asked = r#"plumbline_gateway_retries_total{model="churn",outcome="no_budget"}"#;
    assert!(
        !metrics(&gateway).await.contains(asked),
        "the budget is not asked"
    );
}

/// An endpoint that breaks every connection has not died each time: the budget holds.
#[tokio::test]
async fn endpoints_that_break_every_connection_are_within_the_budget() {
    let cut = |_: &Received| Reply::json("{}").cut(Cut::BeforeHead);
    let ill = [
        FakePredictor::answering(cut).await,
        FakePredictor::answering(cut).await,
    ];
    let gateway = TestGateway::start(vec![protected(&[&ill[0], &ill[1]], idempotent())], |_| {});
    let mut client = gateway.http1().await;
    for _ in 0..500 {
        assert_eq!(infer_on(&mut client).await.status(), StatusCode::BAD_GATEWAY);
    }
    let attempts = ill[0].received_so_far() + ill[1].received_so_far();
    // Beside the budget and its reserve of 3, one at each endpoint in 10 s.
    assert!(
        (570..=590).contains(&attempts),
        "{attempts} attempts for 500 requests"
    );
}

#[tokio::test]
async fn a_refused_stream_is_sent_to_another_endpoint_on_any_route() {
    let refusing = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let url = format!("http://{}", refusing.local_addr().expect("bound"));
    let (refused, mut refusals) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = refusing.accept().await {
            let refused = refused.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("handshake");
                while let Some(Ok((_request, mut respond))) = connection.accept().await {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                    refused.send(()).expect("the test waits");
                }
            });
        }
    });
    let well = FakePredictor::echo().await;
    let gateway = TestGateway::start(vec![churn(&[url, well.url()])], |_| {});
    let mut times = 0;
    while times < 3 {
        assert_eq!(gateway.grpc(grpc_infer("churn")).await.body, model_infer("churn"));
        while refusals.try_recv().is_ok() {
            times += 1;
        }
    }
}

#[tokio::test]
async fn each_attempt_is_told_the_time_that_is_left() {
    let ill = FakePredictor::answering(|_| Reply::grpc_error(14, "not now")).await;
    let well = FakePredictor::echo().await;
    let gateway = TestGateway::start(vec![protected(&[&ill, &well], idempotent())], |_| {});
    while ill.received_so_far() == 0 {
        let mut request = grpc_infer("churn");
        let timeout = "10S".parse().expect("a header value");
        request.headers_mut().insert("grpc-timeout", timeout);
        assert_eq!(gateway.grpc(request).await.body, model_infer("churn"));
    }
    let left = |request: &Received| {
        grpc::parse_timeout(request.header("grpc-timeout").as_bytes()).expect("a timeout")
    };
    let first = left(&ill.received(1).await[0]);
    let second = left(well.received(1).await.last().expect("a request"));
    assert!(
        second < first && first < Duration::from_secs(10),
        "{first:?}, then {second:?}"
    );
}

#[tokio::test]
async fn a_hedge_answers_for_an_endpoint_that_hangs_and_the_loser_is_cancelled() {
    let hanging = FakePredictor::holding(Reply::echo).await;
    let well = FakePredictor::echo().await;
    let protection = ProtectionSpec {
        hedge: Some(HedgeAfter::Time(Duration::from_millis(20))),
        ..idempotent()
    };
    let gateway = TestGateway::start(vec![protected(&[&hanging, &well], protection)], |_| {});
    while hanging.received_so_far() == 0 {
        let answer = gateway.infer("churn").await;
        assert_eq!(
            (answer.status(), text(answer).await.as_str()),
            (StatusCode::OK, ROW)
        );
    }
    hanging.aborted(1).await;
    let won = r#"plumbline_gateway_hedges_total{model="churn",outcome="won"} 1"#;
    assert!(metrics(&gateway).await.contains(won));
}

#[tokio::test]
async fn an_endpoint_that_restarts_is_found_again_by_one_request() {
    let restarting = FakePredictor::echo().await;
    let well = FakePredictor::echo().await;
    let gateway = TestGateway::start(vec![protected(&[&restarting, &well], idempotent())], |_| {});
    let address = restarting.stop().await;
    let mut client = gateway.http1().await;
    while state(&gateway, 0).await["health"] != "ejected" {
        assert_eq!(infer_on(&mut client).await.status(), StatusCode::OK);
    }
    assert_eq!(state(&gateway, 0).await["ejected"]["cause"], "unreachable");
    let restarted = FakePredictor::answering_on(address, Reply::echo);
    while restarted.received_so_far() == 0 {
        assert_eq!(infer_on(&mut client).await.status(), StatusCode::OK);
    }
    assert_eq!(state(&gateway, 0).await["health"], "in_use");
}

#[tokio::test]
async fn an_endpoint_that_fails_in_its_trailers_is_put_out() {
    let failing = FakePredictor::answering(|_| {
        Reply::status(StatusCode::OK)
            .header("content-type", "application/grpc")
            .chunk(grpc_message(b""))
            .trailer("grpc-status", "13")
    })
    .await;
    let well = FakePredictor::holding(Reply::echo).await;
    let gateway = TestGateway::start(
        vec![protected(&[&failing, &well], ProtectionSpec::default())],
        |_| {},
    );
    // Requests that wait make the good one dear, so that the failing one is asked in spite of its penalty.
    let mut waiting = Vec::new();
    while state(&gateway, 0).await["health"] != "ejected" {
        assert!(waiting.len() < 1_000, "{}", state(&gateway, 0).await);
        let mut client = gateway.http2().await;
        waiting.push(tokio::spawn(async move {
            Grpc::of(client.send_request(grpc_infer("churn")).await.expect("an answer")).await
        }));
        // The good one has to be silent for longer than the failing one's penalty weighs, which takes about two seconds.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(state(&gateway, 0).await["ejected"]["cause"], "failing");
    well.release();
    for answer in waiting {
        answer.await.expect("the task ends");
    }
    assert_eq!(state(&gateway, 1).await["ejections"], 0);
}

#[tokio::test]
async fn beyond_the_adaptive_limit_a_request_is_refused_with_the_limit() {
    let predictor = FakePredictor::holding(Reply::echo).await;
    let protection = ProtectionSpec {
        concurrency: Some(ConcurrencySpec { min: 1, max: 1 }),
        ..ProtectionSpec::default()
    };
    let gateway = TestGateway::start(vec![protected(&[&predictor], protection)], |_| {});
    let first = gateway.spawn_infer().await;
    predictor.received(1).await;
    let refused = gateway.infer("churn").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    let message = "model `churn` has 1 requests in flight, as many as it answers in time";
    assert_eq!(error_of(refused).await, message);
    let refused = gateway.grpc(grpc_infer("churn")).await;
    assert_eq!((refused.status(), refused.message()), ("14", message));
    predictor.release();
    assert_eq!(first.await.expect("the task ends").0, StatusCode::OK);
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    let shed = r#"plumbline_gateway_shed_total{reason="concurrency_limit"} 2"#;
    assert!(metrics(&gateway).await.contains(shed));
}

#[tokio::test]
async fn requests_wait_for_an_endpoint_that_comes_back() {
    let predictor = FakePredictor::echo().await;
    let url = predictor.url();
    let protection = ProtectionSpec {
        hold: Duration::from_secs(30),
        hold_max: 3,
        ..ProtectionSpec::default()
    };
    let route = RouteSpec {
        protection,
        ..churn(&[url])
    };
    let gateway = TestGateway::start(vec![route], |_| {});
    let address = predictor.stop().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(gateway.spawn_infer().await);
    }
    while !metrics(&gateway).await.contains("plumbline_gateway_held 3") {}
    let refused = gateway.infer("churn").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        error_of(refused).await,
        "model `churn` has no endpoint, and 3 requests wait for one already"
    );
    let restarted = FakePredictor::answering_on(address, Reply::echo);
    for request in held {
        let (status, body) = request.await.expect("the task ends");
        assert_eq!((status, body.as_str()), (StatusCode::OK, ROW));
    }
    assert_eq!(restarted.received_so_far(), 3);
    assert!(metrics(&gateway).await.contains("plumbline_gateway_held 0"));
}
