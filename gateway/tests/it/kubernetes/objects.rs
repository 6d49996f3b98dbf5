//! What becomes of InferenceServices and EndpointSlices.

use http::StatusCode;
use plumbline_gateway::{GuardSpec, Kubernetes};
use plumbline_testkit::kubernetes::{FakeApiServer, inference_service};
use plumbline_testkit::predictor::FakePredictor;
use serde_json::{Value, json};

use super::{Discovering, SERVICES, apply_all, serving, slice, slices};
use crate::support::{Grpc, grpc_infer, infer};

#[tokio::test]
async fn a_model_is_served_where_its_endpoint_slices_say() {
    let predictor = FakePredictor::echo().await;
    let server = serving("churn", &predictor).await;
    let gateway = Discovering::when_ready(&server).await;
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    assert_eq!(gateway.infer("iris").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(predictor.received_so_far(), 1);

    let other = FakePredictor::echo().await;
    server.apply(inference_service("iris"));
    apply_all(&server, slices("iris-predictor", &[&other]));
    gateway.until_endpoints(&[&predictor, &other]).await;
    assert_eq!(gateway.infer("iris").await.status(), StatusCode::OK);
    assert_eq!(other.received_so_far(), 1);

    server.delete(SERVICES, "models", "churn");
    gateway.until_endpoints(&[&other]).await;
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn annotations_say_how_a_model_is_protected() {
    let predictor = FakePredictor::echo().await;
    let server = serving("churn", &predictor).await;
    let mut asleep = inference_service("iris");
    asleep["metadata"]["annotations"] = json!({"plumbline.dev/hold": "60s"});
    server.apply(asleep);
    server.apply(slice("iris-predictor", 0, &predictor, json!({"ready": false})));
    let gateway = Discovering::when_ready(&server).await;
    let mut client = gateway.http1().await;
    let held = tokio::spawn(async move { client.send_request(infer("iris")).await });
    gateway.until_counted("plumbline_gateway_held 1").await;
    apply_all(&server, slices("iris-predictor", &[&predictor]));
    let answer = held.await.expect("no panic").expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_hosts_of_its_urls_lead_to_a_model_but_not_the_predictors_behind_a_transformer() {
    let predictor = FakePredictor::echo().await;
    let server = serving("churn", &predictor).await;
    let mut transformed = inference_service("iris");
    transformed["spec"]["transformer"] = json!({});
    transformed["status"]["components"]["transformer"] =
        json!({"url": "http://iris-transformer-models.example.com"});
    server.apply(transformed);
    apply_all(&server, slices("iris-transformer", &[&predictor]));
    let gateway = Discovering::when_ready(&server).await;
    for (host, expected) in [
        ("churn-models.example.com", StatusCode::OK),
        ("churn-predictor-models.example.com", StatusCode::OK),
        ("iris-models.example.com", StatusCode::OK),
        ("iris-transformer-models.example.com", StatusCode::OK),
        ("iris-predictor-models.example.com", StatusCode::NOT_FOUND),
    ] {
        let mut request = infer("a-name-of-its-own");
        request
            .headers_mut()
            .insert("host", host.parse().expect("a value"));
        assert_eq!(gateway.send(request).await.status(), expected, "{host}");
    }
}

#[tokio::test]
async fn a_terminating_or_unready_endpoint_gets_no_new_requests() {
    let (good, leaving) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = serving("churn", &good).await;
    server.apply(slice(
        "churn-predictor",
        1,
        &leaving,
        json!({"ready": true, "serving": true}),
    ));
    let gateway = Discovering::when_ready(&server).await;
    gateway.until_endpoints(&[&good, &leaving]).await;
    let terminating = json!({"ready": false, "serving": true, "terminating": true});
    server.apply(slice("churn-predictor", 1, &leaving, terminating));
    gateway.until_endpoints(&[&good]).await;
    let before = leaving.received_so_far();
    for _ in 0..20 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    assert_eq!((good.received_so_far(), leaving.received_so_far()), (20, before));
}

/// Of requests, 10 % go to the second revision and the rest to the first.
fn canary_of_knative() -> Value {
    let mut churn = inference_service("churn");
    churn["status"]["deploymentMode"] = "Knative".into();
    churn["status"]["components"]["predictor"] = json!({
        "latestReadyRevision": "churn-predictor-00002",
        "traffic": [
            {"revisionName": "churn-predictor-00002", "latestRevision": true, "percent": 10},
            {"revisionName": "churn-predictor-00001", "latestRevision": false, "percent": 90, "tag": "prev"},
        ],
    });
    churn
}

#[tokio::test]
async fn knative_shares_of_revisions_are_kept_and_each_is_named_to_the_activator() {
    let (old, new) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = FakeApiServer::start().await;
    server.apply(canary_of_knative());
    apply_all(&server, slices("churn-predictor-00001", &[&old]));
    apply_all(&server, slices("churn-predictor-00002", &[&new]));
    let gateway = Discovering::when_ready(&server).await;
    for _ in 0..100 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    assert!(
        new.received_so_far().abs_diff(10) <= 2,
        "{} of 100",
        new.received_so_far()
    );
    let request = &new.received(1).await[0];
    assert_eq!(
        request.header("knative-serving-revision"),
        "churn-predictor-00002"
    );
    assert_eq!(request.header("knative-serving-namespace"), "models");
}

#[tokio::test]
async fn canaries_of_standard_mode_have_services_and_shares_of_their_own() {
    let (stable, canary) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = serving("churn", &stable).await;
    let mut churn = inference_service("churn");
    churn["spec"]["canary"] = json!([{"predictor": {"name": "v2"}, "trafficPercent": 20}]);
    server.apply(churn);
    let gateway = Discovering::when_ready(&server).await;
    gateway.until_condition("models/churn", "canary_not_ready").await;
    for _ in 0..10 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    apply_all(&server, slices("churn-v2-predictor", &[&canary]));
    gateway.until_endpoints(&[&stable, &canary]).await;
    for _ in 0..100 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    assert!(
        canary.received_so_far().abs_diff(20) <= 2,
        "{} of 100",
        canary.received_so_far()
    );
}

/// The revision that the others of the only route are compared with.
async fn compared_with(gateway: &Discovering) -> Value {
    let page: Value = serde_json::from_str(&gateway.admin("/routes").await).expect("JSON");
    page["routes"][0]["guard"]["stable"].clone()
}

#[tokio::test]
async fn canaries_are_compared_with_the_revision_that_was_there_before() {
    let (stable, canary) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let guarded = |kubernetes: &mut Kubernetes| kubernetes.defaults.guard = Some(GuardSpec::new(""));
    let server = serving("churn", &stable).await;
    let gateway = Discovering::start_with(&server, Vec::new(), guarded);
    gateway.ready().await;
    assert_eq!(
        compared_with(&gateway).await,
        Value::Null,
        "one revision has none beside it"
    );
    let mut churn = inference_service("churn");
    churn["spec"]["canary"] = json!([{"predictor": {"name": "v2"}, "trafficPercent": 20}]);
    server.apply(churn);
    apply_all(&server, slices("churn-v2-predictor", &[&canary]));
    gateway.until_endpoints(&[&stable, &canary]).await;
    assert_eq!(compared_with(&gateway).await, "stable");

    let server = FakeApiServer::start().await;
    server.apply(canary_of_knative());
    apply_all(&server, slices("churn-predictor-00001", &[&stable]));
    apply_all(&server, slices("churn-predictor-00002", &[&canary]));
    let gateway = Discovering::start_with(&server, Vec::new(), guarded);
    gateway.ready().await;
    gateway.until_endpoints(&[&stable, &canary]).await;
    assert_eq!(compared_with(&gateway).await, "churn-predictor-00001");
}

#[tokio::test]
async fn grpc_goes_to_the_port_that_says_so() {
    let (rest, grpc) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = FakeApiServer::start().await;
    server.apply(inference_service("churn"));
    let mut slice = slice("churn-predictor", 0, &rest, json!({}));
    slice["ports"] = json!([
        {"name": "http", "port": rest.address().port(), "protocol": "TCP"},
        {"name": "h2c", "port": grpc.address().port(), "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"},
    ]);
    server.apply(slice);
    let gateway = Discovering::when_ready(&server).await;
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    let answer = gateway
        .http2()
        .await
        .send_request(grpc_infer("churn"))
        .await
        .expect("an answer");
    Grpc::of(answer).await;
    assert_eq!((rest.received_so_far(), grpc.received_so_far()), (1, 1));
}
