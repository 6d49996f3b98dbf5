//! The extensions over REST and gRPC: repository, configuration, statistics, classification, settings.

use http::StatusCode;
use plumbline_inference_protocol::grpc::{Method, proto};
use plumbline_model_server::ModelControl;
use proto::model_config::SchedulingChoice;
use serde_json::{Value, json};

use crate::models::{self, Dim, Labels};
use crate::support::TestServer;

async fn explicit(files: &[(&str, Vec<u8>)]) -> TestServer {
    TestServer::start_with(files, |config| {
        config.repository.control = ModelControl::Explicit;
        config.repository.ready_without_models = true;
    })
    .await
}

#[tokio::test]
async fn a_model_is_loaded_and_unloaded_over_rest() {
    let server = explicit(&[
        ("a/1/model.onnx", models::simple()),
        ("broken/1/model.onnx", b"no model".to_vec()),
    ])
    .await;
    let index = |body: &'static str| server.post("/v2/repository/index", body);
    let listed = index("").await.json();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|line| line["name"].as_str())
        .collect();
    assert_eq!(names, ["a", "broken"]);
    assert_eq!(index("{\"ready\": true}").await.json(), json!([]));
    assert_eq!(
        server.get("/v2/models/a/ready").await.status,
        StatusCode::NOT_FOUND
    );

    let loaded = server.post("/v2/repository/models/a/load", "").await;
    assert_eq!(
        (loaded.status, loaded.json()),
        (StatusCode::OK, json!({"name": "a", "load": true}))
    );
    assert_eq!(server.get("/v2/models/a/ready").await.status, StatusCode::OK);
    let ready = json!([{"name": "a", "version": "1", "state": "READY", "reason": ""}]);
    assert_eq!(index("{\"ready\": true}").await.json(), ready);

    let broken = server.post("/v2/repository/models/broken/load", "{}").await;
    assert_eq!(
        (broken.status, &broken.json()["code"]),
        (StatusCode::BAD_REQUEST, &json!("load_failed"))
    );
    let unknown = server.post("/v2/repository/models/none/load", "").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{unknown:?}");
    let listed = index("").await.json();
    let line = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["name"] == "broken")
        .unwrap();
    assert_eq!(line["state"], "UNAVAILABLE");
    assert!(!line["reason"].as_str().unwrap().is_empty(), "{line}");

    let body = json!({"parameters": {"unload_dependents": true}}).to_string();
    let unloaded = server.post("/v2/repository/models/a/unload", body).await;
    assert_eq!(
        (unloaded.status, unloaded.json()),
        (StatusCode::OK, json!({"name": "a", "unload": true}))
    );
    assert_eq!(
        server.get("/v2/models/a/ready").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_model_comes_with_the_request_that_loads_it() {
    use base64::Engine as _;

    let server = explicit(&[("a/1/model.onnx", models::simple())]).await;
    let file = base64::engine::general_purpose::STANDARD.encode(models::columns());
    let body = json!({"parameters": {"config": "{}", "file:3/model.onnx": file}}).to_string();
    let loaded = server.post("/v2/repository/models/a/load", body).await;
    assert_eq!(loaded.status, StatusCode::OK, "{loaded:?}");
    let metadata = server.get("/v2/models/a").await.json();
    assert_eq!(
        (&metadata["versions"], &metadata["inputs"][0]["name"]),
        (&json!(["3"]), &json!("id"))
    );
}

#[tokio::test]
async fn both_kinds_of_clients_load_over_grpc() {
    let server = explicit(&[("a/1/model.onnx", models::simple())]).await;
    let ready = async || {
        let request = proto::RepositoryIndexRequest {
            ready: true,
            ..Default::default()
        };
        let index: proto::RepositoryIndexResponse = server
            .call(Method::RepositoryIndex.path(), &request)
            .await
            .unwrap();
        index.models
    };
    // Triton's clients have the model in the second field, KServe's in the first.
    for (repository_name, model_name) in [("", "a"), ("a", "")] {
        let (repository_name, model_name) = (repository_name.to_owned(), model_name.to_owned());
        let load = proto::RepositoryModelLoadRequest {
            repository_name: repository_name.clone(),
            model_name: model_name.clone(),
            ..Default::default()
        };
        let loaded: proto::RepositoryModelLoadResponse = server
            .call(Method::RepositoryModelLoad.path(), &load)
            .await
            .unwrap();
        assert_eq!((loaded.model_name.as_str(), loaded.is_loaded), ("a", true));
        let models = ready().await;
        assert_eq!(models.len(), 1);
        assert_eq!(
            (models[0].version.as_str(), models[0].state.as_str()),
            ("1", "READY")
        );
        let unload = proto::RepositoryModelUnloadRequest {
            repository_name,
            model_name,
            ..Default::default()
        };
        let unloaded: proto::RepositoryModelUnloadResponse = server
            .call(Method::RepositoryModelUnload.path(), &unload)
            .await
            .unwrap();
        assert_eq!((unloaded.model_name.as_str(), unloaded.is_unloaded), ("a", true));
        assert_eq!(ready().await, []);
        let name = "a".to_owned();
        let request = proto::ModelReadyRequest {
            name,
            ..Default::default()
        };
        let answer: proto::ModelReadyResponse =
            server.call(Method::ModelReady.path(), &request).await.unwrap();
        assert!(!answer.ready, "known, and not loaded");
    }
    let metadata = server.get("/v2").await.json();
    let extensions = metadata["extensions"].as_array().unwrap();
    assert!(
        extensions.contains(&json!("model_repository(unload_dependents)")),
        "{metadata}"
    );
}

#[tokio::test]
async fn the_configuration_is_the_same_over_rest_and_grpc() {
    let server = TestServer::start_with(
        &[
            ("columns/2/model.onnx", models::columns()),
            (
                "fixed/model.onnx",
                models::identity(models::FLOAT, &[Dim::Size(2), Dim::Size(3)]),
            ),
            ("churn/model.onnx", models::classifier(&Labels::Strings)),
        ],
        |config| config.instances = std::num::NonZeroUsize::new(3),
    )
    .await;
    let rest = server.get("/v2/models/columns/versions/2/config").await.json();
    let input = |name: &str, data_type: &str| {
        json!({
            "name": name, "data_type": data_type, "format": "FORMAT_NONE", "dims": [1],
            "is_shape_tensor": false, "allow_ragged_batch": false, "optional": false,
        })
    };
    assert_eq!(
        rest["input"],
        json!([input("id", "TYPE_INT64"), input("plan", "TYPE_STRING")])
    );
    assert_eq!(rest["version_policy"], json!({"latest": {"num_versions": 1}}));
    assert_eq!(
        rest["instance_group"],
        json!([{"name": "columns", "kind": "KIND_CPU", "count": 3}])
    );
    assert_eq!(
        (&rest["platform"], &rest["backend"]),
        (&json!("onnxruntime_onnx"), &json!("onnxruntime"))
    );
    assert!(rest["max_batch_size"].as_i64().unwrap() > 1_000, "{rest}");

    let config = async |name: &str| {
        let request = proto::ModelConfigRequest {
            name: name.to_owned(),
            version: String::new(),
        };
        let answer: proto::ModelConfigResponse =
            server.call(Method::ModelConfig.path(), &request).await.unwrap();
        answer.config.unwrap()
    };
    let columns = config("columns").await;
    assert_eq!(rest["max_batch_size"], columns.max_batch_size);
    assert_eq!(
        (columns.input[1].name.as_str(), &columns.input[1].dims[..]),
        ("plan", &[1][..])
    );
    assert_eq!(columns.input[1].data_type(), proto::DataType::TypeString);
    let has_batching = matches!(
        columns.scheduling_choice,
        Some(SchedulingChoice::DynamicBatching(_))
    );
    assert_eq!(rest.get("dynamic_batching").is_some(), has_batching);
    // Without rows, every dimension is one of the tensor.
    let fixed = config("fixed").await;
    assert_eq!((fixed.max_batch_size, &fixed.input[0].dims[..]), (0, &[2, 3][..]));
    let labels = &config("churn").await.parameters["class_labels.output_probability"];
    assert_eq!(labels.string_value, "[\"no\",\"yes\"]");
}

#[tokio::test]
async fn statistics_count_what_ran() {
    let echo = || models::identity(models::FLOAT, &[Dim::Any]);
    let server = TestServer::start(&[("a/model.onnx", echo()), ("b/model.onnx", echo())]).await;
    let infer = async |rows: usize| {
        let input = json!({"name": "x", "datatype": "FP32", "shape": [rows], "data": vec![0.5; rows]});
        server
            .post("/v2/models/a/infer", json!({"inputs": [input]}).to_string())
            .await
            .status
    };
    let stats = async |path: &str| server.get(path).await.json()["model_stats"].clone();
    let before = stats("/v2/models/a/stats").await;
    assert_eq!(
        (&before[0]["inference_count"], &before[0]["last_inference"]),
        (&json!(0), &json!(0))
    );
    for rows in [3, 3, 4] {
        assert_eq!(infer(rows).await, StatusCode::OK);
    }
    let refused = server.post("/v2/models/a/infer", "{}").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);

    let told = stats("/v2/models/a/versions/1/stats").await;
    assert_eq!(told.as_array().unwrap().len(), 1);
    let told = &told[0];
    assert_eq!((&told["name"], &told["version"]), (&json!("a"), &json!("1")));
    assert_eq!(
        (&told["inference_count"], &told["execution_count"]),
        (&json!(10), &json!(3))
    );
    let counts = [
        "success",
        "fail",
        "queue",
        "compute_infer",
        "compute_input",
        "compute_output",
        "cache_hit",
    ];
    let counts = counts.map(|of| told["inference_stats"][of]["count"].as_u64().unwrap());
    assert_eq!(counts, [3, 1, 3, 3, 3, 3, 0]);
    assert!(
        told["inference_stats"]["success"]["ns"].as_u64()
            > told["inference_stats"]["compute_infer"]["ns"].as_u64()
    );
    let sizes: Vec<_> = told["batch_stats"]
        .as_array()
        .unwrap()
        .iter()
        .map(|batch| (&batch["batch_size"], &batch["compute_infer"]["count"]))
        .collect();
    assert_eq!(sizes, [(&json!(3), &json!(2)), (&json!(4), &json!(1))]);
    assert!(told["last_inference"].as_u64().unwrap() > 1_600_000_000_000);

    let all = stats("/v2/models/stats").await;
    let names: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "b"]);
    let request = proto::ModelStatisticsRequest {
        name: "a".to_owned(),
        version: String::new(),
    };
    let message: proto::ModelStatisticsResponse = server
        .call(Method::ModelStatistics.path(), &request)
        .await
        .unwrap();
    assert_eq!(message.model_stats.len(), 1);
    assert_eq!(
        (
            message.model_stats[0].inference_count,
            message.model_stats[0].execution_count
        ),
        (10, 3)
    );
}

