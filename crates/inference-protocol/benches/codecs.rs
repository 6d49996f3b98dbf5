//! What decoding a request and encoding its answer cost. Named `unit/case/size`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use plumbline_inference_protocol::{
    Datatype, InferRequest, InferResponse, ModelRef, ModelSignature, NanPolicy, RequestedOutputs, Tensor,
    TensorData, TensorSpec,
    grpc::{self, Contents, proto::ModelInferRequest},
    rest::{self, Encoding},
    v1,
};

/// One row of 30 floats with the digits that a 64-bit source gives them.
fn row() -> InferRequest {
    let values: Vec<f64> = (1..=30).map(|n| f64::from(n * 7919 % 1000) / 7.0).collect();
    let x = Tensor::new("x", [1, 30], TensorData::from_vec(values)).expect("30 values");
    InferRequest {
        inputs: vec![x],
        ..InferRequest::default()
    }
}

fn signature() -> ModelSignature {
    ModelSignature {
        model: "mlp".to_owned(),
        inputs: vec![TensorSpec::new("x", Datatype::Fp32, [-1, 30])],
        ..ModelSignature::default()
    }
}

fn codecs(c: &mut Criterion) {
    let signature = signature();
    let json = rest::encode_request(&row(), Encoding::Json)
        .expect("numbers")
        .body;
    // The digits of FP64, read as FP32: what Python clients send.
    let json = Bytes::from(
        String::from_utf8(json.to_vec())
            .expect("JSON")
            .replace("FP64", "FP32"),
    );
    c.bench_function("rest_decode/json/30", |b| {
        b.iter(|| rest::decode_request_for(&signature, black_box(&json), None));
    });

    let x = TensorData::from_vec((0..30_u8).map(f32::from).collect::<Vec<_>>());
    let x = Tensor::new("x", [1, 30], x).expect("30 values");
    let request = InferRequest {
        inputs: vec![x],
        ..InferRequest::default()
    };
    let binary = rest::encode_request(&request, Encoding::Binary).expect("floats");
    let header = binary.json_len.unwrap_or_default().to_string();
    c.bench_function("rest_decode/binary/30", |b| {
        b.iter(|| rest::decode_request_for(&signature, black_box(&binary.body), Some(header.as_bytes())));
    });

    let instances = v1::encode_request(&row().inputs, v1::Form::Rows).expect("numbers");
    c.bench_function("v1_decode/rows/30", |b| {
        b.iter(|| v1::decode_request(&signature, black_box(&instances)));
    });

    let message = grpc::request_to_proto(&ModelRef::new("mlp"), &request, Contents::Raw).expect("raw");
    let frame = grpc::encode_frame(&message);
    c.bench_function("grpc_decode/raw/30", |b| {
        b.iter(|| grpc::decode_frame::<ModelInferRequest>(black_box(&frame)).map(grpc::request_from_proto));
    });
    c.bench_function("grpc_peek/model/30", |b| {
        b.iter(|| grpc::peek_model(black_box(&frame)));
    });

    let p = Tensor::new(
        "p",
        [1, 2],
        TensorData::from_vec(vec![0.731_058_6_f32, 0.268_941_4]),
    )
    .expect("2 values");
    let response = InferResponse {
        model_name: "mlp".to_owned(),
        outputs: vec![p],
        ..InferResponse::default()
    };
    let all = RequestedOutputs::default();
    c.bench_function("rest_encode/json/2", |b| {
        b.iter(|| rest::encode_response(black_box(&response), &all, NanPolicy::Null));
    });
}

criterion_group!(benches, codecs);
criterion_main!(benches);
