use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use plumbline_testkit::collector::Collector;
use tower::{Service as _, ServiceExt as _};

use super::*;
use crate::Part;
use crate::config::{Common, Outcome, load};
use crate::metrics::Metrics;

const PART: Part = Part {
    name: "gateway",
    version: "1.2.3",
};
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";

fn read(environment: &[(&str, &str)]) -> Result<Option<TraceExport>, String> {
    let common = Common::settings("127.0.0.1:0", "127.0.0.1:0");
    let environment = environment
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    match load("gateway", &[&common], [], environment, Common::read) {
        Ok(Outcome::Start { config, shown }) => {
            assert!(!shown.to_string().contains("hush"), "{shown}");
            Ok(config.traces)
        }
        Ok(other) => panic!("{other:?}"),
        Err(problems) => Err(problems.to_string()),
    }
}

fn called(flags: &str) -> HeaderMap {
    let value = HeaderValue::try_from(format!("{CALLER}{flags}")).expect("a header value");
    HeaderMap::from_iter([
        (TRACEPARENT, value),
        (TRACESTATE, HeaderValue::from_static("a=1")),
    ])
}

fn export_to(url: &str) -> TraceExport {
    TraceExport {
        delay: Duration::from_millis(1),
        ..TraceExport::to(&url.parse().expect("a URL")).expect("a collector")
    }
}

fn sampling(parent_based: bool, share: f64) -> Tracer {
    let export = TraceExport {
        sampler: Sampler { parent_based, share },
        ..export_to("http://127.0.0.1:9")
    };
    Tracer::start(&export, PART, &Metrics::default()).expect("a thread")
}

#[test]
fn nothing_is_exported_without_an_endpoint_whatever_else_is_set() {
    for environment in [
        &[][..],
        &[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_TRACES_SAMPLER", "xray"),
        ],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318"),
            ("OTEL_SDK_DISABLED", "TRUE"),
        ],
    ] {
        assert!(
            read(environment).expect("no problem").is_none(),
            "{environment:?}"
        );
    }
}

#[test]
fn the_standard_variables_are_read() {
    let export = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318/base/")]);
    let export = export.expect("valid").expect("an export");
    assert_eq!(
        (export.target.to_string().as_str(), export.path.as_str()),
        ("http://otel:4318", "/base/v1/traces")
    );
    assert_eq!(
        (export.sampler, export.timeout),
        (Sampler::default(), Duration::from_secs(10))
    );
    assert_eq!(
        (export.max_queue, export.max_batch, export.delay),
        (2_048, 512, Duration::from_secs(5))
    );
    let export = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://unused:1"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://otel:4318/own?tenant=7",
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=unused"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "authorization=Bearer%20hush, x-tenant = 7",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ("OTEL_SERVICE_NAME", "door"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test,service.name=not%20this",
        ),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ]);
    let export = export.expect("valid").expect("an export");
    assert_eq!(
        (export.target.to_string().as_str(), export.path.as_str()),
        ("http://otel:4318", "/own?tenant=7")
    );
    assert_eq!(export.headers["authorization"], "Bearer hush");
    assert_eq!(
        (export.headers.len(), &export.headers["x-tenant"]),
        (2, &HeaderValue::from_static("7"))
    );
    assert_eq!(export.timeout, Duration::from_millis(1_500));
    assert_eq!(export.service_name.as_deref(), Some("door"));
    assert_eq!(
        export.resource[1],
        ("service.name".to_owned(), "not this".to_owned())
    );
    assert_eq!(
        export.sampler,
        Sampler {
            parent_based: false,
            share: 0.25
        }
    );
    assert_eq!(
        (export.max_queue, export.max_batch, export.delay),
        (100, 10, Duration::from_millis(200))
    );
}