#[tokio::test]
async fn classes_are_told_by_value_place_and_label() {
    let server = TestServer::start(&[("churn/model.onnx", models::classifier(&Labels::Strings))]).await;
    let request = |classification: Value| {
        json!({
            "inputs": [{"name": "X", "datatype": "FP32", "shape": [2, 2], "data": [1, 0, 0, 3]}],
            "outputs": [{"name": "output_probability", "parameters": {"classification": classification}}],
        })
        .to_string()
    };
    let answer = server.post("/v2/models/churn/infer", request(json!(1))).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let output = answer.json()["outputs"][0].clone();
    assert_eq!(
        (&output["datatype"], &output["shape"]),
        (&json!("BYTES"), &json!([2, 1]))
    );
    for told in output["data"].as_array().unwrap() {
        let parts: Vec<&str> = told.as_str().unwrap().split(':').collect();
        let [value, index, label] = parts[..] else {
            panic!("{told}");
        };
        assert!((0.5..=1.0).contains(&value.parse::<f64>().unwrap()), "{told}");
        assert_eq!(label, ["no", "yes"][index.parse::<usize>().unwrap()]);
    }
    // None asked for: the values themselves.
    let plain = server
        .post("/v2/models/churn/infer", request(json!(0)))
        .await
        .json();
    assert_eq!(plain["outputs"][0]["datatype"], "FP32");
}

