//! Hosts, matches, stickiness, fallback, mirror, reload and the page, with real requests.

use std::io::Write as _;
use std::num::NonZeroUsize;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, StatusCode};
use plumbline_gateway::{Config, MatchSpec, MirrorSpec, MirrorTo, RevisionSpec, RouteSpec, SETTINGS, Sticky};
use plumbline_inference_protocol::coding::Coding;
use plumbline_inference_protocol::grpc::{compress_frame, proto};
use plumbline_service::config::{ByteSize, Common, Outcome, ParseSetting as _, load};
use plumbline_service::upstream::Target;
use tokio::time::Instant;

use crate::revisions::revision;
use crate::support::*;

fn hosted(model: &str, host: &str, predictor: &FakePredictor) -> RouteSpec {
    RouteSpec {
        hosts: vec![host.to_owned()],
        ..route(model, &[predictor.url()])
    }
}

#[tokio::test]
async fn a_host_decides_before_the_model_in_the_path() {
    let (churn, iris) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let routes = vec![
        hosted("churn", "churn.example.com", &churn),
        hosted("iris", "iris.example.com", &iris),
    ];
    let gateway = TestGateway::start(routes, |_| {});
    let at = |host: &'static str, mut request: http::Request<_>| {
        request.headers_mut().insert(HOST, HeaderValue::from_static(host));
        gateway.send(request)
    };
    // The predictor's own name of its model, its health and its metadata are asked of the host's service.
    for (method, path) in [
        ("post", "/v2/models/iris/infer"),
        ("post", "/v1/models/anything:predict"),
        ("get", "/v2/health/ready"),
        ("get", "/v2"),
        ("get", "/v1/models"),
        ("get", "/"),
    ] {
        let request = if method == "post" {
            post(path, ROW)
        } else {
            get(path)
        };
        let answer = at("Churn.Example.com:8080", request).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let received = churn.received(1).await;
        assert_eq!(received.last().expect("one").path(), path);
    }
    assert_eq!((churn.received_so_far(), iris.received_so_far()), (6, 0));
    // What is for one server of several is not.
    let answer = at(
        "churn.example.com",
        post("/v2/repository/models/churn/unload", ""),
    )
    .await;
    assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED);
    // Any other host decides nothing.
    assert_eq!(
        at("other.example.com", infer("iris")).await.status(),
        StatusCode::OK
    );
    assert_eq!(iris.received_so_far(), 1);
    assert_eq!(
        at("other.example.com", get("/v2/health/ready")).await.status(),
        StatusCode::OK
    );
    assert_eq!((churn.received_so_far(), iris.received_so_far()), (6, 1));
}

#[tokio::test]
async fn an_authority_decides_before_the_first_message() {
    let predictor = FakePredictor::answering(|_| Reply::grpc(b"answer")).await;
    let gateway = TestGateway::start(vec![hosted("churn", "churn.example.com", &predictor)], |_| {});
    let at = |authority: &str, method: &str, body: Bytes| {
        let mut request = grpc_request(method, body);
        *request.uri_mut() = format!("http://{authority}/{method}").parse().expect("a target");
        gateway.grpc(request)
    };
    let infer = "inference.GRPCInferenceService/ModelInfer";
    for body in [
        model_infer("another"),
        compress_frame(&model_infer("churn"), Coding::Gzip),
    ] {
        assert_eq!(at("churn.example.com:80", infer, body).await.status(), "0");
    }
    let health = "grpc.health.v1.Health/Check";
    assert_eq!(
        at("churn.example.com", health, grpc_message(b"")).await.status(),
        "0"
    );
    assert_eq!(predictor.received_so_far(), 3);
    assert_eq!(at("elsewhere", infer, model_infer("another")).await.status(), "5");
    assert_eq!(predictor.received_so_far(), 3);
}

