//! Faults over gRPC.

use bytes::Bytes;
use plumbline_inference_protocol::GrpcCode;
use plumbline_inference_protocol::grpc::{self, Method as Rpc, proto};
use proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};

use super::{MAX_BODY_BYTES, server};
use crate::support::Failure;

const OK: GrpcCode = GrpcCode::Ok;
const INVALID: GrpcCode = GrpcCode::InvalidArgument;
const LATE: GrpcCode = GrpcCode::DeadlineExceeded;
const NOT_FOUND: GrpcCode = GrpcCode::NotFound;
const EXHAUSTED: GrpcCode = GrpcCode::ResourceExhausted;
const UNIMPLEMENTED: GrpcCode = GrpcCode::Unimplemented;

/// The text that Triton's example clients look for.
const RAW_AND_TYPED: &str =
    "contents field must not be specified when using raw_input_contents for 'INPUT0' for model 'simple'";

type Message = proto::ModelInferRequest;

/// A valid message for `simple` after `change`, framed.
fn message(change: impl FnOnce(&mut Message)) -> Bytes {
    let input = |name: &str| {
        let (name, datatype) = (name.to_owned(), "INT32".to_owned());
        InferInputTensor {
            name,
            datatype,
            shape: vec![1, 4],
            ..InferInputTensor::default()
        }
    };
    let raw: Bytes = [1, 2, 3, 4_i32].into_iter().flat_map(i32::to_le_bytes).collect();
    let mut message = Message {
        model_name: "simple".to_owned(),
        inputs: vec![input("INPUT0"), input("INPUT1")],
        raw_input_contents: vec![raw.clone(), raw],
        ..Message::default()
    };
    change(&mut message);
    grpc::encode_frame(&message)
}

fn contents(values: &[i32]) -> proto::InferTensorContents {
    proto::InferTensorContents {
        int_contents: values.to_vec(),
        ..proto::InferTensorContents::default()
    }
}

/// The same with typed contents.
fn typed(values: &[i32]) -> Bytes {
    message(|message| {
        message.raw_input_contents.clear();
        message
            .inputs
            .iter_mut()
            .for_each(|input| input.contents = Some(contents(values)));
    })
}

/// The same with these requested outputs.
fn wanting(names: &[&str]) -> Bytes {
    let output = |name: &&str| InferRequestedOutputTensor {
        name: (*name).to_owned(),
        ..InferRequestedOutputTensor::default()
    };
    message(|message| message.outputs = names.iter().map(output).collect())
}

/// The same with the parameter `timeout`, in microseconds.
fn within(micros: i64) -> Bytes {
    use proto::infer_parameter::ParameterChoice;

    let timeout = proto::InferParameter {
        parameter_choice: Some(ParameterChoice::Int64Param(micros)),
    };
    message(|message| message.parameters.extend([("timeout".to_owned(), timeout)]))
}

/// What is sent to `ModelInfer`, the code that has to come back, and a part of its message.
#[rustfmt::skip] // a row a line
fn messages() -> Vec<(&'static str, Bytes, GrpcCode, &'static str)> {
    vec![
        ("all is well", message(|_| {}), OK, ""),
        ("typed is well", typed(&[1, 2, 3, 4]), OK, ""),
        ("no frame", Bytes::new(), INVALID, "gRPC"),
        ("half a frame", message(|_| {}).slice(..20), INVALID, "gRPC"),
        ("two frames", [message(|_| {}), message(|_| {})].concat().into(), INVALID, "gRPC"),
        ("no message", Bytes::from_static(&[0, 0, 0, 0, 2, 0xff, 0xff]), INVALID, "protobuf"),
        ("compressed", Bytes::from_static(&[1, 0, 0, 0, 1, 0]), UNIMPLEMENTED, "identity"),
        ("unknown model", message(|m| m.model_name = "none".into()), NOT_FOUND, "Request for unknown model: 'none'"),
        ("no model", message(|m| m.model_name.clear()), NOT_FOUND, "Request for unknown model"),
        ("unknown version", message(|m| m.model_version = "9".into()), NOT_FOUND, "version 9"),
        ("version of letters", message(|m| m.model_version = "new".into()), NOT_FOUND, "version new"),
        ("unknown datatype", message(|m| m.inputs[0].datatype = "INT33".into()), INVALID, "INT33"),
        ("no datatype", message(|m| m.inputs[0].datatype.clear()), INVALID, "`INPUT0`"),
        ("other datatype", message(|m| m.inputs[0].datatype = "FP32".into()), INVALID, "expected datatype INT32, got FP32"),
        ("other shape", message(|m| m.inputs[0].shape = vec![4, 1]), INVALID, "expected shape [-1, 4], got [4, 1]"),
        ("negative dimension", message(|m| m.inputs[0].shape = vec![-1, 4]), INVALID, "negative"),
        ("overflowing shape", message(|m| m.inputs[0].shape = vec![i64::MAX, 4]), INVALID, "overflow"),
        ("too few bytes", message(|m| m.raw_input_contents[0].truncate(12)), INVALID, "expected 16 bytes"),
        ("too few values", typed(&[1, 2, 3]), INVALID, "expected 4 values"),
        ("no values", message(|m| m.raw_input_contents.clear()), INVALID, "`INPUT0`"),
        ("one raw for two inputs", message(|m| m.raw_input_contents.truncate(1)), INVALID, "raw_input_contents"),
        ("raw and typed", message(|m| m.inputs[0].contents = Some(contents(&[1, 2, 3, 4]))), INVALID, RAW_AND_TYPED),
        ("unknown input", message(|m| m.inputs[0].name = "INPUT9".into()), INVALID, "unexpected input `INPUT9`"),
        ("missing input", message(|m| {
            m.inputs.truncate(1);
            m.raw_input_contents.truncate(1);
        }), INVALID, "missing `INPUT1`"),
        ("input twice", message(|m| m.inputs[0].name = "INPUT1".into()), INVALID, "given twice"),
        ("no inputs", message(|m| {
            m.inputs.clear();
            m.raw_input_contents.clear();
        }), INVALID, "missing"),
        ("unknown output", wanting(&["OUTPUT9"]), INVALID, "unexpected output `OUTPUT9`"),
        ("output twice", wanting(&["OUTPUT0", "OUTPUT0"]), INVALID, "given twice"),
        ("different rows", message(|m| {
            m.inputs[1].shape = vec![2, 4];
            m.raw_input_contents[1] = Bytes::from(vec![0; 32]);
        }), INVALID, "expected 1 rows"),
        ("too late", within(1), LATE, "deadline"),
        ("negative timeout", within(-1), INVALID, "timeout"),
        ("too large", message(|m| m.raw_input_contents[0] = vec![0; MAX_BODY_BYTES].into()), EXHAUSTED, "4096 bytes"),
    ]
}

