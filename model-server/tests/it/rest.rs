//! V2 over REST: JSON, binary tensors, raw binary requests, metadata and health.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, StatusCode};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use plumbline_model_server::VersionPolicy;
use serde_json::json;
use tokio::sync::mpsc;

use crate::models::{self, Dim, ELEMENTS, Labels};
use crate::support::TestServer;

#[tokio::test]
async fn json_in_json_out() {
    let server = TestServer::start(&[("simple/model.onnx", models::simple())]).await;
    let body = json!({
        "id": "42",
        "inputs": [
            {"name": "INPUT0", "datatype": "INT32", "shape": [2, 4], "data": [[1, 2, 3, 4], [5, 6, 7, 8]]},
            {"name": "INPUT1", "datatype": "INT32", "shape": [2, 4], "data": [1, 1, 1, 1, 2, 2, 2, 2]},
        ],
    });
    let headers = [("x-request-id", "order-17")];
    let answer = server
        .send(
            Method::POST,
            "/v2/models/simple/infer",
            &headers,
            body.to_string(),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["x-request-id"], "order-17");
    assert_eq!(
        answer.json(),
        json!({
            "model_name": "simple",
            "model_version": "1",
            "id": "42",
            "outputs": [
                {"name": "OUTPUT0", "shape": [2, 4], "datatype": "INT32", "data": [2, 3, 4, 5, 7, 8, 9, 10]},
                {"name": "OUTPUT1", "shape": [2, 4], "datatype": "INT32", "data": [0, 1, 2, 3, 3, 4, 5, 6]},
            ],
        })
    );
    let series = "plumbline_server_request_duration_seconds_count\
                  {code=\"200\",model=\"simple\",protocol=\"v2\",version=\"1\"}";
    assert_eq!(server.metric(series), Some(1.0));
    assert_eq!(
        server.metric("plumbline_server_batch_rows_sum{model=\"simple\",version=\"1\"}"),
        Some(2.0)
    );
    assert_eq!(
        server.metric("plumbline_server_overhead_duration_seconds_count{model=\"simple\",version=\"1\"}"),
        Some(1.0)
    );
    assert_eq!(
        server.metric("plumbline_server_model_ready{model=\"simple\",version=\"1\"}"),
        Some(1.0)
    );
}

#[tokio::test]
async fn only_requested_outputs_are_returned_in_the_order_asked_for() {
    let server = TestServer::start(&[("simple/model.onnx", models::simple())]).await;
    let input =
        |name: &str| json!({"name": name, "datatype": "INT32", "shape": [1, 4], "data": [4, 3, 2, 1]});
    let body = json!({
        "inputs": [input("INPUT1"), input("INPUT0")], // any order
        "outputs": [{"name": "OUTPUT1"}, {"name": "OUTPUT0"}],
    });
    let answer = server
        .post("/v2/models/simple/versions/1/infer", body.to_string())
        .await
        .json();
    assert_eq!(answer["outputs"][0]["name"], "OUTPUT1");
    assert_eq!(answer["outputs"][0]["data"], json!([0, 0, 0, 0]));
    assert_eq!(answer["outputs"][1]["data"], json!([8, 6, 4, 2]));
    assert_eq!(answer.get("id"), None);
}

#[tokio::test]
async fn the_specifications_binary_vector_is_understood_and_answered_in_kind() {
    // research/model-servers.md §2.4: 215 bytes of JSON, then x = [1, -2.5] and s = ["ab", ""].
    let json_part = concat!(
        r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}},"#,
        r#"{"name":"s","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":10}}],"#,
        r#""parameters":{"binary_data_output":true}}"#
    );
    assert_eq!(json_part.len(), 215);
    let binary = b"\x00\x00\x80\x3f\x00\x00\x20\xc0\x02\0\0\0ab\0\0\0\0";
    let mut body = json_part.as_bytes().to_vec();
    body.extend_from_slice(binary);
    let graph = models::Graph {
        initializers: Vec::new(),
        nodes: vec![
            models::node("Identity", "", &["x"], &["x_out"], &[]),
            models::node("Identity", "", &["s"], &["s_out"], &[]),
        ],
        inputs: vec![
            models::value("x", models::tensor_type(models::FLOAT, &[Dim::Any, Dim::Size(2)])),
            models::value("s", models::tensor_type(models::STRING, &[Dim::Any])),
        ],
        outputs: vec![
            models::value(
                "x_out",
                models::tensor_type(models::FLOAT, &[Dim::Any, Dim::Size(2)]),
            ),
            models::value("s_out", models::tensor_type(models::STRING, &[Dim::Any])),
        ],
    };
    let server = TestServer::start(&[("both/model.onnx", graph.model())]).await;
    let headers = [("inference-header-content-length", "215")];
    let answer = server
        .send(Method::POST, "/v2/models/both/infer", &headers, body)
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/octet-stream");
    let length: usize = answer.headers["inference-header-content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let head: serde_json::Value = serde_json::from_slice(&answer.body[..length]).unwrap();
    assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], 8);
    assert_eq!(head["outputs"][1]["parameters"]["binary_data_size"], 10);
    assert_eq!(&answer.body[length..], binary);
}

