//! `ModelStreamInfer`.

use bytes::Bytes;
use plumbline_inference_protocol::grpc::{self, Contents, Method, proto};
use plumbline_inference_protocol::{InferRequest, ModelRef, Tensor, TensorData};

use crate::models::{self, Dim};
use crate::support::{Call, TestServer};

type Response = proto::ModelStreamInferResponse;

async fn server() -> TestServer {
    let model = models::identity(models::FLOAT, &[Dim::Any]);
    TestServer::start(&[("echo/model.onnx", model)]).await
}

async fn open(server: &TestServer, headers: &[(&str, &str)]) -> Call {
    server.open(Method::ModelStreamInfer.path(), headers, None).await
}

fn request(model: &str, id: usize) -> Bytes {
    let request = InferRequest {
        id: Some(id.to_string()),
        inputs: vec![Tensor::new("x", [1], TensorData::from_vec(vec![id as f32])).expect("a tensor")],
        ..InferRequest::default()
    };
    let message = grpc::request_to_proto(&ModelRef::new(model), &request, Contents::Raw);
    grpc::encode_frame(&message.expect("raw contents carry all"))
}

#[tokio::test]
async fn responses_come_in_order_and_a_half_closed_stream_ends() {
    let server = server().await;
    let mut call = open(&server, &[]).await;
    // More than may be ahead, cut where no message ends.
    let all: Vec<u8> = (0..100).flat_map(|id| request("echo", id)).collect();
    for piece in all.chunks(77) {
        call.send(piece.to_vec());
    }
    call.done();
    for id in 0..100 {
        let response: Response = call.next().await.unwrap();
        assert_eq!(response.error_message, "");
        let response = response.infer_response.unwrap();
        assert_eq!(response.id, id.to_string());
        assert_eq!(response.raw_output_contents[0][..], (id as f32).to_le_bytes());
    }
    assert_eq!(call.next::<Response>().await.unwrap_err().code, 0);
    let series = "plumbline_server_request_duration_seconds_count\
                  {code=\"OK\",model=\"echo\",protocol=\"grpc\",version=\"1\"}";
    assert_eq!(server.metric(series), Some(100.0));
}

#[tokio::test]
async fn what_is_wrong_with_one_request_does_not_end_the_stream() {
    let server = server().await;
    let mut call = open(&server, &[]).await;
    let malformed = Bytes::from_static(&[0, 0, 0, 0, 2, 0xff, 0xff]);
    for frame in [request("none", 1), malformed, request("echo", 2)] {
        call.send(frame);
    }
    let unknown: Response = call.next().await.unwrap();
    assert_eq!(
        unknown.error_message,
        "Request for unknown model: 'none' is not found"
    );
    assert_eq!(unknown.infer_response.unwrap().id, "1");
    let malformed: Response = call.next().await.unwrap();
    assert!(malformed.error_message.contains("protobuf"), "{malformed:?}");
    let well: Response = call.next().await.unwrap();
    assert_eq!(well.infer_response.unwrap().id, "2");
}

#[tokio::test]
async fn a_broken_frame_a_deadline_and_the_end_of_the_server_end_the_stream() {
    let server = server().await;
    let mut call = open(&server, &[]).await;
    call.send(request("echo", 1).slice(..10));
    call.done();
    assert_eq!(call.next::<Response>().await.unwrap_err().code, 3);
    let mut call = open(&server, &[("grpc-timeout", "1m")]).await;
    assert_eq!(call.next::<Response>().await.unwrap_err().code, 4);
    let mut call = open(&server, &[("grpc-timeout", "soon")]).await;
    assert_eq!(call.next::<Response>().await.unwrap_err().code, 3);
    let mut call = open(&server, &[]).await;
    call.send(request("echo", 1));
    assert!(call.next::<Response>().await.is_ok());
    server.process.shutdown().begin_now();
    let ended = call.next::<Response>().await.unwrap_err();
    assert_eq!(
        (ended.code, ended.message.as_str()),
        (14, "the server is draining")
    );
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_requests_along() {
    let server = server().await;
    let mut call = open(&server, &[]).await;
    call.send(request("echo", 1));
    assert!(call.next::<Response>().await.is_ok());
    drop(call);
    // The server drains at once: nothing of the call is left.
    server.process.shutdown().begin_now();
    server.serving.await.unwrap().unwrap();
}