/// What it is, the path, a header, the code that has to come back.
type Call = (
    &'static str,
    &'static str,
    Option<(&'static str, &'static str)>,
    GrpcCode,
);

/// RPCs that are sent an empty message, and headers that are sent with a valid inference.
fn calls() -> Vec<Call> {
    let infer = Rpc::ModelInfer.path();
    vec![
        (
            "unknown RPC",
            "/inference.GRPCInferenceService/ModelGuess",
            None,
            UNIMPLEMENTED,
        ),
        (
            "unknown service",
            "/inference.Other/ModelInfer",
            None,
            UNIMPLEMENTED,
        ),
        ("a REST path", "/v2/health/live", None, UNIMPLEMENTED),
        ("statistics", Rpc::ModelStatistics.path(), None, UNIMPLEMENTED),
        ("repository", Rpc::RepositoryIndex.path(), None, UNIMPLEMENTED),
        ("health watch", Rpc::HealthWatch.path(), None, UNIMPLEMENTED),
        ("readiness of no model", Rpc::ModelReady.path(), None, NOT_FOUND),
        ("metadata of no model", Rpc::ModelMetadata.path(), None, NOT_FOUND),
        // The header offers; each message tells for itself whether it is compressed.
        ("gzip unused", infer, Some(("grpc-encoding", "gzip")), OK),
        ("snappy", infer, Some(("grpc-encoding", "snappy")), UNIMPLEMENTED),
        ("identity", infer, Some(("grpc-encoding", "identity")), OK),
        ("call timeout", infer, Some(("grpc-timeout", "1n")), LATE),
        (
            "long call timeout",
            infer,
            Some(("grpc-timeout", "99999999H")),
            OK,
        ),
        (
            "malformed call timeout",
            infer,
            Some(("grpc-timeout", "soon")),
            INVALID,
        ),
    ]
}

#[tokio::test]
async fn every_fault_has_its_code_and_a_sentence() {
    let server = server().await;
    let mut wrong = Vec::new();
    let mut check = |what: &str, answer: Result<Bytes, Failure>, code: GrpcCode, says: &str| {
        let (got, message) =
            answer.map_or_else(|failure| (failure.code, failure.message), |_| (0, String::new()));
        if got != code.as_i32() || !message.contains(says) || (got != 0 && message.is_empty()) {
            wrong.push(format!(
                "{what}: expected {} {says:?}, got {got} {message:?}",
                code.as_i32()
            ));
        }
    };
    for (what, body, code, says) in messages() {
        check(
            what,
            server.call_raw(Rpc::ModelInfer.path(), &[], body).await,
            code,
            says,
        );
    }
    for (what, path, header, code) in calls() {
        let body = match header {
            Some(_) => message(|_| {}),
            None => grpc::encode_frame(&proto::ServerLiveRequest {}),
        };
        check(
            what,
            server.call_raw(path, header.as_slice(), body).await,
            code,
            "",
        );
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}
