//! V1's status and metadata of a model: TensorFlow Serving's members beside KServe's.

use plumbline_inference_protocol::{Datatype, ModelRef, ProtocolError, TensorSpec};
use serde_json::{Map, Value, json};

use super::State;
use crate::repository::{IndexEntry, ModelState, Served};

/// `GET /v1/models/{m}[/versions/{v}]` of a model that is served.
pub(super) fn status(state: &State, model: &ModelRef) -> Result<Value, ProtocolError> {
    let served = state.repository.find(model)?;
    let asked = |entry: &IndexEntry| {
        let is_version = model.version.is_none() || entry.version.as_deref() == Some(&*served.model.version);
        entry.name == model.name && entry.version.is_some() && is_version
    };
    let version = |entry: IndexEntry| {
        let (state, code) = match entry.state {
            ModelState::Ready => ("AVAILABLE", "OK"),
            ModelState::Loading => ("LOADING", "OK"),
            ModelState::Unloading => ("UNLOADING", "OK"),
            ModelState::Unavailable | ModelState::Unknown => ("END", "UNAVAILABLE"),
        };
        json!({
            "version": entry.version,
            "state": state,
            "status": {"error_code": code, "error_message": entry.reason},
        })
    };
    let versions = state.repository.index().into_iter().filter(asked).map(version);
    Ok(json!({
        "name": served.model.name,
        "ready": true,
        "model_version_status": versions.collect::<Vec<_>>(),
    }))
}

/// `GET /v1/models/{m}[/versions/{v}]/metadata`.
pub(super) fn metadata(served: &Served) -> Value {
    let tensors = |specs: &[TensorSpec]| {
        let one = |spec: &TensorSpec| (spec.name.clone(), tensor(spec));
        specs.iter().map(one).collect::<Map<_, _>>()
    };
    let signature = &served.model.signature;
    json!({
        "model_spec": {
            "name": served.model.name,
            "signature_name": "",
            "version": served.model.version,
        },
        "metadata": {"signature_def": {"signature_def": {"serving_default": {
            "inputs": tensors(&signature.inputs),
            "outputs": tensors(&signature.outputs),
            "method_name": "tensorflow/serving/predict",
        }}}},
    })
}

/// Numbers are texts, as in the JSON form of TensorFlow's messages.
fn tensor(spec: &TensorSpec) -> Value {
    let dimension = |size: &i64| json!({"size": size.to_string(), "name": ""});
    let dimensions: Vec<Value> = spec.shape.dimensions().iter().map(dimension).collect();
    json!({
        "name": spec.name,
        "dtype": tensorflow_type(spec.datatype),
        "tensor_shape": {"dim": dimensions, "unknown_rank": false},
    })
}

const fn tensorflow_type(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "DT_BOOL",
        Datatype::Uint8 => "DT_UINT8",
        Datatype::Uint16 => "DT_UINT16",
        Datatype::Uint32 => "DT_UINT32",
        Datatype::Uint64 => "DT_UINT64",
        Datatype::Int8 => "DT_INT8",
        Datatype::Int16 => "DT_INT16",
        Datatype::Int32 => "DT_INT32",
        Datatype::Int64 => "DT_INT64",
        Datatype::Fp16 => "DT_HALF",
        Datatype::Bf16 => "DT_BFLOAT16",
        Datatype::Fp32 => "DT_FLOAT",
        Datatype::Fp64 => "DT_DOUBLE",
        Datatype::Bytes => "DT_STRING",
    }
}