#[tokio::test]
async fn clients_that_look_at_settings_get_the_truth() {
    let server = TestServer::start(&[("a.onnx", models::simple())]).await;
    assert_eq!(
        server.get("/v2/trace/setting").await.json(),
        json!({"trace_level": ["OFF"]})
    );
    assert_eq!(
        server.get("/v2/models/a/trace/setting").await.json(),
        json!({"trace_level": ["OFF"]})
    );
    let logging = server.get("/v2/logging").await.json();
    assert!(
        logging["log_info"].is_boolean() && logging["log_verbose_level"].is_u64(),
        "{logging}"
    );
    assert_eq!(
        server.get("/v2/systemsharedmemory/status").await.json(),
        json!([])
    );
    let removed = server.post("/v2/cudasharedmemory/unregister", "").await;
    assert_eq!((removed.status, &removed.body[..]), (StatusCode::OK, &b""[..]));
    let settings: proto::LogSettingsResponse = server
        .call(Method::LogSettings.path(), &proto::LogSettingsRequest::default())
        .await
        .unwrap();
    assert_eq!(settings.settings.len(), 6);
}

#[tokio::test]
async fn what_is_counted_is_exported_under_triton_s_names_if_asked_for() {
    let files = [("a.onnx", models::identity(models::FLOAT, &[Dim::Any]))];
    let server = TestServer::start_with(&files, |config| config.triton_metrics = true).await;
    let body = r#"{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}"#;
    assert_eq!(
        server.post("/v2/models/a/infer", body).await.status,
        StatusCode::OK
    );
    assert_eq!(
        server.metric("nv_inference_count{model=\"a\",version=\"1\"}"),
        Some(2.0)
    );
    assert_eq!(
        server.metric("nv_inference_request_success{model=\"a\",version=\"1\"}"),
        Some(1.0)
    );
    let server = TestServer::start(&files).await;
    assert_eq!(
        server.metric("nv_inference_count{model=\"a\",version=\"1\"}"),
        None
    );
}
