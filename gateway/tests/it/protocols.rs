//! V1, V2 and gRPC by the model's name, streams and trailers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use plumbline_inference_protocol::grpc::{decode_frame, proto};

use crate::support::*;

async fn two_models() -> (FakePredictor, FakePredictor, TestGateway) {
    let churn_predictor = FakePredictor::echo().await;
    let iris_predictor = FakePredictor::echo().await;
    let routes = vec![
        route("churn", &[churn_predictor.url()]),
        route("iris/v1 ü", &[iris_predictor.url()]),
    ];
    let gateway = TestGateway::start(routes, |_| {});
    (churn_predictor, iris_predictor, gateway)
}

#[tokio::test]
async fn rest_requests_go_where_their_path_says() {
    let (churn_predictor, iris_predictor, gateway) = two_models().await;
    let iris = "iris%2Fv1%20%C3%BC";
    for path in [
        "/v1/models/churn:predict".to_owned(),
        "/v2/models/churn/versions/3/infer?trace=1".to_owned(),
        format!("/v1/models/{iris}:predict"),
        format!("/v2/models/{iris}/infer"),
    ] {
        let answer = gateway.send(post(&path, ROW)).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(text(answer).await, ROW);
    }
    for path in [
        "/v1/models/churn",
        "/v2/models/churn",
        "/v2/models/churn/ready",
        "/v2/models/churn/config",
    ] {
        assert_eq!(gateway.send(get(path)).await.status(), StatusCode::OK, "{path}");
    }
    let targets = |requests: Vec<plumbline_testkit::predictor::Received>| -> Vec<String> {
        requests.iter().map(|request| request.uri.to_string()).collect()
    };
    assert_eq!(
        targets(churn_predictor.received(6).await),
        [
            "/v1/models/churn:predict",
            "/v2/models/churn/versions/3/infer?trace=1",
            "/v1/models/churn",
            "/v2/models/churn",
            "/v2/models/churn/ready",
            "/v2/models/churn/config",
        ]
    );
    let iris_targets = targets(iris_predictor.received(2).await);
    assert_eq!(
        iris_targets[1],
        format!("/v2/models/{iris}/infer"),
        "as the client wrote it"
    );
}

#[tokio::test]
async fn grpc_requests_go_where_their_first_message_says() {
    let (churn_predictor, iris_predictor, gateway) = two_models().await;
    for model in ["churn", "iris/v1 ü"] {
        let answer = gateway.grpc(grpc_infer(model)).await;
        assert_eq!(answer.body, model_infer(model), "{model}");
    }
    let metadata = proto::ModelMetadataRequest {
        name: "churn".to_owned(),
        version: String::new(),
    };
    let body = plumbline_inference_protocol::grpc::encode_frame(&metadata);
    gateway
        .grpc(grpc_request("inference.GRPCInferenceService/ModelMetadata", body))
        .await;
    let requests = churn_predictor.received(2).await;
    assert_eq!(requests[0].version, http::Version::HTTP_2);
    assert_eq!(requests[0].header("content-type"), "application/grpc");
    assert_eq!(requests[0].header("te"), "trailers");
    assert_eq!(
        requests[1].path(),
        "/inference.GRPCInferenceService/ModelMetadata"
    );
    assert_eq!(iris_predictor.received(1).await[0].body, model_infer("iris/v1 ü"));
}

#[tokio::test]
async fn a_first_message_in_single_bytes_is_put_together_again() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::before(&predictor);
    let (mut frames, body) = Channel::<Bytes, std::io::Error>::new(1);
    let request = Request::post("http://gateway/inference.GRPCInferenceService/ModelInfer")
        .header("content-type", "application/grpc")
        .body(body)
        .expect("a request");
    let mut client = gateway.http2().await;
    let answer =
        tokio::spawn(async move { Grpc::of(client.send_request(request).await.expect("an answer")).await });
    let message = model_infer("churn");
    for byte in message.chunks(1) {
        frames
            .send_data(Bytes::copy_from_slice(byte))
            .await
            .expect("taken");
    }
    drop(frames);
    assert_eq!(predictor.received(1).await[0].body, message);
    assert_eq!(answer.await.expect("the task ends").body, message);
}

