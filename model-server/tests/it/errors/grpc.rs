//! Faults over gRPC.

use bytes::Bytes;
use plumbline_inference_protocol::GrpcCode;
use plumbline_inference_protocol::grpc::{self, Method as Rpc, proto};
use proto::infer_parameter::ParameterChoice::{
    self, BoolParam, DoubleParam, Int64Param, StringParam, Uint64Param,
};
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

/// The same with this parameter.
fn with(name: &str, choice: ParameterChoice) -> Bytes {
    message(|message| message.parameters.extend([parameter(name, choice)]))
}

/// The same with the parameter `timeout`, in microseconds.
fn within(micros: i64) -> Bytes {
    with("timeout", Int64Param(micros))
}

/// The same with this parameter of its one requested output.
fn wanting_with(name: &str, choice: ParameterChoice) -> Bytes {
    message(|message| {
        message.outputs = vec![InferRequestedOutputTensor {
            name: "OUTPUT0".to_owned(),
            parameters: [parameter(name, choice)].into(),
        }];
    })
}

fn parameter(name: &str, choice: ParameterChoice) -> (String, proto::InferParameter) {
    let parameter_choice = Some(choice);
    (name.to_owned(), proto::InferParameter { parameter_choice })
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
        ("a timeout", with("timeout", Uint64Param(10_000_000)), OK, ""),
        ("a timeout of no kind", with("timeout", StringParam("soon".into())), INVALID, "timeout"),
        ("fractional timeout", with("timeout", DoubleParam(1.5)), INVALID, "timeout"),
        ("a priority", with("priority", Uint64Param(1)), OK, ""),
        ("negative priority", with("priority", Int64Param(-1)), INVALID, "priority"),
        ("no sequence", with("sequence_id", Int64Param(0)), OK, ""),
        ("a sequence", with("sequence_id", Int64Param(7)), INVALID, "keep no state"),
        ("a named sequence", with("sequence_id", StringParam("a".into())), INVALID, "keep no state"),
        ("end of a sequence", with("sequence_end", BoolParam(true)), INVALID, "keep no state"),
        ("a reserved name", with("triton_mine", BoolParam(true)), INVALID, "reserved"),
        ("binary_data_output of no kind", with("binary_data_output", Int64Param(1)), INVALID, "a boolean"),
        ("classes", wanting_with("classification", Int64Param(2)), OK, ""),
        ("negative classification", wanting_with("classification", Int64Param(-2)), INVALID, "a number of classes"),
        ("an output in shared memory", wanting_with("shared_memory_region", StringParam("r".into())), UNIMPLEMENTED, "output `OUTPUT0`: shared memory"),
        ("an input in shared memory", message(|m| {
            m.inputs[0].parameters.extend([parameter("shared_memory_region", StringParam("r".into()))]);
            m.raw_input_contents.clear();
        }), UNIMPLEMENTED, "input `INPUT0`: shared memory"),
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
#[rustfmt::skip] // a row a line
fn calls() -> Vec<Call> {
    let infer = Rpc::ModelInfer.path();
    vec![
        ("unknown RPC", "/inference.GRPCInferenceService/ModelGuess", None, UNIMPLEMENTED),
        ("unknown service", "/inference.Other/ModelInfer", None, UNIMPLEMENTED),
        ("unknown RPC of health", "/grpc.health.v1.Health/Guess", None, UNIMPLEMENTED),
        ("unknown version of reflection", "/grpc.reflection.v2.ServerReflection/ServerReflectionInfo", None, UNIMPLEMENTED),
        ("a REST path", "/v2/health/live", None, UNIMPLEMENTED),
        ("readiness of no model", Rpc::ModelReady.path(), None, NOT_FOUND),
        ("metadata of no model", Rpc::ModelMetadata.path(), None, NOT_FOUND),
        ("configuration of no model", Rpc::ModelConfig.path(), None, NOT_FOUND),
        ("statistics of all", Rpc::ModelStatistics.path(), None, OK),
        ("index", Rpc::RepositoryIndex.path(), None, OK),
        ("load where files decide", Rpc::RepositoryModelLoad.path(), None, UNIMPLEMENTED),
        ("unload where files decide", Rpc::RepositoryModelUnload.path(), None, UNIMPLEMENTED),
        ("trace settings", Rpc::TraceSetting.path(), None, OK),
        ("log settings", Rpc::LogSettings.path(), None, OK),
        ("status of shared memory", Rpc::SystemSharedMemoryStatus.path(), None, OK),
        ("shared memory", Rpc::SystemSharedMemoryRegister.path(), None, UNIMPLEMENTED),
        ("no more shared memory", Rpc::CudaSharedMemoryUnregister.path(), None, OK),
        // The header offers; each message tells for itself whether it is compressed.
        ("gzip unused", infer, Some(("grpc-encoding", "gzip")), OK),
        ("snappy", infer, Some(("grpc-encoding", "snappy")), UNIMPLEMENTED),
        ("identity", infer, Some(("grpc-encoding", "identity")), OK),
        ("call timeout", infer, Some(("grpc-timeout", "1n")), LATE),
        ("long call timeout", infer, Some(("grpc-timeout", "99999999H")), OK),
        ("malformed call timeout", infer, Some(("grpc-timeout", "soon")), INVALID),
    ]
}

/// Messages of other RPCs.
#[rustfmt::skip] // a row a line
fn others() -> Vec<(&'static str, Rpc, Bytes, GrpcCode, &'static str)> {
    use proto::model_repository_parameter::ParameterChoice as Choice;

    let garbage = Bytes::from_static(&[0, 0, 0, 0, 2, 0xff, 0xff]);
    let version = |name: &str| (name.to_owned(), "9".to_owned());
    let (name, nine) = version("simple");
    let config = grpc::encode_frame(&proto::ModelConfigRequest { name, version: nine });
    let (name, nine) = version("simple");
    let statistics = grpc::encode_frame(&proto::ModelStatisticsRequest { name, version: nine });
    let none = grpc::encode_frame(&proto::ModelStatisticsRequest { name: "none".into(), version: String::new() });
    let index = grpc::encode_frame(&proto::RepositoryIndexRequest { repository_name: "other".into(), ready: true });
    let load = |repository: &str, name: &str, choice| grpc::encode_frame(&proto::RepositoryModelLoadRequest {
        repository_name: repository.to_owned(),
        model_name: "simple".to_owned(),
        parameters: [(name.to_owned(), proto::ModelRepositoryParameter { parameter_choice: Some(choice) })].into(),
    });
    let unload = grpc::encode_frame(&proto::RepositoryModelUnloadRequest {
        model_name: "simple".to_owned(),
        parameters: [("unload_dependents".to_owned(), proto::ModelRepositoryParameter {
            parameter_choice: Some(Choice::Int64Param(1)),
        })].into(),
        ..proto::RepositoryModelUnloadRequest::default()
    });
    let trace = grpc::encode_frame(&proto::TraceSettingRequest {
        settings: [("trace_level".to_owned(), proto::trace_setting_request::SettingValue::default())].into(),
        model_name: String::new(),
    });
    let traced = grpc::encode_frame(&proto::TraceSettingRequest { model_name: "none".into(), ..Default::default() });
    let log = grpc::encode_frame(&proto::LogSettingsRequest {
        settings: [("log_info".to_owned(), proto::log_settings_request::SettingValue::default())].into(),
    });
    let region = grpc::encode_frame(&proto::SystemSharedMemoryStatusRequest { name: "r".into() });
    vec![
        ("configuration of garbage", Rpc::ModelConfig, garbage.clone(), INVALID, "protobuf"),
        ("configuration of no version", Rpc::ModelConfig, config, NOT_FOUND, "version 9"),
        ("statistics of no version", Rpc::ModelStatistics, statistics, NOT_FOUND, "version 9"),
        ("statistics of no model", Rpc::ModelStatistics, none, NOT_FOUND, "unknown model: 'none'"),
        ("index of garbage", Rpc::RepositoryIndex, garbage.clone(), INVALID, "protobuf"),
        ("index of no repository", Rpc::RepositoryIndex, index, INVALID, "unknown repository `other`"),
        ("load from no repository", Rpc::RepositoryModelLoad, load("other", "config", Choice::StringParam("{}".into())), INVALID, "unknown repository"),
        ("load with an unknown parameter", Rpc::RepositoryModelLoad, load("", "mine", Choice::BoolParam(true)), INVALID, "unknown parameter `mine`"),
        ("load with a wrong configuration", Rpc::RepositoryModelLoad, load("", "config", Choice::Int64Param(1)), INVALID, "parameters.config"),
        ("load with a wrong file", Rpc::RepositoryModelLoad, load("", "file:1/model.onnx", Choice::StringParam("x".into())), INVALID, "bytes_param"),
        ("unload with a wrong parameter", Rpc::RepositoryModelUnload, unload, INVALID, "unload_dependents"),
        ("another trace level", Rpc::TraceSetting, trace, UNIMPLEMENTED, "trace settings"),
        ("trace settings of no model", Rpc::TraceSetting, traced, NOT_FOUND, "unknown model"),
        ("another log level", Rpc::LogSettings, log, UNIMPLEMENTED, "log settings"),
        ("a region that is none", Rpc::SystemSharedMemoryStatus, region, INVALID, "region `r`"),
        ("health of garbage", Rpc::HealthCheck, garbage.clone(), INVALID, "protobuf"),
        ("health watch of garbage", Rpc::HealthWatch, garbage, INVALID, "protobuf"),
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
    for (what, rpc, body, code, says) in others() {
        check(what, server.call_raw(rpc.path(), &[], body).await, code, says);
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
