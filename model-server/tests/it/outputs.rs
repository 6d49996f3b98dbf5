//! Models beyond plain tensors in and out: sequences, maps, optionals, classifiers of every form, inputs that may be
//! left out or have any rank. Metadata has to say what comes.

use http::StatusCode;
use plumbline_inference_protocol::grpc::proto;
use serde_json::{Value, json};

use crate::models::{
    Dim, FLOAT, Graph, INT64, Labels, Message, STRING, floats, ints, map_type, node, sequence_type, strings,
    tensor_type, text, value,
};
use crate::support::TestServer;

/// `parts` = the sequence of `x` and `y`, which need not have one shape.
fn sequence() -> Vec<u8> {
    Graph {
        initializers: Vec::new(),
        nodes: vec![node("SequenceConstruct", "", &["x", "y"], &["parts"], &[])],
        inputs: vec![
            value("x", tensor_type(FLOAT, &[Dim::Any])),
            value("y", tensor_type(FLOAT, &[Dim::Any])),
        ],
        outputs: vec![value("parts", sequence_type(tensor_type(FLOAT, &[Dim::Any])))],
    }
    .model()
}

async fn metadata(server: &TestServer, model: &str) -> Value {
    server.get(&format!("/v2/models/{model}")).await.json()
}

async fn infer(server: &TestServer, model: &str, body: &Value) -> Value {
    let answer = server
        .post(&format!("/v2/models/{model}/infer"), body.to_string())
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

fn vector(name: &str, values: &[f32]) -> Value {
    json!({"name": name, "datatype": "FP32", "shape": [values.len()], "data": values})
}

#[tokio::test]
async fn a_sequence_is_stacked_or_numbered() {
    let server = TestServer::start(&[("s/model.onnx", sequence())]).await;
    let told = metadata(&server, "s").await;
    assert_eq!(
        told["outputs"],
        json!([{"name": "parts", "datatype": "FP32", "shape": [-1, -1]}])
    );
    assert_eq!(told["properties"]["onnx_type.parts"], "seq(tensor(float))");
    let body = json!({"inputs": [vector("x", &[1.0, 2.0]), vector("y", &[3.0, 4.0])]});
    let equal = infer(&server, "s", &body).await;
    assert_eq!(
        equal["outputs"],
        json!([{"name": "parts", "shape": [2, 2], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}])
    );
    let mut body = json!({"inputs": [vector("x", &[1.0, 2.0]), vector("y", &[3.0])]});
    let part = |index: usize, shape: i64, data: &[f32]| {
        json!({
            "name": format!("parts_{index}"), "shape": [shape], "datatype": "FP32",
            "parameters": {"sequence": "parts", "sequence_length": 2}, "data": data,
        })
    };
    let unequal = infer(&server, "s", &body).await;
    assert_eq!(
        unequal["outputs"],
        json!([part(0, 2, &[1.0, 2.0]), part(1, 1, &[3.0])])
    );
    body["outputs"] = json!([{"name": "parts", "parameters": {"binary_data": true}}]);
    let binary = server.post("/v2/models/s/infer", body.to_string()).await;
    assert_eq!(
        binary.headers["content-type"], "application/octet-stream",
        "{binary:?}"
    );
    assert!(binary.body.ends_with(&3.0_f32.to_le_bytes()));

    let columns = json!({"inputs": {"x": [1, 2], "y": [3]}}).to_string();
    let columns = server.post("/v1/models/s:predict", columns).await.json();
    assert_eq!(
        columns,
        json!({"outputs": {"parts_0": [1.0, 2.0], "parts_1": [3.0]}})
    );
    let rows = json!({"instances": [{"x": 1, "y": 2}]}).to_string();
    let rows = server.post("/v1/models/s:predict", rows).await;
    assert_eq!(rows.status, StatusCode::BAD_REQUEST);
    assert!(rows.error().contains("column format (`inputs`)"), "{rows:?}");
}

#[tokio::test]
async fn an_output_with_the_name_of_a_part_is_refused_at_load() {
    let graph = Graph {
        initializers: Vec::new(),
        nodes: vec![
            node("SequenceConstruct", "", &["x", "x"], &["parts"], &[]),
            node("Abs", "", &["x"], &["parts_1"], &[]),
        ],
        inputs: vec![value("x", tensor_type(FLOAT, &[Dim::Any]))],
        outputs: vec![
            value("parts", sequence_type(tensor_type(FLOAT, &[Dim::Any]))),
            value("parts_1", tensor_type(FLOAT, &[Dim::Any])),
        ],
    };
    let directory = crate::support::models(&[("s/model.onnx", graph.model())]);
    let error = crate::support::start_error(crate::support::config(directory.path())).await;
    assert!(
        error.contains("output `parts_1` has the name that a part"),
        "{error}"
    );
}

#[tokio::test]
async fn an_optional_value_that_is_not_there_has_shape_0() {
    let optional_type = |inner: Message| Message::default().message(9, Message::default().message(1, inner));
    let kind = Message::default()
        .bytes(1, "type")
        .int(20, 13)
        .message(14, tensor_type(INT64, &[Dim::Any]));
    let graph = Graph {
        initializers: Vec::new(),
        nodes: vec![
            node("Optional", "", &[], &["none"], &[kind]),
            node("Optional", "", &["x"], &["some"], &[]),
        ],
        inputs: vec![value("x", tensor_type(FLOAT, &[Dim::Any]))],
        outputs: vec![
            value("none", optional_type(tensor_type(INT64, &[Dim::Any]))),
            value("some", optional_type(tensor_type(FLOAT, &[Dim::Any]))),
        ],
    };
    let server = TestServer::start(&[("o/model.onnx", graph.model())]).await;
    let told = metadata(&server, "o").await;
    assert_eq!(told["properties"]["onnx_type.none"], "optional(tensor(int64))");
    assert_eq!(told["properties"]["any_rank.some"], "true");
    let answer = infer(&server, "o", &json!({"inputs": [vector("x", &[5.0, 6.0])]})).await;
    assert_eq!(
        answer["outputs"],
        json!([
            {"name": "none", "shape": [0], "datatype": "INT64", "parameters": {"absent": true}, "data": []},
            {"name": "some", "shape": [2], "datatype": "FP32", "data": [5.0, 6.0]},
        ])
    );
}

/// A classifier whose `ZipMap` hides in a function of the model, where it stays.
fn maps(labels: &Labels) -> Vec<u8> {
    let (element, classes) = match labels {
        Labels::Strings => (STRING, strings("classlabels_strings", &["no", "yes"])),
        Labels::Ints => (INT64, ints("classlabels_int64s", &[-7, 10])),
    };
    let import = |domain: &str, version: i64| Message::default().bytes(1, domain).int(2, version);
    let function = Message::default()
        .bytes(1, "Zip")
        .bytes(4, "p")
        .bytes(5, "m")
        .message(7, node("ZipMap", "ai.onnx.ml", &["p"], &["m"], &[classes]))
        .message(9, import("ai.onnx.ml", 1))
        .bytes(10, "local");
    let graph = Graph {
        initializers: Vec::new(),
        nodes: vec![node("Zip", "local", &["x"], &["maps"], &[])],
        inputs: vec![value("x", tensor_type(FLOAT, &[Dim::Any, Dim::Size(2)]))],
        outputs: vec![value("maps", sequence_type(map_type(element)))],
    };
    let mut model = graph.model();
    let more = Message::default()
        .message(8, import("local", 1))
        .message(25, function);
    model.extend(more.into_bytes());
    model
}

#[tokio::test]
async fn maps_that_no_surgery_reaches_are_a_matrix_with_class_labels() {
    let files = [
        ("words/model.onnx", maps(&Labels::Strings)),
        ("numbers/model.onnx", maps(&Labels::Ints)),
    ];
    let server = TestServer::start(&files).await;
    for (model, labels, key) in [
        ("words", r#"["no","yes"]"#, "string"),
        ("numbers", r#"["-7","10"]"#, "int64"),
    ] {
        let told = metadata(&server, model).await;
        assert_eq!(
            told["outputs"],
            json!([{"name": "maps", "datatype": "FP32", "shape": [-1, -1]}])
        );
        let kind = format!("seq(map({key},tensor(float)))");
        assert_eq!(told["properties"]["onnx_type.maps"], kind);
        let input = json!({"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]});
        let answer = infer(&server, model, &json!({"inputs": [input]})).await;
        assert_eq!(
            answer["outputs"],
            json!([{
                "name": "maps", "shape": [2, 2], "datatype": "FP32",
                "parameters": {"class_labels": labels}, "data": [1.0, 2.0, 3.0, 4.0],
            }])
        );
        let none = json!({"name": "x", "datatype": "FP32", "shape": [0, 2], "data": []});
        let none = infer(&server, model, &json!({"inputs": [none]})).await;
        assert_eq!(none["outputs"][0]["shape"], json!([0, 0]));
    }
}

/// As converters write classifiers without `ZipMap`: nodes that make `label` and `probabilities` of `scores`.
fn labelled(label: &[Message], label_type: Message, outputs: &[Message]) -> Vec<u8> {
    let nodes = label.iter().cloned();
    let mut outputs = outputs.to_vec();
    outputs.insert(0, value("label", label_type));
    Graph {
        initializers: vec![
            // `TensorProto`s: dims, data type, name, data.
            Message::default()
                .int(1, 2)
                .int(2, STRING)
                .bytes(8, "names")
                .bytes(6, "no")
                .bytes(6, "yes"),
            vector_of("zero", &[0]),
            vector_of("one", &[1]),
            vector_of("two", &[2]),
            vector_of("flat", &[-1]),
        ],
        nodes: nodes.collect(),
        inputs: vec![value("X", tensor_type(FLOAT, &[Dim::Any, Dim::Size(2)]))],
        outputs,
    }
    .model()
}

/// INT64 values of an initializer.
fn vector_of(name: &str, values: &[i64]) -> Message {
    let tensor = Message::default()
        .int(1, values.len() as i64)
        .int(2, INT64)
        .bytes(8, name);
    values.iter().fold(tensor, |tensor, value| tensor.int(7, *value))
}

fn linear(labels: Message) -> Message {
    let attributes = [
        labels,
        floats("coefficients", &[-1.0, 1.0, 1.0, -1.0]),
        floats("intercepts", &[0.0, 0.0]),
        text("post_transform", "SOFTMAX"),
    ];
    node(
        "LinearClassifier",
        "ai.onnx.ml",
        &["X"],
        &["raw_label", "scores"],
        &attributes,
    )
}

#[tokio::test]
async fn a_classifier_without_zip_map_keeps_its_classes() {
    let cast = |to: i64| Message::default().bytes(1, "to").int(20, 2).int(3, to);
    let axis = Message::default().bytes(1, "axis").int(20, 2).int(3, 1);
    let matrix = || value("probabilities", tensor_type(FLOAT, &[Dim::Any, Dim::Size(2)]));
    let column = |name: &str| value(name, tensor_type(FLOAT, &[Dim::Any]));
    let of_node = [
        linear(ints("classlabels_ints", &[4, 9])),
        node("Cast", "", &["raw_label"], &["label"], &[cast(INT64)]),
        node("Identity", "", &["scores"], &["probabilities"], &[]),
    ];
    let picked = [
        linear(ints("classlabels_ints", &[0, 1])),
        node("ArgMax", "", &["scores"], &["position"], &[axis]),
        node(
            "ArrayFeatureExtractor",
            "ai.onnx.ml",
            &["names", "position"],
            &["picked"],
            &[],
        ),
        node("Reshape", "", &["picked", "flat"], &["label"], &[]),
        node("Identity", "", &["scores"], &["probabilities"], &[]),
    ];
    let slice =
        |from: &str, to: &str, name: &str| node("Slice", "", &["scores", from, to, "one"], &[name], &[]);
    let columns = [
        linear(strings("classlabels_strings", &["no", "yes"])),
        node("Identity", "", &["raw_label"], &["label"], &[]),
        slice("zero", "one", "first"),
        slice("one", "two", "second"),
        node("Reshape", "", &["first", "flat"], &["sno"], &[]),
        node("Reshape", "", &["second", "flat"], &["syes"], &[]),
    ];
    // As LightGBM's converter has it: one label, whatever the rows.
    let one = tensor_type(INT64, &[Dim::Size(1)]);
    let words = || tensor_type(STRING, &[Dim::Any]);
    let files = [
        ("node/model.onnx", labelled(&of_node, one, &[matrix()])),
        ("picked/model.onnx", labelled(&picked, words(), &[matrix()])),
        (
            "columns/model.onnx",
            labelled(&columns, words(), &[column("sno"), column("syes")]),
        ),
    ];
    let server = TestServer::start(&files).await;
    let expected = (2.0_f64).exp() / ((2.0_f64).exp() + 1.0);
    for (model, label, class) in [
        ("node", json!(9), "9"),
        ("picked", json!("yes"), "yes"),
        ("columns", json!("yes"), "yes"),
    ] {
        let body = r#"{"instances": [[1, 0], [0, 3]]}"#;
        let answer = server.post(&format!("/v1/models/{model}:predict"), body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let answer = answer.json();
        assert_eq!(answer["predictions"][0]["label"], label, "{answer}");
        let probability = answer["predictions"][0]["probabilities"][class].as_f64().unwrap();
        assert!((probability - expected).abs() < 1e-6, "{answer}");
        assert_eq!(answer["predictions"].as_array().unwrap().len(), 2);
    }
    let node = metadata(&server, "node").await;
    assert_eq!(node["properties"]["class_labels.probabilities"], r#"["4","9"]"#);
    assert_eq!(node["outputs"][0]["shape"], json!([-1]), "32 rows have shown it");
    let columns = metadata(&server, "columns").await;
    assert_eq!(columns["properties"]["class.syes"], "yes");
    assert_eq!(columns["outputs"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_label_of_other_classes_names_none() {
    // The label is picked of three names; the probabilities have two columns, and are made of something else.
    let names = Message::default().int(1, 3).int(2, STRING).bytes(8, "three");
    let names = names.bytes(6, "a").bytes(6, "b").bytes(6, "c");
    let axis = Message::default().bytes(1, "axis").int(20, 2).int(3, 1);
    let graph = Graph {
        initializers: vec![names, vector_of("flat", &[-1])],
        nodes: vec![
            node("ArgMax", "", &["X"], &["position"], &[axis]),
            node(
                "ArrayFeatureExtractor",
                "ai.onnx.ml",
                &["three", "position"],
                &["picked"],
                &[],
            ),
            node("Reshape", "", &["picked", "flat"], &["label"], &[]),
            node("Abs", "", &["X"], &["values"], &[]),
        ],
        inputs: vec![value("X", tensor_type(FLOAT, &[Dim::Any, Dim::Size(2)]))],
        outputs: vec![
            value("label", tensor_type(STRING, &[Dim::Any])),
            value("values", tensor_type(FLOAT, &[Dim::Any, Dim::Size(2)])),
        ],
    };
    let server = TestServer::start(&[("m/model.onnx", graph.model())]).await;
    assert_eq!(metadata(&server, "m").await.get("properties"), None);
    let answer = server
        .post("/v1/models/m:predict", r#"{"instances": [[1, 2]]}"#)
        .await
        .json();
    assert_eq!(
        answer,
        json!({"predictions": [{"label": "b", "values": [1.0, 2.0]}]})
    );
}

#[tokio::test]
async fn several_zip_maps_go_and_what_goes_in_may_be_an_output_itself() {
    let zip = |output: &str| {
        let labels = strings("classlabels_strings", &["no", "yes"]);
        node("ZipMap", "ai.onnx.ml", &["scores"], &[output], &[labels])
    };
    let matrix = |name: &str| value(name, tensor_type(FLOAT, &[Dim::Any, Dim::Size(2)]));
    let maps = |name: &str| value(name, sequence_type(map_type(STRING)));
    let graph = Graph {
        initializers: Vec::new(),
        nodes: vec![node("Identity", "", &["X"], &["scores"], &[]), zip("a"), zip("b")],
        inputs: vec![matrix("X")],
        outputs: vec![maps("a"), matrix("scores"), maps("b")],
    };
    let server = TestServer::start(&[("m/model.onnx", graph.model())]).await;
    let told = metadata(&server, "m").await;
    for (at, name) in ["a", "scores", "b"].into_iter().enumerate() {
        assert_eq!(
            told["outputs"][at],
            json!({"name": name, "datatype": "FP32", "shape": [-1, 2]})
        );
    }
    let labels = r#"["no","yes"]"#;
    assert_eq!(
        told["properties"],
        json!({"class_labels.a": labels, "class_labels.b": labels})
    );
}

/// `y` = `x` + `w`, and `w` is 10 unless the request says otherwise.
fn optional_input() -> Vec<u8> {
    let w = Message::default()
        .int(1, 1)
        .int(2, FLOAT)
        .bytes(8, "w")
        .float(4, 10.0);
    Graph {
        initializers: vec![w],
        nodes: vec![node("Add", "", &["x", "w"], &["y"], &[])],
        inputs: vec![
            value("x", tensor_type(FLOAT, &[Dim::Name("N")])),
            value("w", tensor_type(FLOAT, &[Dim::Size(1)])),
        ],
        outputs: vec![value("y", tensor_type(FLOAT, &[Dim::Name("N")]))],
    }
    .model()
}

#[tokio::test]
async fn an_input_with_a_value_of_its_own_may_be_left_out() {
    let server = TestServer::start(&[("m/model.onnx", optional_input())]).await;
    let told = metadata(&server, "m").await;
    assert_eq!(
        told["inputs"],
        json!([{"name": "x", "datatype": "FP32", "shape": [-1]}])
    );
    let optional: Value =
        serde_json::from_str(told["properties"]["optional_inputs"].as_str().unwrap()).unwrap();
    assert_eq!(optional, json!([{"name": "w", "datatype": "FP32", "shape": [1]}]));
    let without = infer(&server, "m", &json!({"inputs": [vector("x", &[1.0, 2.0])]})).await;
    assert_eq!(without["outputs"][0]["data"], json!([11.0, 12.0]));
    let body = json!({"inputs": [vector("w", &[100.0]), vector("x", &[1.0, 2.0])]});
    let with = infer(&server, "m", &body).await;
    assert_eq!(with["outputs"][0]["data"], json!([101.0, 102.0]));
    let body = json!({"inputs": {"x": [1], "w": [0]}}).to_string();
    let columns = server.post("/v1/models/m:predict", body).await.json();
    assert_eq!(columns, json!({"outputs": [1.0]}));
}

#[tokio::test]
async fn an_input_without_a_shape_takes_any() {
    let open = || Message::default().message(1, Message::default().int(1, FLOAT));
    let graph = Graph {
        initializers: Vec::new(),
        nodes: vec![node("Abs", "", &["x"], &["y"], &[])],
        inputs: vec![value("x", open())],
        outputs: vec![value("y", open())],
    };
    let server = TestServer::start(&[("m/model.onnx", graph.model())]).await;
    let told = metadata(&server, "m").await;
    for side in ["inputs", "outputs"] {
        assert_eq!(told[side][0]["shape"], json!([-1]), "{told}");
    }
    assert_eq!(
        told["properties"],
        json!({"any_rank.x": "true", "any_rank.y": "true"})
    );
    for (shape, data) in [
        (json!([]), json!([3.0])),
        (json!([2, 1]), json!([3.0, 4.0])),
        (json!([0, 3]), json!([])),
    ] {
        let input = json!({"name": "x", "datatype": "FP32", "shape": shape, "data": data});
        let answer = infer(&server, "m", &json!({"inputs": [input]})).await;
        assert_eq!(
            (&answer["outputs"][0]["shape"], &answer["outputs"][0]["data"]),
            (&shape, &data)
        );
    }
    let rows = server
        .post("/v1/models/m:predict", r#"{"instances": [[[-1]], [[2]]]}"#)
        .await
        .json();
    assert_eq!(rows, json!({"predictions": [[[1.0]], [[2.0]]]}));
}

#[tokio::test]
async fn a_model_without_inputs_answers() {
    let constant = Message::default()
        .int(1, 2)
        .int(2, INT64)
        .int(7, 4)
        .int(7, 5)
        .bytes(8, "c");
    let attribute = Message::default()
        .bytes(1, "value")
        .int(20, 4)
        .message(5, constant);
    let graph = Graph {
        initializers: Vec::new(),
        nodes: vec![node("Constant", "", &[], &["y"], &[attribute])],
        inputs: Vec::new(),
        outputs: vec![value("y", tensor_type(INT64, &[Dim::Size(2)]))],
    };
    let server = TestServer::start(&[("m/model.onnx", graph.model())]).await;
    assert_eq!(metadata(&server, "m").await["inputs"], json!([]));
    for body in [
        json!({}),
        json!({"inputs": []}),
        json!({"outputs": [{"name": "y"}]}),
    ] {
        assert_eq!(
            infer(&server, "m", &body).await["outputs"][0]["data"],
            json!([4, 5]),
            "{body}"
        );
    }
    let request = proto::ModelInferRequest {
        model_name: "m".to_owned(),
        ..proto::ModelInferRequest::default()
    };
    let answer: proto::ModelInferResponse = server
        .call("/inference.GRPCInferenceService/ModelInfer", &request)
        .await
        .unwrap();
    assert_eq!(&answer.raw_output_contents[0][..8], 4_i64.to_le_bytes());
    let columns = server
        .post("/v1/models/m:predict", r#"{"inputs": {}}"#)
        .await
        .json();
    assert_eq!(columns, json!({"outputs": [4, 5]}));
    let rows = server
        .post("/v1/models/m:predict", r#"{"instances": [{}]}"#)
        .await;
    assert_eq!(rows.status, StatusCode::BAD_REQUEST, "{rows:?}");
}
