//! Spans: what a collector gets of a request and its attempts.

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use plumbline_service::traces::TraceExport;
use plumbline_testkit::collector::{CollectedSpan, Collector};
use tokio::time::Duration;

use crate::support::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Spans go to the collector as soon as they end.
fn export(collector: &Collector) -> TraceExport {
    let url = format!("{}/v1/traces", collector.url()).parse().expect("a URL");
    let mut export = TraceExport::to(&url).expect("a collector");
    export.delay = Duration::from_millis(1);
    export
}

fn traced(urls: &[String], collector: &Collector) -> TestGateway {
    let export = export(collector);
    TestGateway::start(vec![churn(urls)], |config| config.common.traces = Some(export))
}

fn called_by(request: Request<Full<Bytes>>, flags: &str) -> Request<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    let value = format!("00-{TRACE}-b7ad6b7169203331-{flags}");
    let value = HeaderValue::try_from(value).expect("a header value");
    head.headers.insert("traceparent", value);
    head.headers
        .insert("tracestate", HeaderValue::from_static("vendor=1"));
    Request::from_parts(head, body)
}

/// The server's, then the client's.
fn by_kind(spans: &[CollectedSpan]) -> (&CollectedSpan, Vec<&CollectedSpan>) {
    let (server, client): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.kind == 2);
    assert_eq!(server.len(), 1, "{spans:?}");
    (server[0], client)
}

#[tokio::test]
async fn a_request_and_its_attempt_are_told_of_under_their_caller() {
    let (predictor, collector) = (FakePredictor::echo().await, Collector::accepting().await);
    let gateway = traced(&[predictor.url()], &collector);
    let mut request = called_by(infer("churn"), "01");
    let id = HeaderValue::from_static("order-17");
    request.headers_mut().insert("x-request-id", id);
    assert_eq!(text(gateway.send(request).await).await, ROW);
    let spans = collector.spans(2).await;
    let (server, client) = by_kind(&spans);
    let [attempt] = client[..] else {
        panic!("{spans:?}")
    };
    assert_eq!(
        (server.trace.as_str(), server.parent.as_str()),
        (TRACE, "b7ad6b7169203331")
    );
    assert_eq!((attempt.trace.as_str(), &attempt.parent), (TRACE, &server.id));
    let received = &predictor.received(1).await[0];
    assert_eq!(
        received.header("traceparent"),
        format!("00-{TRACE}-{}-01", attempt.id)
    );
    assert_eq!(received.header("tracestate"), "vendor=1");
    assert_eq!(
        (server.trace_state.as_str(), attempt.trace_state.as_str()),
        ("vendor=1", "vendor=1")
    );
    let endpoint = predictor.url();
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v2/models/{model}/infer"),
        ("url.path", "/v2/models/churn/infer"),
        ("url.scheme", "http"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("client.address", "127.0.0.1"),
        ("model.name", "churn"),
        ("predictor.revision", "stable"),
        ("predictor.endpoint", &endpoint),
        ("request.id", "order-17"),
    ] {
        assert_eq!(server.get(key), value, "{key}: {server:?}");
    }
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("server.address", "127.0.0.1"),
        ("server.port", &predictor.address().port().to_string()),
        ("predictor.revision", "stable"),
        ("predictor.endpoint", &endpoint),
    ] {
        assert_eq!(attempt.get(key), value, "{key}: {attempt:?}");
    }
    assert_eq!(server.name, "POST /v2/models/{model}/infer");
    assert_eq!(server.resource["service.name"], "plumbline-gateway");
    assert!(!server.is_error && !attempt.is_error);
    assert!(server.started <= attempt.started && attempt.ended <= server.ended);
}

#[tokio::test]
async fn a_trace_begins_here_where_nobody_has_begun_one() {
    let (predictor, collector) = (FakePredictor::echo().await, Collector::accepting().await);
    let gateway = traced(&[predictor.url()], &collector);
    let mut request = infer("churn");
    let headers = request.headers_mut();
    headers.insert("traceparent", HeaderValue::from_static("00-nonsense"));
    headers.insert("tracestate", HeaderValue::from_static("of=another"));
    text(gateway.send(request).await).await;
    let spans = collector.spans(2).await;
    let (server, _) = by_kind(&spans);
    assert_eq!((server.parent.as_str(), server.trace_state.as_str()), ("", ""));
    assert_eq!(predictor.received(1).await[0].header("tracestate"), "");
}

