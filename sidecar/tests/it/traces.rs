//! Spans: a request and what the model server got of it.

use http::HeaderValue;
use plumbline_service::traces::TraceExport;
use plumbline_testkit::collector::Collector;
use plumbline_testkit::predictor::{FakePredictor, Reply, grpc_message};

use crate::harness::*;

async fn traced(predictor: &FakePredictor, collector: &Collector) -> TestSidecar {
    let mut export = TraceExport::to(&collector.url().parse().expect("a URL")).expect("a collector");
    export.delay = std::time::Duration::from_millis(1);
    TestSidecar::start(&predictor.url(), |config| config.common.traces = Some(export)).await
}

#[tokio::test]
async fn a_request_and_its_way_to_the_model_server_are_told_of() {
    let (predictor, collector) = (FakePredictor::echo().await, Collector::accepting().await);
    let sidecar = traced(&predictor, &collector).await;
    let mut request = post("/v2/models/churn/infer", "application/json", "{}");
    let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request
        .headers_mut()
        .insert("traceparent", HeaderValue::from_static(caller));
    h1(sidecar.address, request).await;
    let spans = collector.spans(2).await;
    let (server, client) = (&spans[0], &spans[1]);
    assert_eq!((server.kind, client.kind), (2, 3));
    assert_eq!(
        (server.parent.as_str(), &client.parent),
        ("b7ad6b7169203331", &server.id)
    );
    let sent = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", client.id);
    let received = predictor.received(1).await;
    let forwarded = received
        .iter()
        .find(|received| received.uri.path().ends_with("/infer"));
    assert_eq!(
        forwarded.expect("the request").header("traceparent"),
        sent,
        "{received:?}"
    );
    assert_eq!(server.name, "POST /v2/models/{model}/infer");
    assert_eq!(server.get("model.name"), "churn");
    assert_eq!(client.get("predictor.endpoint"), predictor.url());
    for span in [server, client] {
        assert_eq!(
            (span.get("http.response.status_code"), span.is_error),
            ("200", false)
        );
        assert_eq!(span.resource["service.name"], "plumbline-sidecar");
    }
}

#[tokio::test]
async fn grpc_tells_the_status_of_its_trailers() {
    let predictor = FakePredictor::answering(|_| Reply::grpc_error(14, "not now")).await;
    let collector = Collector::accepting().await;
    let sidecar = traced(&predictor, &collector).await;
    let message = grpc_message(b"\x0a\x05churn");
    let mut request = post(
        "/inference.GRPCInferenceService/ModelInfer",
        "application/grpc",
        message,
    );
    request.headers_mut().remove("host");
    h2(sidecar.address, request).await;
    for span in collector.spans(2).await {
        assert_eq!(
            (span.get("rpc.grpc.status_code"), span.get("rpc.method")),
            ("14", "ModelInfer")
        );
        assert!(span.is_error);
    }
}
