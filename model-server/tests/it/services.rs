//! The services that gRPC's tools expect: health and reflection.

use plumbline_inference_protocol::grpc::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use plumbline_inference_protocol::grpc::reflection::messages::{
    ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};
use plumbline_inference_protocol::grpc::{Method, encode_frame};
use plumbline_model_server::ModelControl;

use crate::models;
use crate::support::{Call, TestServer};

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;
const SERVICE_UNKNOWN: i32 = 3;

async fn watch(server: &TestServer, service: &str) -> Call {
    let request = encode_frame(&HealthCheckRequest {
        service: service.to_owned(),
    });
    server.open(Method::HealthWatch.path(), &[], Some(request)).await
}

async fn status(call: &mut Call) -> i32 {
    call.next::<HealthCheckResponse>().await.expect("a status").status
}

#[tokio::test]
async fn a_watch_tells_each_change_until_the_server_ends() {
    let files = [("a/1/model.onnx", models::simple())];
    let server = TestServer::start_with(&files, |config| {
        config.repository.control = ModelControl::Explicit;
        config.repository.ready_without_models = true;
        config.common.drain_delay = std::time::Duration::ZERO;
    })
    .await;
    let (mut whole, mut model) = (watch(&server, "").await, watch(&server, "a").await);
    assert_eq!(status(&mut whole).await, SERVING);
    assert_eq!(status(&mut model).await, SERVICE_UNKNOWN);
    for (order, expected) in [("load", SERVING), ("unload", SERVICE_UNKNOWN)] {
        server.post(&format!("/v2/repository/models/a/{order}"), "").await;
        let mut told = status(&mut model).await;
        if told == NOT_SERVING {
            told = status(&mut model).await; // it was seen loading
        }
        assert_eq!(told, expected, "{order}");
    }
    server.process.shutdown().begin_now();
    let told = whole.next::<HealthCheckResponse>().await;
    if let Ok(HealthCheckResponse { status }) = told {
        assert_eq!(status, NOT_SERVING);
        assert_eq!(whole.next::<HealthCheckResponse>().await.unwrap_err().code, 14);
    } else {
        assert_eq!(told.unwrap_err().code, 14);
    }
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn health_is_listed() {
    let server = TestServer::start(&[("a.onnx", models::simple())]).await;
    let list: HealthListResponse = server
        .call(Method::HealthList.path(), &HealthListRequest {})
        .await
        .unwrap();
    let mut services: Vec<_> = list
        .statuses
        .iter()
        .map(|(name, is)| (name.as_str(), is.status))
        .collect();
    services.sort_unstable();
    let expected = ["", "a", "inference.GRPCInferenceService"].map(|name| (name, SERVING));
    assert_eq!(services, expected);
}

#[tokio::test]
async fn the_server_describes_itself() {
    let server = TestServer::start(&[("a.onnx", models::simple())]).await;
    for method in [Method::Reflection, Method::ReflectionAlpha] {
        let mut call = server.open(method.path(), &[], None).await;
        let mut ask = async |request: MessageRequest| {
            let message_request = Some(request);
            call.send(encode_frame(&ServerReflectionRequest {
                message_request,
                ..Default::default()
            }));
            let answer: ServerReflectionResponse = call.next().await.unwrap();
            answer.message_response.unwrap()
        };
        let MessageResponse::ListServicesResponse(list) =
            ask(MessageRequest::ListServices("*".to_owned())).await
        else {
            panic!("a list");
        };
        assert!(
            list.service
                .iter()
                .any(|service| service.name == "inference.GRPCInferenceService")
        );
        let symbol = "inference.GRPCInferenceService.ModelInfer".to_owned();
        let MessageResponse::FileDescriptorResponse(files) =
            ask(MessageRequest::FileContainingSymbol(symbol)).await
        else {
            panic!("files");
        };
        assert_eq!(files.file_descriptor_proto.len(), 2);
        call.done();
        assert_eq!(call.next::<ServerReflectionResponse>().await.unwrap_err().code, 0);
    }
}