#[tokio::test]
async fn every_datatype_goes_through_bit_by_bit() {
    let files: Vec<(String, Vec<u8>)> = ELEMENTS
        .iter()
        .map(|(element, name)| {
            (
                format!("{name}/model.onnx"),
                models::identity(*element, &[Dim::Any, Dim::Size(2)]),
            )
        })
        .collect();
    let files: Vec<(&str, Vec<u8>)> = files
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.clone()))
        .collect();
    let server = TestServer::start(&files).await;
    for (_, name) in ELEMENTS {
        let binary: Vec<u8> = match name {
            "BYTES" => b"\x03\0\0\0a\0b\x00\0\0\0".to_vec(), // a string with a NUL, and an empty one
            "BOOL" => vec![1, 0],
            "FP16" | "BF16" | "UINT16" | "INT16" => vec![0x01, 0x80, 0xff, 0x3c],
            "UINT8" | "INT8" => vec![0x80, 0x7f],
            "UINT64" | "INT64" | "FP64" => (0..16).map(|byte| byte * 13 + 1).collect(),
            _ => vec![1, 2, 3, 0x40, 0x80, 0xff, 0x7f, 0x3f],
        };
        // The JSON part has one of four lengths modulo 4, so that tensors start unaligned, too.
        for pad in ["", " ", "  ", "   "] {
            let head = json!({
                "inputs": [{
                    "name": "x", "shape": [1, 2], "datatype": name,
                    "parameters": {"binary_data_size": binary.len()},
                }],
                "parameters": {"binary_data_output": true},
            });
            let head = format!("{head}{pad}");
            let mut body = head.clone().into_bytes();
            body.extend_from_slice(&binary);
            let length = head.len().to_string();
            let headers = [("inference-header-content-length", length.as_str())];
            let answer = server
                .send(Method::POST, &format!("/v2/models/{name}/infer"), &headers, body)
                .await;
            assert_eq!(answer.status, StatusCode::OK, "{name}: {answer:?}");
            assert_eq!(&answer.body[answer.body.len() - binary.len()..], binary, "{name}");
        }
    }
}

#[tokio::test]
async fn the_same_values_give_the_same_bits_wherever_they_lie() {
    let server = TestServer::start(&[("mean/model.onnx", models::mean())]).await;
    let values: Vec<f32> = (0..45_u16)
        .map(|i| (f32::from(i) * 0.739).sin() * 1_000.0)
        .collect();
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [45], "data": values}]});
    let answer = server
        .post("/v2/models/mean/infer", body.to_string())
        .await
        .json();
    let expected = answer["outputs"][0]["data"][0].as_f64().unwrap() as f32;
    let binary: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    for pad in 0..16 {
        let parameters = json!({"binary_data_size": binary.len()});
        let input = json!({"name": "x", "datatype": "FP32", "shape": [45], "parameters": parameters});
        let head = json!({"inputs": [input]}).to_string() + &" ".repeat(pad);
        let body = [head.as_bytes(), &binary].concat();
        let length = head.len().to_string();
        let headers = [("inference-header-content-length", length.as_str())];
        let answer = server
            .send(Method::POST, "/v2/models/mean/infer", &headers, body)
            .await
            .json();
        let got = answer["outputs"][0]["data"][0].as_f64().unwrap() as f32;
        assert_eq!(got.to_bits(), expected.to_bits(), "{pad}: {got} and {expected}");
    }
}

