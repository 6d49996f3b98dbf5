//! A model of two features and two classes: its profile, its rows, and a server that answers for it.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use plumbline_drift::profile::{Datatype, Kind, Role};
use plumbline_drift::{Profile, SplitMix64, SubjectBuilder};
use plumbline_inference_protocol::grpc::{self, Contents, Method};
use plumbline_inference_protocol::{
    InferRequest, InferResponse, ModelRef, NanPolicy, RequestedOutputs, Tensor, TensorData, rest, v1,
};
use plumbline_testkit::predictor::{Received, Reply};

use crate::harness::post;

pub(crate) const CONTRACTS: [&str; 3] = ["monthly", "one year", "two years"];
pub(crate) const INFER: &str = "/v2/models/churn/infer";
pub(crate) const PREDICT: &str = "/v1/models/churn:predict";

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) tenure: f32,
    pub(crate) contract: usize,
}

/// Rows as the model was trained on, in an order that has no pattern.
pub(crate) struct Rows(pub(crate) SplitMix64);

impl Rows {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(crate) fn usual(&mut self, count: usize) -> Vec<Row> {
        let row = |_| Row {
            tenure: (self.0.uniform() * 72.0) as f32,
            contract: (self.0.uniform() * 3.0) as usize,
        };
        (0..count).map(row).collect()
    }

    /// Short tenures and monthly contracts only.
    pub(crate) fn shifted(&mut self, count: usize) -> Vec<Row> {
        let row = |_| Row {
            tenure: (self.0.uniform() * 12.0) as f32,
            contract: 0,
        };
        (0..count).map(row).collect()
    }
}

fn probability(row: Row) -> f32 {
    let monthly = if row.contract == 0 { 0.2 } else { 0.0 };
    (0.75 - row.tenure / 72.0 * 0.7 + monthly).clamp(0.01, 0.99)
}

/// What 2,000 usual rows look like.
pub(crate) fn profile() -> Profile {
    profile_of(&Rows::seeded(1).usual(2_000))
}

/// What these rows look like.
pub(crate) fn profile_of(rows: &[Row]) -> Profile {
    let mut tenure = SubjectBuilder::new("tenure", "tenure", 0, Datatype::Fp32, Kind::Numeric);
    let mut contract = SubjectBuilder::new("contract", "contract", 0, Datatype::Bytes, Kind::Categorical);
    let label = SubjectBuilder::new("churn", "output_label", 0, Datatype::Bytes, Kind::Categorical);
    let mut label = label.role(Role::Label, None);
    let chance = |name, column, class| {
        SubjectBuilder::new(name, "output_probability", column, Datatype::Fp32, Kind::Numeric)
            .role(Role::Probability, Some(class))
    };
    let (mut stays, mut leaves) = (chance("stays", 0, "no"), chance("leaves", 1, "yes"));
    for row in rows {
        let p = probability(*row);
        tenure.push_number(f64::from(row.tenure));
        contract.push_text(CONTRACTS[row.contract]);
        label.push_text(if p >= 0.5 { "yes" } else { "no" });
        stays.push_number(f64::from(1.0 - p));
        leaves.push_number(f64::from(p));
    }
    let profile = Profile::new(
        "churn",
        "3",
        rows.len() as u64,
        vec![tenure.finish(), contract.finish()],
        vec![label.finish(), stays.finish(), leaves.finish()],
    );
    profile.validate().expect("a valid profile");
    profile
}

fn inputs(rows: &[Row]) -> Vec<Tensor> {
    let shape = [rows.len() as i64, 1];
    let tenure = TensorData::from_vec(rows.iter().map(|row| row.tenure).collect());
    let contract = TensorData::from_strings(rows.iter().map(|row| CONTRACTS[row.contract]).collect());
    vec![
        Tensor::new("tenure", shape, tenure).expect("a tensor"),
        Tensor::new("contract", shape, contract).expect("a tensor"),
    ]
}

fn outputs(probabilities: &[f32]) -> Vec<Tensor> {
    let rows = probabilities.len() as i64;
    let labels = probabilities
        .iter()
        .map(|p| if *p >= 0.5 { "yes" } else { "no" })
        .collect();
    let both = probabilities
        .iter()
        .flat_map(|p| [1.0 - p, *p])
        .collect::<Vec<f32>>();
    vec![
        Tensor::new("output_label", [rows], TensorData::from_strings(labels)).expect("a tensor"),
        Tensor::new("output_probability", [rows, 2], TensorData::from_vec(both)).expect("a tensor"),
    ]
}

/// How a request and its answer are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    V1Objects,
    V1Positions,
    V2Json,
    V2Binary,
    GrpcRaw,
    GrpcTyped,
}

impl Wire {
    pub(crate) const ALL: [Self; 6] = [
        Self::V1Objects,
        Self::V1Positions,
        Self::V2Json,
        Self::V2Binary,
        Self::GrpcRaw,
        Self::GrpcTyped,
    ];

    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::GrpcRaw | Self::GrpcTyped)
    }
}

