//! What cannot be honoured is told, and harms no other route.

use http::StatusCode;
use plumbline_testkit::kubernetes::inference_service;
use plumbline_testkit::predictor::FakePredictor;
use serde_json::{Value, json};

use super::{Discovering, SLICES, apply_all, has_condition, serving, slice, slices};
use crate::support::churn;

#[tokio::test]
async fn a_service_without_endpoints_keeps_its_route() {
    let predictor = FakePredictor::echo().await;
    let server = serving("churn", &predictor).await;
    let gateway = Discovering::when_ready(&server).await;
    server.apply(slice("churn-predictor", 0, &predictor, json!({"ready": false})));
    gateway.until_endpoints(&[]).await;
    assert_eq!(
        gateway.infer("churn").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    server.delete(SLICES, "models", "churn-predictor-0");
    gateway.until_condition("models/churn", "no_service").await;
    assert_eq!(
        gateway.infer("churn").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(
        gateway
            .metric(r#"plumbline_gateway_route_conditions{reason="no_service"}"#)
            .await,
        1.0
    );
    apply_all(&server, slices("churn-predictor", &[&predictor]));
    gateway.until_endpoints(&[&predictor]).await;
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    assert_eq!(
        gateway
            .metric(r#"plumbline_gateway_route_conditions{reason="no_service"}"#)
            .await,
        0.0
    );
}

#[tokio::test]
async fn what_cannot_be_honoured_is_a_condition_and_harms_no_other_route() {
    let predictor = FakePredictor::echo().await;
    let server = serving("good", &predictor).await;
    let with = |name: &str, change: fn(&mut Value)| {
        let mut object = inference_service(name);
        change(&mut object);
        server.apply(object);
    };
    with("malformed", |object| object["spec"]["predictor"] = "none".into());
    with("mesh", |object| {
        object["status"]["deploymentMode"] = "ModelMesh".into();
    });
    with("percent", |object| {
        object["spec"]["predictor"]["canaryTrafficPercent"] = 10.into();
    });
    with("annotated", |object| {
        object["metadata"]["annotations"] = json!({"plumbline.dev/hold": "soon"});
    });
    with("unknown", |_| {});
    with("second", |object| {
        object["metadata"]["creationTimestamp"] = "2026-11-02T08:00:00Z".into();
        object["spec"]["predictor"]["model"]["args"] = json!(["--model_name=good"]);
    });
    with("portless", |_| {});
    let mut portless = slice("portless-predictor", 0, &predictor, json!({}));
    portless["ports"] = json!([]);
    server.apply(portless);
    with("explained", |object| object["spec"]["explainer"] = json!({}));
    let mut named = slice("explained-predictor", 0, &predictor, json!({}));
    named["addressType"] = "FQDN".into();
    server.apply(named);
    let gateway = Discovering::when_ready(&server).await;
    let page = gateway.admin("/routes").await;
    for (name, reason) in [
        ("malformed", "malformed"),
        ("mesh", "unsupported_mode"),
        ("percent", "canary_not_honoured"),
        ("percent", "no_service"),
        ("annotated", "annotation_invalid"),
        ("unknown", "model_name_invalid"),
        ("second", "model_name_taken"),
        ("portless", "no_port"),
        ("explained", "explainer_not_routed"),
        ("explained", "address_type"),
    ] {
        assert!(
            has_condition(&page, &format!("models/{name}"), reason),
            "{name}, {reason}: {page}"
        );
    }
    assert!(
        page.contains("spec.predictor: "),
        "the place of what is malformed is told: {page}"
    );
    assert_eq!(gateway.infer("good").await.status(), StatusCode::OK);
    assert_eq!(gateway.infer("malformed").await.status(), StatusCode::NOT_FOUND);

    // One that was good before goes on as it was, and its endpoints are followed.
    let mut broken = inference_service("good");
    broken["spec"] = json!({});
    server.apply(broken);
    gateway.until_condition("models/good", "malformed").await;
    let other = FakePredictor::echo().await;
    server.apply(slice("good-predictor", 0, &other, json!({})));
    gateway.until_endpoints(&[&other]).await;
    assert_eq!(gateway.infer("good").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_configuration_wins_over_an_object() {
    let (of_file, of_object) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = serving("churn", &of_object).await;
    let gateway = Discovering::start_with(&server, vec![churn(&[of_file.url()])], |_| {});
    gateway.ready().await;
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    assert_eq!((of_file.received_so_far(), of_object.received_so_far()), (1, 0));
    assert!(has_condition(
        &gateway.admin("/routes").await,
        "models/churn",
        "model_name_taken"
    ));
}