#[tokio::test]
async fn a_raw_binary_request_is_the_single_input() {
    let model = models::identity(models::FLOAT, &[Dim::Any, Dim::Size(2)]);
    let server = TestServer::start(&[("raw.onnx", model)]).await;
    let values: Vec<u8> = [1.5_f32, -2.0, 3.25, 4.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let headers = [("inference-header-content-length", "0")];
    let answer = server
        .send(Method::POST, "/v2/models/raw/infer", &headers, values.clone())
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let length: usize = answer.headers["inference-header-content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let head: serde_json::Value = serde_json::from_slice(&answer.body[..length]).unwrap();
    assert_eq!(head["outputs"][0]["shape"], json!([2, 2]));
    assert_eq!(&answer.body[length..], values);
}

#[tokio::test]
async fn an_output_that_is_an_input_outlives_the_request() {
    let server = TestServer::start(&[("through/model.onnx", models::pass_through())]).await;
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [-1.5, 2]}]});
    let answer = server
        .post("/v2/models/through/infer", body.to_string())
        .await
        .json();
    assert_eq!(answer["outputs"][0]["data"], json!([-1.5, 2.0]));
    assert_eq!(answer["outputs"][1]["data"], json!([1.5, 2.0]));
}

#[tokio::test]
async fn a_request_without_rows_gets_an_answer_without_rows() {
    let model = models::identity(models::FLOAT, &[Dim::Any, Dim::Size(2)]);
    let server = TestServer::start(&[("none.onnx", model)]).await;
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [0, 2], "data": []}]});
    let answer = server
        .post("/v2/models/none/infer", body.to_string())
        .await
        .json();
    assert_eq!(answer["outputs"][0]["shape"], json!([0, 2]));
    assert_eq!(answer["outputs"][0]["data"], json!([]));
}

#[tokio::test]
async fn numbers_that_json_does_not_have_follow_the_policy() {
    use plumbline_inference_protocol::NanPolicy;

    let bytes: Vec<u8> = [f32::NAN, f32::INFINITY]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let head = json!({"inputs": [{
        "name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8},
    }]})
    .to_string();
    let body = [head.as_bytes(), &bytes].concat();
    let length = head.len().to_string();
    for (policy, expected) in [
        (NanPolicy::Null, "[null,null]"),
        (NanPolicy::Literal, "[NaN,Infinity]"),
    ] {
        let model = models::identity(models::FLOAT, &[Dim::Any, Dim::Size(2)]);
        let server = TestServer::start_with(&[("m.onnx", model)], |config| config.nan_policy = policy).await;
        let headers = [("inference-header-content-length", length.as_str())];
        let answer = server
            .send(Method::POST, "/v2/models/m/infer", &headers, body.clone())
            .await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn a_zip_map_is_served_as_a_tensor_that_knows_its_classes() {
    let server = TestServer::start(&[("churn/model.onnx", models::classifier(&Labels::Strings))]).await;
    let metadata = server.get("/v2/models/churn").await.json();
    assert_eq!(
        metadata,
        json!({
            "name": "churn",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 2]}],
            "outputs": [
                {"name": "output_label", "datatype": "BYTES", "shape": [-1]},
                {"name": "output_probability", "datatype": "FP32", "shape": [-1, 2]},
            ],
            "properties": {"class_labels.output_probability": "[\"no\",\"yes\"]"},
        })
    );
    let body =
        json!({"inputs": [{"name": "X", "datatype": "FP32", "shape": [2, 2], "data": [1, 0, 0, 0.5]}]});
    let answer = server
        .post("/v2/models/churn/infer", body.to_string())
        .await
        .json();
    assert_eq!(answer["outputs"][0]["data"], json!(["yes", "no"]));
    let probabilities = &answer["outputs"][1];
    assert_eq!(probabilities["parameters"]["class_labels"], "[\"no\",\"yes\"]");
    let expected = (2.0_f64).exp() / ((2.0_f64).exp() + 1.0);
    // FP32 keeps about seven digits.
    assert!(
        (probabilities["data"][1].as_f64().unwrap() - expected).abs() < 1e-6,
        "{probabilities}"
    );
    assert!(
        (probabilities["data"][0].as_f64().unwrap() + expected - 1.0).abs() < 1e-6,
        "{probabilities}"
    );
}