#[test]
fn what_cannot_be_done_stops_the_start_and_says_what_can() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318");
    for (variable, value, told) in [
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "`grpc` is not supported: expected http/protobuf",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "http/json",
            "`http/json` is not supported",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "otel:4318",
            "expected a URL",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "https://otel:4318",
            "needs OTEL_EXPORTER_OTLP_CERTIFICATE",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "expected a whole number"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "hush",
            "*** (OTEL_EXPORTER_OTLP_HEADERS): expected key=value",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a b=hush",
            "`a b` or its value cannot be in a header",
        ),
        ("OTEL_RESOURCE_ATTRIBUTES", "team", "expected key=value"),
        (
            "OTEL_TRACES_SAMPLER",
            "jaeger_remote",
            "`jaeger_remote` is not supported: expected always_on",
        ),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "must be at least 1"),
    ] {
        let problems = read(&[endpoint, (variable, value)]).expect_err(value);
        assert!(
            problems.contains(told) && problems.contains(variable),
            "{variable}: {problems}"
        );
        assert!(!problems.contains("hush"), "{problems}");
    }
    let share = [
        endpoint,
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ];
    assert!(
        read(&share)
            .expect_err("no share")
            .contains("expected a share from 0 to 1")
    );
}

#[test]
fn a_request_that_is_not_recorded_keeps_its_place_in_the_trace() {
    let off = Tracer::default();
    for (tracer, flags, sent) in [
        (&off, "01", "01"),
        (&off, "00", "00"),
        (&sampling(true, 1.0), "00", "00"),
        // What is called next must not take a span for recorded that is not.
        (&sampling(false, 0.0), "01", "00"),
    ] {
        let mut headers = called(flags);
        assert!(tracer.begin(&mut headers).is_none());
        assert_eq!(headers[TRACEPARENT], format!("{CALLER}{sent}"));
        assert_eq!(headers[TRACESTATE], "a=1");
    }
    for tracer in [&off, &sampling(true, 0.0)] {
        let mut headers = HeaderMap::from_iter([(TRACESTATE, HeaderValue::from_static("a=1"))]);
        assert!(tracer.begin(&mut headers).is_none());
        let begun = TraceContext::of(&headers).expect("a new trace");
        assert!(!begun.sampled && !headers.contains_key(TRACESTATE));
    }
}