#[tokio::test]
async fn a_header_names_the_model_that_no_message_tells() {
    let predictor = FakePredictor::answering(|_| Reply::grpc(b"answer")).await;
    let gateway = TestGateway::before(&predictor);
    let compressed = || {
        let body = compress_frame(&model_infer("churn"), Coding::Gzip);
        grpc_request("inference.GRPCInferenceService/ModelInfer", body)
    };
    let refused = gateway.grpc(compressed()).await;
    assert!(
        refused.message().contains("x-plumbline-model"),
        "{}",
        refused.message()
    );
    let mut named = compressed();
    named
        .headers_mut()
        .insert("x-plumbline-model", HeaderValue::from_static("churn"));
    assert_eq!(gateway.grpc(named).await.status(), "0");
    // A message that can be read is believed.
    let mut other = grpc_infer("churn");
    other
        .headers_mut()
        .insert("x-plumbline-model", HeaderValue::from_static("iris"));
    assert_eq!(gateway.grpc(other).await.status(), "0");
}

#[tokio::test]
async fn a_match_comes_before_stickiness_and_that_before_weights() {
    let (stable, canary) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let route = RouteSpec {
        revisions: vec![revision("stable", 1, &stable), revision("canary", 1, &canary)],
        matches: vec![MatchSpec {
            header: "x-cohort".parse().expect("a name"),
            value: HeaderValue::from_static("beta"),
            revision: "canary".to_owned(),
        }],
        sticky: Some(Sticky::Header("x-user".parse().expect("a name"))),
        ..churn(&[])
    };
    let gateway = TestGateway::start(vec![route], |_| {});
    let send = |fields: &[(&'static str, &'static str)]| {
        let mut request = infer("churn");
        for (name, value) in fields {
            request
                .headers_mut()
                .insert(*name, HeaderValue::from_static(value));
        }
        gateway.send(request)
    };
    for _ in 0..6 {
        send(&[("x-cohort", "beta")]).await;
    }
    assert_eq!((stable.received_so_far(), canary.received_so_far()), (0, 6));
    for _ in 0..6 {
        send(&[("x-user", "alice")]).await;
    }
    let after = (stable.received_so_far(), canary.received_so_far());
    assert!(after == (6, 6) || after == (0, 12), "{after:?}");
    for _ in 0..6 {
        send(&[("x-cohort", "gamma")]).await;
    }
    assert!(stable.received_so_far() - after.0 >= 2 && canary.received_so_far() - after.1 >= 2);
    let metrics = gateway.admin("/metrics").await;
    let counted = format!(
        r#"plumbline_gateway_revision_requests_total{{model="churn",revision="canary"}} {}"#,
        canary.received_so_far()
    );
    assert!(metrics.contains(&counted), "{metrics}");
}