#[tokio::test]
async fn weights_beside_the_model_are_found_and_are_no_inputs() {
    let weights: Vec<u8> = [10.0_f32, 20.0].into_iter().flat_map(f32::to_le_bytes).collect();
    let files = [
        ("m/model.onnx", models::external_weights()),
        ("m/weights.bin", weights),
    ];
    let server = TestServer::start(&files).await;
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]});
    let answer = server.post("/v2/models/m/infer", body.to_string()).await.json();
    assert_eq!(answer["outputs"][0]["data"], json!([11.0, 22.0]));
}

#[tokio::test]
async fn versions_are_served_side_by_side_and_the_newest_by_default() {
    let of_width = |width| models::identity(models::FLOAT, &[Dim::Any, Dim::Size(width)]);
    let files = [
        ("m/2/model.onnx", of_width(2)),
        ("m/10/model.onnx", of_width(10)),
        ("m/1/x.onnx", of_width(1)),
    ];
    let server = TestServer::start_with(&files, |config| {
        config.repository.version_policy = VersionPolicy::All;
    })
    .await;
    let shape = async |path: &str| server.get(path).await.json()["inputs"][0]["shape"][1].clone();
    assert_eq!(shape("/v2/models/m").await, 10);
    assert_eq!(shape("/v2/models/m/versions/2").await, 2);
    assert_eq!(
        server.get("/v2/models/m").await.json()["versions"],
        json!(["1", "2", "10"])
    );
    assert_eq!(
        server.get("/v2/models/m/versions/3/ready").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn health_and_metadata() {
    let server = TestServer::start_with(&[("m.onnx", models::simple())], |config| {
        let path = config.repository.model_repository.take().unwrap().join("m.onnx");
        config.repository.models = vec![plumbline_model_server::ModelPath::named("odd name%", path)];
        config.server_name = "triton".to_owned();
    })
    .await;
    for path in [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/health/ready?query=ignored",
    ] {
        let answer = server.get(path).await;
        assert_eq!(
            (answer.status, answer.json()),
            (StatusCode::OK, json!({"live": true, "ready": true}))
        );
    }
    let metadata = server.get("/v2").await.json();
    assert_eq!(metadata["name"], "triton");
    assert_eq!(metadata["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        metadata["extensions"],
        json!([
            "binary_tensor_data",
            "classification",
            "model_configuration",
            "model_repository",
            "non_tensor_outputs",
            "parameters",
            "schedule_policy",
            "statistics",
        ])
    );
    let ready = server.get("/v2/models/odd%20name%25/ready").await;
    assert_eq!(
        (ready.status, ready.json()),
        (StatusCode::OK, json!({"name": "odd name%", "ready": true}))
    );
    let head = server.send(Method::HEAD, "/v2", &[], "").await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    server.process.shutdown().begin_now();
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_drains_is_not_ready_and_finishes_what_it_has() {
    let server = TestServer::start(&[("simple/model.onnx", models::simple())]).await;
    // A connection for the probe, opened before the port closes.
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let input =
        |name: &str| json!({"name": name, "datatype": "INT32", "shape": [1, 4], "data": [4, 3, 2, 1]});
    let body = json!({"inputs": [input("INPUT0"), input("INPUT1")]}).to_string();
    let (head, tail) = body.split_at(20);
    let (send, parts) = mpsc::unbounded_channel();
    send.send(Bytes::copy_from_slice(head.as_bytes())).unwrap();
    let request = http::Request::post("/v2/models/simple/infer").header("host", "localhost");
    let request = request.body(Parts(parts)).unwrap();
    let answer = tokio::spawn(client.send_request(request));
    // In flight once its head has been read: the server then answers a probe on another connection.
    assert_eq!(server.get("/v2/health/ready").await.status, StatusCode::OK);
    server.process.shutdown().begin_now();
    // The listener closes soon after; poll for it, bounded.
    let mut refused = false;
    for _ in 0..10_000 {
        refused = tokio::net::TcpStream::connect(server.address).await.is_err();
        if refused {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(refused, "the port still accepts");
    assert!(!server.process.readiness().is_ready());
    send.send(Bytes::copy_from_slice(tail.as_bytes())).unwrap();
    drop(send);
    let answer = answer.await.unwrap().expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    server.serving.await.unwrap().unwrap();
}

/// A body that comes in parts.
struct Parts(mpsc::UnboundedReceiver<Bytes>);

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}