#[tokio::test]
async fn what_the_caller_does_not_record_is_passed_on_and_not_told_of() {
    let (predictor, collector) = (FakePredictor::echo().await, Collector::accepting().await);
    let gateway = traced(&[predictor.url()], &collector);
    text(gateway.send(called_by(infer("churn"), "00")).await).await;
    let received = &predictor.received(1).await[0];
    assert_eq!(
        received.header("traceparent"),
        format!("00-{TRACE}-b7ad6b7169203331-00")
    );
    assert_eq!(received.header("tracestate"), "vendor=1");
    // Spans are exported in the order of their end: those of a later request would come after those of the first.
    text(gateway.infer("churn").await).await;
    let spans = collector.spans(2).await;
    assert!(spans.iter().all(|span| span.trace != TRACE), "{spans:?}");
}

#[tokio::test]
async fn grpc_is_told_of_in_its_own_words() {
    let predictor = FakePredictor::answering(Reply::grpc_or_echo).await;
    let collector = Collector::accepting().await;
    let gateway = traced(&[predictor.url()], &collector);
    assert_eq!(
        gateway.grpc(called_by(grpc_infer("churn"), "01")).await.status(),
        "0"
    );
    let spans = collector.spans(2).await;
    let (server, client) = by_kind(&spans);
    for span in [server, client[0]] {
        assert_eq!(span.name, "inference.GRPCInferenceService/ModelInfer");
        for (key, value) in [
            ("rpc.system", "grpc"),
            ("rpc.service", "inference.GRPCInferenceService"),
            ("rpc.method", "ModelInfer"),
            ("rpc.grpc.status_code", "0"),
        ] {
            assert_eq!(span.get(key), value, "{key}: {span:?}");
        }
    }
    assert_eq!(server.get("model.name"), "churn");
    assert_eq!((server.trace.as_str(), &client[0].parent), (TRACE, &server.id));
    let sent = predictor.received(1).await[0].header("traceparent").to_owned();
    assert_eq!(sent, format!("00-{TRACE}-{}-01", client[0].id));
    // Refused before any attempt: NOT_FOUND, which is no error of the server's.
    assert_eq!(gateway.grpc(grpc_infer("nope")).await.status(), "5");
    let spans = collector.spans(3).await;
    let refused = spans.iter().find(|span| span.get("rpc.grpc.status_code") == "5");
    assert!(!refused.expect("a span").is_error);
}

#[tokio::test]
async fn each_attempt_has_a_span_of_its_own() {
    let (refusing, collector) = (RefusingPort::new(), Collector::accepting().await);
    let predictor = FakePredictor::echo().await;
    let gateway = traced(&[refusing.url(), predictor.url()], &collector);
    // The first choice is drawn; one that cannot be reached is put out of use, so that this ends.
    let mut spans = Vec::new();
    for sent in 1.. {
        assert_eq!(text(gateway.infer("churn").await).await, ROW);
        spans = collector.spans(2 * sent).await;
        if spans.iter().any(|span| span.get("error.type") == "unreachable") {
            break;
        }
        assert!(sent < 1_000, "both endpoints should be chosen at some time");
    }
    let failed = spans.iter().find(|span| span.get("error.type") == "unreachable");
    let failed = failed.expect("found above").clone();
    let spans = {
        let mut all = collector.spans(spans.len()).await;
        while all.iter().filter(|span| span.trace == failed.trace).count() < 3 {
            all = collector.spans(all.len() + 1).await;
        }
        all
    };
    let of_request: Vec<_> = spans.iter().filter(|span| span.trace == failed.trace).collect();
    let server = of_request.iter().find(|span| span.kind == 2).expect("a server's");
    assert!(failed.is_error && !server.is_error);
    assert_eq!(failed.get("predictor.endpoint"), refusing.url());
    assert_eq!(server.get("predictor.endpoint"), predictor.url());
    assert!(
        of_request
            .iter()
            .all(|span| span.kind == 2 || span.parent == server.id)
    );
}

#[tokio::test]
async fn a_collector_that_is_down_harms_no_request_and_drops_are_counted() {
    let predictor = FakePredictor::echo().await;
    let collector = RefusingPort::new();
    let url = collector.url().parse().expect("a URL");
    let mut export = TraceExport::to(&url).expect("a collector");
    export.delay = Duration::from_millis(1);
    (export.max_queue, export.max_batch) = (4, 2);
    let gateway = TestGateway::start(vec![churn(&[predictor.url()])], |config| {
        config.common.traces = Some(export);
    });
    for _ in 0..20 {
        assert_eq!(text(gateway.infer("churn").await).await, ROW);
    }
    // 40 spans, of which 4 wait and at most 2 are being sent.
    gateway
        .until("/metrics", |page| {
            let dropped = r#"plumbline_trace_spans_dropped_total{reason="queue_full"} "#;
            let line = page.lines().find_map(|line| line.strip_prefix(dropped));
            line.and_then(|count| count.parse::<u32>().ok())
                .is_some_and(|count| count >= 30)
        })
        .await;
    gateway
        .until_counted("plumbline_trace_spans_exported_total 0")
        .await;
}
