//! gRPC messages that are none.

use super::Scene;
use crate::support::*;

#[tokio::test]
async fn malformed_messages_get_a_status_and_reach_no_endpoint() {
    let scene = Scene::start().await;
    let infer = model_infer("churn");
    let four_gibibytes = [&[0, 0xff, 0xff, 0xff, 0xff][..], &infer[5..]].concat();
    let compressed = [&[1][..], &infer[1..]].concat();
    let cut_in_the_name = infer[..8].to_vec();
    let not_protobuf = grpc_message(&[0xff; 32]).to_vec();
    for (what, body, status) in [
        ("announces 4 GiB", four_gibibytes, "8"),
        ("says it is compressed", compressed, "12"),
        ("is cut", cut_in_the_name, "3"),
        ("is cut in its frame", infer[..3].to_vec(), "3"),
        ("is nothing", Vec::new(), "3"),
        ("is no protobuf", not_protobuf, "3"),
    ] {
        let request = grpc_request("inference.GRPCInferenceService/ModelInfer", body.into());
        let answer = scene.gateway.grpc(request).await;
        assert_eq!(answer.status(), status, "{what}: {}", answer.message());
        assert_eq!(scene.predictor.received_so_far(), 0, "{what}");
    }
    for timeout in ["999999999999S", "-1S", "1", "1 S", ""] {
        let mut request = grpc_infer("churn");
        let timeout = http::HeaderValue::from_str(timeout).expect("a value");
        request.headers_mut().insert("grpc-timeout", timeout);
        assert_eq!(scene.gateway.grpc(request).await.status(), "3");
    }
    assert_eq!(scene.predictor.received_so_far(), 0);
    // Clients that cannot set it leave it out.
    let mut request = grpc_infer("churn");
    request.headers_mut().remove("te");
    assert_eq!(scene.gateway.grpc(request).await.body, infer);
    scene.unharmed().await;
}

#[tokio::test]
async fn statuses_of_an_endpoint_pass_whatever_they_say() {
    let predictor = FakePredictor::answering(|_| {
        Reply::status(http::StatusCode::OK)
            .header("content-type", "application/grpc")
            .header("grpc-status", "13")
            .header("grpc-message", "%ff%00 not text")
    })
    .await;
    let scene = Scene::with(predictor, |_| {}).await;
    let answer = scene.gateway.grpc(grpc_infer("churn")).await;
    assert_eq!((answer.status(), answer.message()), ("13", "%ff%00 not text"));
    scene.unharmed().await;
}
