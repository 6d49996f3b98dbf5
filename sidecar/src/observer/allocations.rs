//! What observing allocates: something per exchange, nothing per row.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use plumbline_drift::SubjectBuilder;
use plumbline_drift::monitor::Settings;
use plumbline_drift::profile::{Datatype, Kind, Profile, Role, Segment, Segmentation, Subject};
use plumbline_inference_protocol::grpc::{self, Contents};
use plumbline_inference_protocol::{
    InferRequest, InferResponse, ModelRef, NanPolicy, RequestedOutputs, StringData, Tensor, TensorData, rest,
};
use plumbline_testkit::allocations::{Counting, so_far};

use super::tests::observing_with;
use super::{Analysis, decode};
use crate::metrics::Metrics;
use crate::observation::Observing;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Two numbers and a text in, two probabilities out: as features and outputs, over every so many rows from the first on.
fn subjects(first: u32, step: usize) -> [Vec<Subject>; 2] {
    let rows = || (first..1_000).step_by(step);
    let mut features = Vec::new();
    for name in ["a", "b"] {
        let mut feature = SubjectBuilder::new(name, name, 0, Datatype::Fp32, Kind::Numeric);
        rows().for_each(|row| feature.push_number(f64::from(row)));
        features.push(feature.finish());
    }
    let mut text = SubjectBuilder::new("c", "c", 0, Datatype::Bytes, Kind::Categorical);
    rows().for_each(|row| text.push_text(if row % 2 == 0 { "even" } else { "odd" }));
    features.push(text.finish());
    let mut outputs = Vec::new();
    for (column, class) in ["no", "yes"].into_iter().enumerate() {
        let output = SubjectBuilder::new(class, "p", column as u32, Datatype::Fp32, Kind::Numeric);
        let mut output = output.role(Role::Probability, Some(class));
        rows().for_each(|row| output.push_number(f64::from(row) / 1_000.0));
        outputs.push(output.finish());
    }
    [features, outputs]
}

/// Even rows are a segment, odd ones the others.
fn observing() -> Arc<Observing> {
    let [features, outputs] = subjects(0, 1);
    let segment = |value: Option<&str>, first: u32| {
        let [features, outputs] = subjects(first, 2);
        Segment {
            value: value.map(str::to_owned),
            rows: 500,
            features,
            outputs,
            seasonality: None,
        }
    };
    let profile = Profile {
        segments: Some(Segmentation {
            feature: "c".to_owned(),
            parts: vec![segment(Some("even"), 0), segment(None, 1)],
        }),
        ..Profile::new("churn", "3", 1_000, features, outputs)
    };
    let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
    // No window closes here: a report is made for each.
    let settings = Settings {
        window_rows: u64::MAX,
        ..Settings::default()
    };
    let analysis = Analysis::new(&profile, settings, &metrics, ["churn", "3"]).expect("a usable profile");
    observing_with(&metrics, vec![("churn".to_owned(), "3".to_owned(), analysis)])
}

#[derive(Clone, Copy, Debug)]
enum Way {
    V1,
    Json,
    Binary,
    Grpc,
}

/// Path, JSON length, and both bodies.
fn exchange(way: Way, rows: usize) -> (&'static str, [Option<String>; 2], [Bytes; 2]) {
    let numbers = |name: &str| {
        let values = (0..rows).map(|row| row as f32).collect();
        Tensor::new(name, [rows as i64, 1], TensorData::from_vec(values)).expect("a tensor")
    };
    let texts: StringData = (0..rows)
        .map(|row| if row % 2 == 0 { "even" } else { "odd" })
        .collect();
    let texts = Tensor::new("c", [rows as i64, 1], TensorData::from_strings(texts)).expect("a tensor");
    let chances = (0..2 * rows).map(|at| (at % 10) as f32 / 10.0).collect();
    let chances = Tensor::new("p", [rows as i64, 2], TensorData::from_vec::<f32>(chances)).expect("a tensor");
    let request = InferRequest {
        inputs: vec![numbers("a"), numbers("b"), texts],
        ..InferRequest::default()
    };
    let response = InferResponse {
        model_name: "churn".to_owned(),
        outputs: vec![chances],
        ..InferResponse::default()
    };
    match way {
        Way::V1 => {
            let row = |row: usize| {
                format!(
                    r#"{{"a":{row},"b":{row},"c":"{}"}}"#,
                    if row.is_multiple_of(2) { "even" } else { "odd" }
                )
            };
            let instances: Vec<String> = (0..rows).map(row).collect();
            let predictions: Vec<&str> = (0..rows).map(|_| "[0.25,0.75]").collect();
            let bodies = [
                format!("{{\"instances\":[{}]}}", instances.join(",")),
                format!("{{\"predictions\":[{}]}}", predictions.join(",")),
            ];
            ("/v1/models/churn:predict", [None, None], bodies.map(Bytes::from))
        }
        Way::Json | Way::Binary => {
            let (encoding, binary) = match way {
                Way::Binary => (rest::Encoding::Binary, true),
                _ => (rest::Encoding::Json, false),
            };
            let request = rest::encode_request(&request, encoding).expect("encoded");
            let requested = RequestedOutputs {
                binary_data_output: Some(binary),
                ..RequestedOutputs::default()
            };
            let response = rest::encode_response(&response, &requested, NanPolicy::Null).expect("encoded");
            let lengths =
                [request.json_len, response.json_len].map(|length| length.map(|length| length.to_string()));
            ("/v2/models/churn/infer", lengths, [request.body, response.body])
        }
        Way::Grpc => {
            let request =
                grpc::request_to_proto(&ModelRef::new("churn"), &request, Contents::Raw).expect("encoded");
            let response = grpc::response_to_proto(&response, Contents::Raw).expect("encoded");
            let bodies = [grpc::encode_frame(&request), grpc::encode_frame(&response)];
            (grpc::Method::ModelInfer.path(), [None, None], bodies)
        }
    }
}

/// Allocations of observing one exchange of `rows` rows, once everything has its size.
fn allocations(observing: &Arc<Observing>, way: Way, rows: usize) -> u64 {
    let (path, [sent, got], [request, response]) = exchange(way, rows);
    let model = observing.models.find("churn", None, true);
    let mut count = 0;
    for _again in 0..3 {
        let mut head = Request::post(path);
        if let Some(length) = &sent {
            head = head.header(rest::HEADER_LENGTH, length);
        }
        let (head, ()) = head.body(()).expect("a request").into_parts();
        let mut exchange = observing.begin(&head, Instant::now()).expect("an inference");
        exchange.put_bodies(&request, &response, got.as_deref());
        let before = so_far();
        for read in decode::read(&mut exchange) {
            let compared = model.with_analysis(|analysis| analysis.observe(&read.rows?, true, 0).map(|_| ()));
            compared.expect("a profile").expect("rows that can be read");
        }
        count = so_far() - before;
    }
    count
}

#[test]
fn a_row_costs_no_allocation() {
    let observing = observing();
    for way in [Way::V1, Way::Json, Way::Binary, Way::Grpc] {
        let [few, many] = [500, 8_000].map(|rows| allocations(&observing, way, rows));
        assert!(few > 0, "the counter counts");
        // A list that doubles as it grows does so four times more.
        assert!(
            many <= few + 4 * 16,
            "{way:?}: {few} for 500 rows, {many} for 8,000"
        );
    }
}
