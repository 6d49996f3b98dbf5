//! Request ids, traces, addresses, metrics, the page, the port.

use http::{HeaderValue, StatusCode};
use plumbline_gateway::{App, Config, PART};
use plumbline_service::Process;

use crate::support::*;

#[tokio::test]
async fn ids_and_traces_are_made_forwarded_and_returned() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::before(&predictor);
    let mut request = infer("churn");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request
        .headers_mut()
        .insert("x-request-id", HeaderValue::from_static("order-17"));
    request
        .headers_mut()
        .insert("traceparent", HeaderValue::from_static(trace));
    request
        .headers_mut()
        .insert("x-forwarded-for", HeaderValue::from_static("10.0.0.1"));
    let answer = gateway.send(request).await;
    assert_eq!(answer.headers()["x-request-id"], "order-17");
    let answer = gateway.infer("churn").await;
    let made = answer.headers()["x-request-id"]
        .to_str()
        .expect("text")
        .to_owned();
    let requests = predictor.received(2).await;
    assert_eq!(requests[0].header("x-request-id"), "order-17");
    // No span of the gateway's is exported: the next one's parent is the caller.
    assert_eq!(requests[0].header("traceparent"), trace);
    assert_eq!(requests[0].header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(requests[0].header("x-forwarded-proto"), "http");
    assert_eq!(
        (made.len(), requests[1].header("x-request-id")),
        (32, made.as_str())
    );
    assert_eq!(requests[1].header("traceparent").len(), 55);
    let refused = gateway.infer("nope").await;
    assert!(
        refused.headers().contains_key("x-request-id"),
        "failures have an id too"
    );
}

#[tokio::test]
async fn every_request_is_counted_by_what_its_client_saw() {
    let predictor = FakePredictor::answering(Reply::grpc_or_echo).await;
    let gateway = TestGateway::before(&predictor);
    for _ in 0..3 {
        text(gateway.infer("churn").await).await;
    }
    text(gateway.send(post("/v1/models/churn:predict", ROW)).await).await;
    gateway.grpc(grpc_infer("churn")).await;
    gateway.infer("nope").await;
    gateway.infer("other").await;
    gateway.grpc(grpc_infer("nope")).await;
    gateway.send(get("/v2/health/live")).await;
    gateway.send(get("/nope")).await;
    let metrics = gateway.admin("/metrics").await;
    let endpoint = predictor.url();
    for expected in [
        r#"plumbline_gateway_requests_total{code="200",model="churn",protocol="v2"} 3"#.to_owned(),
        r#"plumbline_gateway_requests_total{code="200",model="churn",protocol="v1"} 1"#.to_owned(),
        r#"plumbline_gateway_requests_total{code="OK",model="churn",protocol="grpc"} 1"#.to_owned(),
        r#"plumbline_gateway_requests_total{code="404",model="unknown",protocol="v2"} 2"#.to_owned(),
        r#"plumbline_gateway_requests_total{code="NOT_FOUND",model="unknown",protocol="grpc"} 1"#.to_owned(),
        r#"plumbline_gateway_requests_total{code="200",model="",protocol="v2"} 1"#.to_owned(),
        r#"plumbline_gateway_requests_total{code="404",model="",protocol="other"} 1"#.to_owned(),
        r#"plumbline_gateway_request_duration_seconds_count{model="churn",protocol="v2"} 3"#.to_owned(),
        r#"plumbline_gateway_overhead_seconds_count{model="churn"} 5"#.to_owned(),
        format!(r#"plumbline_gateway_upstream_requests_total{{endpoint="{endpoint}",outcome="answered"}} 5"#),
        format!(r#"plumbline_gateway_upstream_pending{{endpoint="{endpoint}"}} 0"#),
        "plumbline_gateway_in_flight 0".to_owned(),
        "plumbline_gateway_routes 1".to_owned(),
    ] {
        assert!(metrics.contains(&expected), "missing {expected} in:\n{metrics}");
    }
    assert!(
        !metrics.contains("nope"),
        "what clients make up is no label:\n{metrics}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_as_aborted() {
    let predictor = FakePredictor::holding(Reply::echo).await;
    let gateway = TestGateway::before(&predictor);
    let request = gateway.spawn_infer().await;
    predictor.received(1).await;
    request.abort();
    predictor.aborted(1).await;
    // The gateway gives up the endpoint's work before it counts; a later request that is answered comes after both.
    predictor.release();
    text(gateway.infer("churn").await).await;
    let metrics = gateway.admin("/metrics").await;
    let aborted = r#"plumbline_gateway_requests_total{code="aborted",model="churn",protocol="v2"} 1"#;
    assert!(metrics.contains(aborted), "{metrics}");
    assert!(metrics.contains("outcome=\"given_up\"} 1"), "{metrics}");
}

#[tokio::test]
async fn the_page_shows_routes_endpoints_and_their_health() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::before(&predictor);
    text(gateway.infer("churn").await).await;
    let page: serde_json::Value = serde_json::from_str(&gateway.admin("/routes").await).expect("JSON");
    let route = &page["routes"][0];
    assert_eq!(
        (&route["model"], &route["timeout_ms"]),
        (&"churn".into(), &30_000.0.into())
    );
    let endpoint = &route["revisions"][0]["endpoints"][0];
    assert_eq!(endpoint["endpoint"], predictor.url());
    assert_eq!(
        (&endpoint["state"]["health"], &endpoint["pending"]),
        (&"slow_start".into(), &0.into())
    );
    assert!(endpoint["latency_ms"].as_f64().expect("measured") > 0.0);
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_is_left_half_started() {
    let predictor = FakePredictor::echo().await;
    let first = TestGateway::before(&predictor);
    let mut config = Config::on_loopback(vec![churn(&[predictor.url()])]);
    config.common.listen = first.address;
    let process = Process::start(PART, &config.common, serde_json::Value::Null).expect("an admin port");
    let error = App::bind(config, &process).expect_err("in use").to_string();
    assert!(
        error.contains(&first.address.to_string()) && error.contains("another process"),
        "{error}"
    );
    assert_eq!(first.infer("churn").await.status(), StatusCode::OK);
}