#[tokio::test]
async fn the_fallback_answers_when_nothing_of_the_revision_can_be_reached() {
    let (refusing, fallback) = (RefusingPort::new(), FakePredictor::echo().await);
    let unreachable = RevisionSpec {
        name: "canary".to_owned(),
        ..RevisionSpec::only(vec![Target::parse_setting(&refusing.url()).expect("an endpoint")])
    };
    let route = RouteSpec {
        revisions: vec![unreachable, revision("stable", 0, &fallback)],
        fallback: Some("stable".to_owned()),
        ..churn(&[])
    };
    let gateway = TestGateway::start(vec![route], |_| {});
    for _ in 0..3 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    assert_eq!(fallback.received_so_far(), 3);
    let metrics = gateway.admin("/metrics").await;
    assert!(
        metrics.contains(r#"plumbline_gateway_fallbacks_total{model="churn"} 3"#),
        "{metrics}"
    );
}

fn mirrored(
    primary: &FakePredictor,
    mirror: &FakePredictor,
    change: impl FnOnce(&mut MirrorSpec),
) -> RouteSpec {
    let target = Target::parse_setting(&mirror.url()).expect("an endpoint");
    let mut spec = MirrorSpec::new(MirrorTo::Endpoints(vec![target]));
    change(&mut spec);
    RouteSpec {
        mirror: Some(spec),
        ..churn(&[primary.url()])
    }
}

#[tokio::test]
async fn a_mirror_gets_the_same_request_and_nobody_its_answer() {
    let primary = FakePredictor::answering(|_| Reply::json(r#"{"predictions":[1]}"#)).await;
    let mirror = FakePredictor::answering(|_| Reply::status(StatusCode::IM_A_TEAPOT)).await;
    let gateway = TestGateway::start(vec![mirrored(&primary, &mirror, |_| {})], |_| {});
    let answer = gateway.infer("churn").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(text(answer).await, r#"{"predictions":[1]}"#);
    let (sent, copied) = (primary.received(1).await, mirror.received(1).await);
    assert_eq!(
        (copied[0].path(), &copied[0].body),
        (sent[0].path(), &sent[0].body)
    );
    assert_eq!(copied[0].header("x-request-id"), sent[0].header("x-request-id"));
    // What only reads is not copied.
    gateway.send(get("/v2/models/churn/ready")).await;
    gateway
        .until_counted(r#"plumbline_gateway_mirror_requests_total{model="churn",outcome="answered"} 1"#)
        .await;
    assert_eq!(mirror.received_so_far(), 1);
}

#[tokio::test]
async fn a_mirror_that_hangs_delays_nobody_and_holds_only_its_budget() {
    let primary = FakePredictor::echo().await;
    let mirror = FakePredictor::holding(Reply::echo).await;
    let route = mirrored(&primary, &mirror, |spec| spec.max_in_flight = NonZeroUsize::MIN);
    let gateway = TestGateway::start(vec![route], |_| {});
    for _ in 0..3 {
        assert_eq!(text(gateway.infer("churn").await).await, ROW);
    }
    mirror.received(1).await;
    let dropped = r#"plumbline_gateway_mirror_dropped_total{model="churn",reason="in_flight"} 2"#;
    assert!(gateway.admin("/metrics").await.contains(dropped));
    mirror.release();
    gateway
        .until_counted(r#"mirror_requests_total{model="churn",outcome="answered"} 1"#)
        .await;
}

#[tokio::test]
async fn a_request_over_the_budget_is_served_and_not_copied() {
    let (primary, mirror) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let route = mirrored(&primary, &mirror, |spec| spec.max_bytes = ByteSize(8));
    let gateway = TestGateway::start(vec![route], |_| {});
    assert_eq!(text(gateway.infer("churn").await).await, ROW);
    let dropped = r#"plumbline_gateway_mirror_dropped_total{model="churn",reason="bytes"} 1"#;
    assert!(gateway.admin("/metrics").await.contains(dropped));
    assert_eq!(mirror.received_so_far(), 0);
}

#[tokio::test]
async fn predictions_of_both_answers_are_compared_row_by_row() {
    let v2 = |values: &str| {
        format!(
            r#"{{"model_name":"churn","outputs":[{{"name":"p","shape":[3],"datatype":"FP32","data":{values}}}]}}"#
        )
    };
    let grpc = |values: [f32; 2]| {
        let output = proto::model_infer_response::InferOutputTensor {
            name: "p".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![2],
            ..Default::default()
        };
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        plumbline_inference_protocol::grpc::encode_frame(&proto::ModelInferResponse {
            model_name: "churn".to_owned(),
            outputs: vec![output],
            raw_output_contents: vec![raw.into()],
            ..Default::default()
        })
    };
    let predictor = |v1: &'static str, v2: String, grpc: Bytes| {
        FakePredictor::answering(move |request| match request.path() {
            "/v1/models/churn:predict" => Reply::json(v1),
            "/v2/models/churn/infer" => Reply::json(v2.clone()),
            _ => Reply::grpc(&grpc[5..]),
        })
    };
    let primary = predictor(r#"{"predictions":[1,0]}"#, v2("[0.1,0.2,0.3]"), grpc([0.5, 0.6])).await;
    let mirror = predictor(
        r#"{"predictions":[1,1]}"#,
        v2("[0.1,0.2000001,0.9]"),
        grpc([0.5, 0.7]),
    )
    .await;
    let gateway = TestGateway::start(
        vec![mirrored(&primary, &mirror, |spec| spec.compare = true)],
        |_| {},
    );
    text(gateway.infer("churn").await).await;
    gateway
        .until_counted(r#"plumbline_gateway_mirror_rows_total{model="churn",verdict="agree"} 2"#)
        .await;
    text(gateway.send(post("/v1/models/churn:predict", ROW)).await).await;
    gateway
        .until_counted(r#"plumbline_gateway_mirror_rows_total{model="churn",verdict="agree"} 3"#)
        .await;
    assert_eq!(gateway.grpc(grpc_infer("churn")).await.status(), "0");
    gateway
        .until_counted(r#"plumbline_gateway_mirror_rows_total{model="churn",verdict="agree"} 4"#)
        .await;
    let metrics = gateway.admin("/metrics").await;
    for expected in [
        r#"plumbline_gateway_mirror_rows_total{model="churn",verdict="disagree"} 3"#,
        r#"plumbline_gateway_mirror_uncompared_total{model="churn"} 0"#,
    ] {
        assert!(metrics.contains(expected), "{metrics}");
    }
    mirror.script(|_| Reply::status(StatusCode::INTERNAL_SERVER_ERROR));
    text(gateway.infer("churn").await).await;
    gateway
        .until_counted(r#"plumbline_gateway_mirror_uncompared_total{model="churn"} 1"#)
        .await;
}

/// A route to one endpoint, as a file has it.
fn route_in_file(url: &str, more: &str) -> String {
    format!("config_poll = \"5ms\"\n[[route]]\nmodel = \"churn\"\nendpoints = [\"{url}\"]\n{more}")
}

/// A gateway that follows a file.
fn following(content: &str) -> (TestGateway, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(content.as_bytes()).expect("written");
    let settings: &[&[_]] = &[&Common::settings("127.0.0.1:0", "127.0.0.1:0"), SETTINGS];
    let arguments = ["--config", file.path().to_str().expect("a text")].map(str::to_owned);
    let Ok(Outcome::Start {
        config: (_, loaded), ..
    }) = load("gateway", settings, arguments, [], Config::read)
    else {
        panic!("expected a configuration");
    };
    (TestGateway::start(Vec::new(), |config| *config = loaded), file)
}

/// As Kubernetes replaces a mounted file: whole.
fn replace(file: &tempfile::NamedTempFile, content: &str) {
    let mut next =
        tempfile::NamedTempFile::new_in(file.path().parent().expect("a directory")).expect("a file");
    next.write_all(content.as_bytes()).expect("written");
    next.persist(file.path()).expect("swapped");
}

#[tokio::test]
async fn requests_that_wait_for_an_endpoint_get_the_one_that_a_changed_file_has() {
    const HOLD: &str = "hold = \"1m\"\n";
    let (gone, predictor) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let url = gone.url();
    gone.stop().await;
    let (gateway, file) = following(&route_in_file(&url, HOLD));
    let held = gateway.spawn_infer().await;
    gateway.until_counted("plumbline_gateway_held 1").await;
    replace(&file, &route_in_file(&predictor.url(), HOLD));
    let (status, body) = held.await.expect("the task ends");
    assert_eq!((status, body.as_str()), (StatusCode::OK, ROW));
    assert_eq!(predictor.received_so_far(), 1);
}

#[tokio::test]
async fn a_request_that_is_sent_again_has_its_revisions_headers_and_is_copied_once() {
    let ill = FakePredictor::answering(|_| Reply::status(StatusCode::SERVICE_UNAVAILABLE)).await;
    let (well, mirror) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let target = |predictor: &FakePredictor| Target::parse_setting(&predictor.url()).expect("an endpoint");
    let mut route = mirrored(&ill, &mirror, |_| {});
    route.protection.idempotent = true;
    let revision = &mut route.revisions[0];
    revision.endpoints.push(target(&well));
    let header = "x-revision".parse().expect("a name");
    revision.headers = vec![(header, "stable".parse().expect("a value"))];
    let gateway = TestGateway::start(vec![route], |_| {});
    let mut requests = 0;
    while ill.received_so_far() == 0 {
        assert_eq!(text(gateway.infer("churn").await).await, ROW);
        requests += 1;
    }
    let sent = [ill.received(1).await, well.received(requests).await].concat();
    assert!(
        sent.iter()
            .all(|request| request.header("x-revision") == "stable")
    );
    gateway
        .until_counted(&format!(
            r#"plumbline_gateway_mirror_requests_total{{model="churn",outcome="answered"}} {requests}"#
        ))
        .await;
    let copies = mirror.received(requests).await;
    assert_eq!(copies.len(), requests);
    assert!(copies.iter().all(|copy| copy.body == ROW));
}

#[tokio::test]
async fn a_changed_file_is_taken_up_while_requests_go_on() {
    let (before, after) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let (gateway, file) = following(&route_in_file(&before.url(), ""));
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    replace(&file, &route_in_file(&after.url(), ""));
    let began = Instant::now();
    while after.received_so_far() == 0 {
        assert!(began.elapsed() < PATIENCE, "the change is not taken up");
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    let metrics = gateway.admin("/metrics").await;
    assert!(
        metrics.contains(r#"plumbline_gateway_config_reloads_total{outcome="replaced"} 1"#),
        "{metrics}"
    );
    assert!(!metrics.contains(&before.url()), "{metrics}");
    gateway.begin_shutdown();
    gateway.drained().await;
}

#[tokio::test]
async fn the_pages_show_all_of_a_route() {
    let (stable, canary) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let route = RouteSpec {
        hosts: vec!["churn.example.com".to_owned(), "not a host".to_owned()],
        revisions: vec![revision("stable", 9, &stable), revision("canary", 1, &canary)],
        matches: vec![MatchSpec {
            header: "x-cohort".parse().expect("a name"),
            value: HeaderValue::from_static("beta"),
            revision: "canary".to_owned(),
        }],
        sticky: Some(Sticky::Header("x-user".parse().expect("a name"))),
        fallback: Some("stable".to_owned()),
        mirror: Some(MirrorSpec::new(MirrorTo::Revision("canary".to_owned()))),
        ..churn(&[])
    };
    let gateway = TestGateway::start(vec![route], |_| {});
    let page: serde_json::Value = serde_json::from_str(&gateway.admin("/routes").await).expect("JSON");
    let route = &page["routes"][0];
    assert_eq!(route["hosts"], serde_json::json!(["churn.example.com"]));
    assert_eq!(
        route["matches"],
        serde_json::json!([{"header": "x-cohort", "value": "beta", "revision": "canary"}])
    );
    assert_eq!(
        (&route["sticky"], &route["fallback"]),
        (&"header:x-user".into(), &"stable".into())
    );
    assert_eq!(route["mirror"]["revision"], "canary");
    let condition = &page["conditions"][0];
    assert_eq!(
        (&condition["route"], &condition["reason"]),
        (&"churn".into(), &"host_invalid".into())
    );
    assert!(
        condition["problem"]
            .as_str()
            .expect("a text")
            .contains("not a host")
    );
    let html = gateway.admin("/").await;
    for expected in [
        "churn.example.com",
        "x-cohort: beta",
        "sticky by",
        "falls back to stable",
        "100 % copied to canary",
        "Not honoured",
        &stable.url(),
    ] {
        assert!(html.contains(expected), "missing {expected} in:\n{html}");
    }
}