#[tokio::test]
async fn streams_flow_both_ways_before_either_ends() {
    let predictor = FakePredictor::streaming_echo().await;
    let gateway = TestGateway::before(&predictor);
    let (mut frames, body) = Channel::<Bytes, std::io::Error>::new(1);
    let request = Request::post("http://gateway/inference.GRPCInferenceService/ModelStreamInfer")
        .header("content-type", "application/grpc")
        .body(body)
        .expect("a request");
    let mut client = gateway.http2().await;
    let answer = tokio::spawn(async move { client.send_request(request).await.expect("an answer") });
    let message = model_infer("churn");
    frames.send_data(message.clone()).await.expect("taken");
    let mut answer = answer.await.expect("the task ends").into_body();
    for _ in 0..3 {
        let frame = answer.frame().await.expect("a frame").expect("no error");
        assert_eq!(frame.into_data().expect("data"), message);
        frames.send_data(message.clone()).await.expect("taken");
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    frames.send_trailers(trailers).await.expect("taken");
    drop(frames);
    assert_eq!(predictor.received(1).await[0].trailers["grpc-status"], "0");
    assert_eq!(
        answer
            .collect()
            .await
            .expect("an end")
            .trailers()
            .expect("trailers")["grpc-status"],
        "0"
    );
}

#[tokio::test]
async fn a_rest_body_streams_without_being_collected() {
    let predictor = FakePredictor::streaming_echo().await;
    let gateway = TestGateway::before(&predictor);
    let (mut frames, body) = Channel::<Bytes, std::io::Error>::new(1);
    let request = Request::post("/v2/models/churn/infer")
        .header("host", "gateway")
        .body(body)
        .expect("a request");
    let mut client = gateway.http1().await;
    let answer = tokio::spawn(async move { client.send_request(request).await.expect("an answer") });
    frames
        .send_data(Bytes::from_static(b"first"))
        .await
        .expect("taken");
    let mut answer = answer.await.expect("the task ends").into_body();
    let frame = answer.frame().await.expect("a frame").expect("no error");
    assert_eq!(frame.into_data().expect("data"), "first");
    frames
        .send_data(Bytes::from_static(b"second"))
        .await
        .expect("taken");
    drop(frames);
    assert_eq!(answer.collect().await.expect("an end").to_bytes(), "second");
}

#[tokio::test]
async fn statuses_headers_and_trailers_of_an_endpoint_are_not_touched() {
    let predictor = FakePredictor::answering(|request| {
        if request.header("content-type") == "application/grpc" {
            Reply::grpc(b"answer")
                .header("x-custom", "a")
                .trailer("x-checksum", "42")
        } else {
            Reply::json(r#"{"error":"shape"}"#)
                .with_status(StatusCode::UNPROCESSABLE_ENTITY)
                .header("x-custom", "a")
                .header("x-custom", "b")
                .header("connection", "x-hop")
                .header("x-hop", "1")
        }
    })
    .await;
    let gateway = TestGateway::before(&predictor);
    let answer = gateway.infer("churn").await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let values: Vec<_> = answer.headers().get_all("x-custom").iter().collect();
    assert_eq!(values, ["a", "b"]);
    assert!(!answer.headers().contains_key("x-hop"));
    assert_eq!(text(answer).await, r#"{"error":"shape"}"#);
    let answer = gateway.grpc(grpc_infer("churn")).await;
    assert_eq!(
        (answer.status(), &answer.body[..]),
        ("0", &grpc_message(b"answer")[..])
    );
    assert_eq!(
        (&answer.trailers["x-checksum"], &answer.headers["x-custom"]),
        (&"42".parse().expect("a value"), &"a".parse().expect("a value"))
    );
}

#[tokio::test]
async fn a_grpc_failure_of_the_endpoint_passes_as_it_is() {
    let predictor = FakePredictor::answering(|_| Reply::grpc_error(3, "bad shape")).await;
    let gateway = TestGateway::before(&predictor);
    let answer = gateway.grpc(grpc_infer("churn")).await;
    assert_eq!((answer.status(), answer.message()), ("3", "bad shape"));
    assert!(
        answer.headers.contains_key("grpc-status"),
        "in the headers, as it came"
    );
}

#[tokio::test]
async fn a_rest_client_may_speak_http2() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::before(&predictor);
    let mut request = infer("churn");
    request.headers_mut().remove("host");
    *request.uri_mut() = "http://churn.example/v2/models/churn/infer"
        .parse()
        .expect("a URI");
    let answer = gateway
        .http2()
        .await
        .send_request(request)
        .await
        .expect("an answer");
    assert_eq!(text(answer).await, ROW);
    let requests = predictor.received(1).await;
    assert_eq!(requests[0].version, http::Version::HTTP_11);
    assert_eq!(requests[0].header("host"), "churn.example");
    assert_eq!(requests[0].header("content-length"), ROW.len().to_string());
}

#[tokio::test]
async fn the_gateway_speaks_for_itself() {
    let (_churn, _iris, gateway) = two_models().await;
    for (path, expected) in [
        ("/", r#"{"status":"alive"}"#),
        ("/v1/models", r#"{"models":["churn","iris/v1 ü"]}"#),
        ("/v2/health/live", r#"{"live":true,"ready":true}"#),
        ("/v2/health/ready", r#"{"live":true,"ready":true}"#),
    ] {
        let answer = gateway.send(get(path)).await;
        assert_eq!(
            (answer.status(), &*text(answer).await),
            (StatusCode::OK, expected),
            "{path}"
        );
    }
    let metadata: serde_json::Value =
        serde_json::from_str(&text(gateway.send(get("/v2")).await).await).expect("JSON");
    assert_eq!(metadata["name"], "plumbline");
    let service = "inference.GRPCInferenceService";
    let live = gateway
        .grpc(grpc_request(&format!("{service}/ServerLive"), grpc_message(b"")))
        .await;
    assert!(
        decode_frame::<proto::ServerLiveResponse>(&live.body)
            .expect("a message")
            .live
    );
    assert_eq!(live.status(), "0");
    let ready = gateway
        .grpc(grpc_request(&format!("{service}/ServerReady"), grpc_message(b"")))
        .await;
    assert!(
        decode_frame::<proto::ServerReadyResponse>(&ready.body)
            .expect("a message")
            .ready
    );
    let metadata = gateway
        .grpc(grpc_request(
            &format!("{service}/ServerMetadata"),
            grpc_message(b""),
        ))
        .await;
    let metadata = decode_frame::<proto::ServerMetadataResponse>(&metadata.body).expect("a message");
    assert_eq!(metadata.name, "plumbline");
    // HealthCheckRequest { service: "" } and { service: "other" }: field 1, a text.
    let check = "grpc.health.v1.Health/Check";
    let health = gateway.grpc(grpc_request(check, grpc_message(b""))).await;
    assert_eq!(
        (&health.body[..], health.status()),
        (&grpc_message(b"\x08\x01")[..], "0")
    );
    let health = gateway
        .grpc(grpc_request(check, grpc_message(b"\x0a\x05other")))
        .await;
    assert_eq!(health.status(), "5");
}

#[tokio::test]
async fn what_is_not_there_is_told_in_the_clients_own_protocol() {
    let (_churn, _iris, gateway) = two_models().await;
    let answer = gateway.infer("nope").await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert!(
        error_of(answer)
            .await
            .starts_with("Request for unknown model: 'nope'")
    );
    let answer = gateway.grpc(grpc_infer("nope")).await;
    assert_eq!(answer.status(), "5");
    assert!(
        answer.message().starts_with("Request for unknown model: 'nope'"),
        "{}",
        answer.message()
    );
    assert!(answer.trailers.is_empty(), "trailers only, sent as headers");

    let answer = gateway.send(get("/v3/models")).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(error_of(answer).await, "no such path");
    let answer = gateway.send(get("/v2/models/churn/infer")).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()["allow"], "POST");
    assert_eq!(
        gateway.send(post("/v2/repository/index", "{}")).await.status(),
        StatusCode::NOT_IMPLEMENTED
    );
    for method in [
        "inference.GRPCInferenceService/Nope",
        "inference.GRPCInferenceService/RepositoryIndex",
    ] {
        assert_eq!(
            gateway
                .grpc(grpc_request(method, grpc_message(b"")))
                .await
                .status(),
            "12",
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_first_message_that_names_nobody_is_refused() {
    let (churn_predictor, _iris, gateway) = two_models().await;
    let method = "inference.GRPCInferenceService/ModelInfer";
    let mut compressed = model_infer("churn").to_vec();
    compressed[0] = 1;
    for (body, status) in [
        (Bytes::new(), "3"),
        (Bytes::from_static(b"\0\0\0"), "3"),
        (Bytes::from_static(b"\0\0\0\0\x05\x0a\xff\xff\xff\xff"), "3"),
        (compressed.into(), "12"),
        (grpc_message(b""), "5"),
    ] {
        let answer = gateway.grpc(grpc_request(method, body.clone())).await;
        assert_eq!(answer.status(), status, "{body:?}: {}", answer.message());
    }
    assert_eq!(churn_predictor.received_so_far(), 0);
}
