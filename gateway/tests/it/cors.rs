//! Browsers' pages of other origins.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use plumbline_gateway::{AccessSpec, CorsSpec};

use crate::support::*;

const APP: &str = "https://app.example";

fn at(predictor: &FakePredictor, cors: Option<CorsSpec>) -> TestGateway {
    TestGateway::start(vec![churn(&[predictor.url()])], |config| config.cors = cors)
}

fn app_only() -> CorsSpec {
    CorsSpec {
        origins: Some(vec![HeaderValue::from_static(APP)]),
        headers: vec![
            "content-type".parse().expect("a name"),
            "x-api-key".parse().expect("a name"),
        ],
        credentials: true,
        ..CorsSpec::default()
    }
}

fn preflight(origin: &'static str) -> Request<Full<bytes::Bytes>> {
    Request::options("/v2/models/churn/infer")
        .header("host", "gateway")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
        .body(Full::default())
        .expect("a request")
}

fn asked_by(origin: &'static str, mut request: Request<Full<bytes::Bytes>>) -> Request<Full<bytes::Bytes>> {
    request
        .headers_mut()
        .insert("origin", HeaderValue::from_static(origin));
    request
}

/// All that CORS is about, in the order of names.
fn said(headers: &HeaderMap) -> Vec<String> {
    let about = |name: &str| name.starts_with("access-control-") || name == "vary";
    let said = headers.iter().filter(|(name, _)| about(name.as_str()));
    let mut said: Vec<String> = said
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
        .collect();
    said.sort();
    said
}

const EXPOSED: &str = "access-control-expose-headers: grpc-message, grpc-status, grpc-status-details-bin, \
    inference-header-content-length, ratelimit, ratelimit-policy, retry-after, server-timing, x-request-id";
const PREFLIGHT_VARIES: &str = "vary: origin, access-control-request-method, access-control-request-headers";

async fn answered(answer: Response<Incoming>) -> (StatusCode, Vec<String>, HeaderMap) {
    let (head, body) = answer.into_parts();
    body.collect().await.expect("a body");
    (head.status, said(&head.headers), head.headers)
}

#[tokio::test]
async fn a_preflight_is_answered_before_anybody_has_to_say_who_they_are() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::start(vec![churn(&[predictor.url()])], |config| {
        config.cors = Some(app_only());
        let policy = "[[allow]]\nprincipals = [\"checkout\"]\nmodels = [\"churn\"]\n";
        config.access = AccessSpec::parse(policy).expect("valid");
    });
    let (status, told, headers) = answered(gateway.send(preflight(APP)).await).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(headers.contains_key("x-request-id"));
    let expected = [
        "access-control-allow-credentials: true",
        "access-control-allow-headers: content-type, x-api-key",
        "access-control-allow-methods: GET, HEAD, POST",
        "access-control-allow-origin: https://app.example",
        "access-control-max-age: 600",
        PREFLIGHT_VARIES,
    ];
    assert_eq!(told, expected);
    // The page may read why it is refused.
    let (status, told, _) = answered(gateway.send(asked_by(APP, infer("churn"))).await).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(
        told.contains(&format!("access-control-allow-origin: {APP}")),
        "{told:?}"
    );
    let counted = r#"plumbline_gateway_requests_total{code="204",model="",protocol="v2"} 1"#;
    gateway.until_counted(counted).await;
    assert_eq!(predictor.received_so_far(), 0);
}

#[tokio::test]
async fn pages_of_other_origins_are_told_nothing() {
    let predictor = FakePredictor::answering(|request| {
        // What is behind the gateway does not decide.
        Reply::echo(request)
            .header("access-control-allow-origin", "*")
            .header("access-control-expose-headers", "*")
    })
    .await;
    let gateway = at(&predictor, Some(app_only()));
    for origin in [
        "https://evil.example",
        "https://app.example.evil.example",
        "http://app.example",
        "null",
    ] {
        let (status, told, _) = answered(gateway.send(preflight(origin)).await).await;
        assert_eq!(
            (status, told),
            (StatusCode::NO_CONTENT, vec![PREFLIGHT_VARIES.to_owned()]),
            "{origin}"
        );
        let (status, told, _) = answered(gateway.send(asked_by(origin, infer("churn"))).await).await;
        assert_eq!(
            (status, told),
            (StatusCode::OK, vec!["vary: origin".to_owned()]),
            "{origin}"
        );
    }
    let (_, told, _) = answered(gateway.send(asked_by(APP, infer("churn"))).await).await;
    let expected = [
        "access-control-allow-credentials: true",
        "access-control-allow-origin: https://app.example",
        EXPOSED,
        "vary: origin",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn all_origins_are_one_answer() {
    let predictor = FakePredictor::answering(|_| Reply::grpc_error(5, "no such version")).await;
    let gateway = at(&predictor, Some(CorsSpec::default()));
    let request = Request::post("/inference.GRPCInferenceService/ModelInfer")
        .header("host", "gateway")
        .header("content-type", "application/grpc-web+proto")
        .body(Full::new(
            grpc_infer("churn")
                .into_body()
                .collect()
                .await
                .expect("a body")
                .to_bytes(),
        ));
    let (status, told, _) = answered(gateway.send(asked_by(APP, request.expect("a request"))).await).await;
    assert_eq!(
        (status, told),
        (
            StatusCode::OK,
            vec!["access-control-allow-origin: *".to_owned(), EXPOSED.to_owned()]
        )
    );
    let (_, told, _) = answered(gateway.send(preflight("null")).await).await;
    let expected = [
        "access-control-allow-headers: authorization, content-type, grpc-timeout, inference-header-content-length, \
         traceparent, x-api-key, x-grpc-web, x-request-id, x-request-timeout, x-user-agent",
        "access-control-allow-methods: GET, HEAD, POST",
        "access-control-allow-origin: *",
        "access-control-max-age: 600",
        PREFLIGHT_VARIES,
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn without_the_table_nothing_is_said() {
    let predictor = FakePredictor::echo().await;
    let gateway = at(&predictor, None);
    let (status, told, _) = answered(gateway.send(asked_by(APP, infer("churn"))).await).await;
    assert_eq!((status, told), (StatusCode::OK, Vec::new()));
    let (status, told, _) = answered(gateway.send(preflight(APP)).await).await;
    assert!(!status.is_success() && told.is_empty(), "{status} {told:?}");
}