/// A request for the predictions of `rows`.
pub(crate) fn request(wire: Wire, rows: &[Row]) -> Request<Full<Bytes>> {
    let request = InferRequest {
        inputs: inputs(rows),
        ..InferRequest::default()
    };
    match wire {
        Wire::V1Objects => {
            let row =
                |row: &Row| serde_json::json!({"tenure": row.tenure, "contract": CONTRACTS[row.contract]});
            let body = serde_json::json!({"instances": rows.iter().map(row).collect::<Vec<_>>()});
            post(PREDICT, rest::JSON, body.to_string())
        }
        Wire::V1Positions => {
            let row = |row: &Row| serde_json::json!([row.tenure, CONTRACTS[row.contract]]);
            let body = serde_json::json!({"instances": rows.iter().map(row).collect::<Vec<_>>()});
            post(PREDICT, rest::JSON, body.to_string())
        }
        Wire::V2Json | Wire::V2Binary => {
            let encoding = if wire == Wire::V2Json {
                rest::Encoding::Json
            } else {
                rest::Encoding::Binary
            };
            let encoded = rest::encode_request(&request, encoding).expect("encoded");
            let mut post = post(INFER, encoded.content_type(), encoded.body.clone());
            if let Some(length) = encoded.json_len {
                post.headers_mut().insert(rest::HEADER_LENGTH, length.into());
            }
            post
        }
        Wire::GrpcRaw | Wire::GrpcTyped => {
            let contents = if wire == Wire::GrpcRaw {
                Contents::Raw
            } else {
                Contents::Typed
            };
            let message =
                grpc::request_to_proto(&ModelRef::new("churn"), &request, contents).expect("encoded");
            let mut post = post(
                Method::ModelInfer.path(),
                grpc::CONTENT_TYPE,
                grpc::encode_frame(&message),
            );
            post.headers_mut().remove("host");
            post
        }
    }
}

/// Answers as the model does, in the protocol of the request.
pub(crate) fn answer(request: &Received) -> Reply {
    let path = request.path();
    if path == Method::ModelInfer.path() {
        return Reply::grpc(&grpc_answer(&request.body));
    }
    if path == PREDICT {
        let decoded = v1::observe_request(&request.body).expect("a request");
        let [label, chance] = &response(&decoded.inputs).outputs[..] else {
            panic!("two outputs")
        };
        let body = v1::encode_classification(label, &[chance], &["no", "yes"], decoded.form, NanPolicy::Null);
        return Reply::json(body.expect("encoded"));
    }
    if path == INFER {
        let length = request
            .headers
            .get(rest::HEADER_LENGTH)
            .map(http::HeaderValue::as_bytes);
        let decoded = rest::decode_request(&request.body, length).expect("a request");
        let requested = RequestedOutputs {
            binary_data_output: Some(length.is_some()),
            ..RequestedOutputs::default()
        };
        let encoded = rest::encode_response(&response(&decoded.inputs), &requested, NanPolicy::Null);
        let encoded = encoded.expect("encoded");
        let reply = Reply::status(http::StatusCode::OK)
            .header("content-type", encoded.content_type())
            .chunk(encoded.body.clone());
        return match encoded.json_len {
            Some(length) => reply.header(rest::HEADER_LENGTH, &length.to_string()),
            None => reply,
        };
    }
    Reply::json("{}")
}

/// The message that answers the call with this body.
pub(crate) fn grpc_answer(body: &Bytes) -> Vec<u8> {
    let message = grpc::decode_frame::<grpc::proto::ModelInferRequest>(body).expect("one message");
    let contents = if message.raw_input_contents.is_empty() {
        Contents::Typed
    } else {
        Contents::Raw
    };
    let (_, decoded) = grpc::request_from_proto(message).expect("a request");
    let response = grpc::response_to_proto(&response(&decoded.inputs), contents).expect("encoded");
    prost::Message::encode_to_vec(&response)
}

fn response(inputs: &[Tensor]) -> InferResponse {
    let of = |names: [&str; 2]| {
        inputs
            .iter()
            .find(|tensor| names.contains(&tensor.name()))
            .expect("an input")
    };
    let tenure = of(["tenure", "0"]).data().iter_f64().expect("numbers");
    let contract = of(["contract", "1"]).data().as_strings().expect("texts");
    let probabilities: Vec<f32> = tenure
        .zip(contract)
        .map(|(tenure, contract)| {
            let contract = CONTRACTS
                .iter()
                .position(|known| known.as_bytes() == contract)
                .expect("a contract");
            probability(Row {
                tenure: tenure as f32,
                contract,
            })
        })
        .collect();
    InferResponse {
        model_name: "churn".to_owned(),
        model_version: Some("1".to_owned()),
        outputs: outputs(&probabilities),
        ..InferResponse::default()
    }
}