#[test]
fn a_request_that_is_recorded_becomes_the_parent() {
    for (tracer, flags) in [(sampling(true, 0.0), "01"), (sampling(false, 1.0), "00")] {
        let mut headers = called(flags);
        let span = tracer.begin(&mut headers).expect("recorded");
        let context = TraceContext::of(&headers).expect("well-formed");
        assert_eq!(context, span.context());
        assert!(context.sampled && context.trace_id == 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_ne!(context.span_id, 0xb7ad_6b71_6920_3331);
    }
}

#[test]
fn a_share_of_the_traces_is_recorded_by_their_ids() {
    let sampler = Sampler {
        parent_based: true,
        share: 0.25,
    };
    let half = u128::from(u64::MAX);
    assert!(sampler.records(None, half / 5) && !sampler.records(None, half / 3));
    let recorded = (0..100_000)
        .filter(|_| sampler.records(None, fastrand::u128(1..)))
        .count();
    // Five standard deviations of a binomial distribution are 685.
    assert!((24_315..=25_685).contains(&recorded), "{recorded}");
}

#[test]
fn routes_have_placeholders_for_names() {
    for (path, route) in [
        ("/v2", Some("/v2")),
        ("/v2/health/ready", Some("/v2/health/ready")),
        ("/v2/models/churn", Some("/v2/models/{model}")),
        ("/v2/models/churn/infer", Some("/v2/models/{model}/infer")),
        (
            "/v2/models/churn/versions/3/infer",
            Some("/v2/models/{model}/versions/{version}/infer"),
        ),
        ("/v1/models/churn:predict", Some("/v1/models/{model}:predict")),
        ("/v1/models/churn", Some("/v1/models/{model}")),
        ("/v2/models/churn/secret", None),
        ("/v2/models", None),
        ("/wp-login.php", None),
        ("", None),
    ] {
        assert_eq!(message::route(path).as_deref(), route, "{path}");
    }
}

/// A service that answers with this status, traced.
fn answering(tracer: &Tracer, status: StatusCode) -> TraceRequests<impl Answering> {
    let service = tower::service_fn(move |_request: Request<()>| async move {
        let mut answer = Response::new(Full::new(Bytes::from_static(b"done")));
        *answer.status_mut() = status;
        Ok::<_, Infallible>(answer)
    });
    TraceRequests::new(service, tracer.clone())
}

trait Answering: tower::Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible> {}
impl<S: tower::Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible>> Answering for S {}

fn request() -> Request<()> {
    Request::post("/v2/models/churn/infer")
        .body(())
        .expect("a request")
}

#[tokio::test]
async fn a_service_is_told_of_and_what_is_recorded_at_the_end_is_sent() {
    let collector = Collector::accepting().await;
    let metrics = Metrics::default();
    let export = TraceExport {
        // Only the end of the process sends them.
        delay: Duration::from_hours(1),
        service_name: Some("door".to_owned()),
        resource: vec![("team".to_owned(), "ml".to_owned())],
        ..export_to(&collector.url())
    };
    let tracer = Tracer::start(&export, PART, &metrics).expect("a thread");
    let answer = answering(&tracer, StatusCode::OK).oneshot(request()).await;
    let Ok(answer) = answer;
    answer.into_body().collect().await.expect("a body");
    let Ok(failed) = answering(&tracer, StatusCode::BAD_GATEWAY)
        .oneshot(request())
        .await;
    failed.into_body().collect().await.expect("a body");
    // Its client leaves before the answer has ended.
    let Ok(left) = answering(&tracer, StatusCode::OK).oneshot(request()).await;
    drop(left);
    assert_eq!(collector.spans_so_far(), 0);
    tracer.finish().await;
    assert_eq!(collector.spans_so_far(), 3);
    let spans = collector.spans(3).await;
    let told: Vec<_> = spans
        .iter()
        .map(|span| {
            (
                span.get("http.response.status_code"),
                span.get("error.type"),
                span.is_error,
            )
        })
        .collect();
    assert_eq!(
        told,
        [("200", "", false), ("502", "502", true), ("200", "aborted", true)]
    );
    assert_eq!(spans[0].name, "POST /v2/models/{model}/infer");
    assert_eq!(spans[0].get("model.name"), "churn");
    for (key, value) in [
        ("service.name", "door"),
        ("service.version", "1.2.3"),
        ("team", "ml"),
    ] {
        assert_eq!(spans[0].resource[key], value);
    }
    let text = String::from_utf8(metrics.render()).expect("text");
    assert!(text.contains("plumbline_trace_spans_exported_total 3"), "{text}");
    // What comes too late is counted.
    let Ok(late) = answering(&tracer, StatusCode::OK).oneshot(request()).await;
    drop(late);
    let text = String::from_utf8(metrics.render()).expect("text");
    assert!(
        text.contains(r#"plumbline_trace_spans_dropped_total{reason="queue_full"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn what_a_collector_refuses_is_counted_and_what_it_delays_is_sent_again() {
    let collector = Collector::accepting().await;
    let metrics = Metrics::default();
    let tracer = Tracer::start(&export_to(&collector.url()), PART, &metrics).expect("a thread");
    let mut service = answering(&tracer, StatusCode::OK);
    collector.refuse(StatusCode::BAD_REQUEST);
    let Ok(answer) = service.call(request()).await;
    drop(answer);
    collector.exports(1).await;
    collector.refuse(StatusCode::SERVICE_UNAVAILABLE);
    let Ok(answer) = service.call(request()).await;
    drop(answer);
    collector.exports(2).await;
    collector.accept();
    assert_eq!(collector.spans(1).await.len(), 1);
    tracer.finish().await;
    let text = String::from_utf8(metrics.render()).expect("text");
    for told in [
        "plumbline_trace_spans_exported_total 1",
        r#"plumbline_trace_spans_dropped_total{reason="rejected"} 1"#,
        r#"plumbline_trace_spans_dropped_total{reason="unreachable"} 0"#,
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
}
