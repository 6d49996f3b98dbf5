//! V2 over gRPC, and `grpc.health.v1`.

use plumbline_inference_protocol::grpc::health::{HealthCheckRequest, HealthCheckResponse};
use plumbline_inference_protocol::grpc::{self, Contents, proto};
use plumbline_inference_protocol::{
    InferRequest, ModelRef, RequestedOutputs, StringData, Tensor, TensorData, grpc::Method,
};

use crate::models::{self, Labels};
use crate::support::TestServer;

fn infer_path() -> &'static str {
    Method::ModelInfer.path()
}

fn request(inputs: Vec<Tensor>, outputs: RequestedOutputs) -> InferRequest {
    InferRequest {
        id: Some("7".to_owned()),
        inputs,
        outputs,
        ..InferRequest::default()
    }
}

#[tokio::test]
async fn raw_and_typed_requests_get_what_they_ask_for() {
    let server = TestServer::start(&[("columns/model.onnx", models::columns())]).await;
    let inputs = || {
        let plans: StringData = ["basic", ""].into_iter().collect();
        vec![
            Tensor::new("id", [2, 1], TensorData::from_vec(vec![3_i64, -4])).unwrap(),
            Tensor::new("plan", [2, 1], TensorData::from_strings(plans)).unwrap(),
        ]
    };
    for contents in [Contents::Raw, Contents::Typed] {
        for binary_data_output in [None, Some(false)] {
            let outputs = RequestedOutputs {
                binary_data_output,
                ..RequestedOutputs::default()
            };
            let message =
                grpc::request_to_proto(&ModelRef::new("columns"), &request(inputs(), outputs), contents);
            let answer: proto::ModelInferResponse =
                server.call(infer_path(), &message.unwrap()).await.unwrap();
            assert_eq!((answer.model_name.as_str(), answer.id.as_str()), ("columns", "7"));
            assert_eq!(answer.model_version, "1");
            // Raw unless the client says otherwise: stock clients read numbers from raw contents only.
            assert_eq!(
                answer.raw_output_contents.is_empty(),
                binary_data_output == Some(false)
            );
            let answer = grpc::response_from_proto(answer).unwrap();
            assert_eq!(answer.outputs[0].data(), inputs()[0].data());
            assert_eq!(answer.outputs[1].data(), inputs()[1].data());
        }
    }
    let series = "plumbline_server_request_duration_seconds_count\
                  {code=\"OK\",model=\"columns\",protocol=\"grpc\",version=\"1\"}";
    assert_eq!(server.metric(series), Some(4.0));
}

#[tokio::test]
async fn a_classifier_tells_its_classes() {
    let server = TestServer::start(&[("churn/model.onnx", models::classifier(&Labels::Ints))]).await;
    let inputs = vec![Tensor::new("X", [1, 2], TensorData::from_vec(vec![1.0_f32, 0.0])).unwrap()];
    let message = grpc::request_to_proto(
        &ModelRef::new("churn"),
        &request(inputs, RequestedOutputs::default()),
        Contents::Raw,
    );
    let answer: proto::ModelInferResponse = server.call(infer_path(), &message.unwrap()).await.unwrap();
    let answer = grpc::response_from_proto(answer).unwrap();
    assert_eq!(
        answer.outputs[0].data().to_slice::<i64>().as_deref(),
        Some(&[1][..])
    );
    assert_eq!(
        answer.outputs[1].class_labels(),
        Some(vec!["0".to_owned(), "1".to_owned()])
    );
    let metadata = proto::ModelMetadataRequest {
        name: "churn".to_owned(),
        version: "1".to_owned(),
    };
    let metadata: proto::ModelMetadataResponse = server
        .call(Method::ModelMetadata.path(), &metadata)
        .await
        .unwrap();
    assert_eq!(
        metadata.properties["class_labels.output_probability"],
        "[\"0\",\"1\"]"
    );
    assert_eq!(metadata.outputs[1].shape, [-1, 2]);
}

#[tokio::test]
async fn health_and_metadata() {
    let server = TestServer::start(&[("simple/model.onnx", models::simple())]).await;
    let live: proto::ServerLiveResponse = server
        .call(Method::ServerLive.path(), &proto::ServerLiveRequest {})
        .await
        .unwrap();
    let ready: proto::ServerReadyResponse = server
        .call(Method::ServerReady.path(), &proto::ServerReadyRequest {})
        .await
        .unwrap();
    assert!(live.live && ready.ready);
    let model = |name: &str| proto::ModelReadyRequest {
        name: name.to_owned(),
        version: String::new(),
    };
    let ready: proto::ModelReadyResponse = server
        .call(Method::ModelReady.path(), &model("simple"))
        .await
        .unwrap();
    assert!(ready.ready);
    let unknown = server
        .call::<_, proto::ModelReadyResponse>(Method::ModelReady.path(), &model("none"))
        .await;
    assert_eq!(unknown.unwrap_err().code, 5);
    let metadata: proto::ServerMetadataResponse = server
        .call(Method::ServerMetadata.path(), &proto::ServerMetadataRequest {})
        .await
        .unwrap();
    assert_eq!(
        (metadata.name.as_str(), metadata.version.as_str()),
        ("plumbline", env!("CARGO_PKG_VERSION"))
    );
    let check = async |service: &str| {
        let message = HealthCheckRequest {
            service: service.to_owned(),
        };
        server
            .call::<_, HealthCheckResponse>(Method::HealthCheck.path(), &message)
            .await
    };
    for service in ["", "inference.GRPCInferenceService", "simple"] {
        assert_eq!(check(service).await.unwrap().status, 1, "{service}");
    }
    assert_eq!(check("none").await.unwrap_err().code, 5);
}
