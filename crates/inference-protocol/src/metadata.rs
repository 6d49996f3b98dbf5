//! Bodies that describe the server and its models.

use bytes::Bytes;

use crate::{
    TensorSpec,
    grpc::proto,
    json::{write_int, write_str},
};

/// What a server tells about a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelMetadata {
    /// Name of the model.
    pub name: String,
    /// Versions that are served.
    pub versions: Vec<String>,
    /// Format of the model, e.g. `onnxruntime_onnx`.
    pub platform: String,
    /// Inputs.
    pub inputs: Vec<TensorSpec>,
    /// Outputs.
    pub outputs: Vec<TensorSpec>,
}

impl ModelMetadata {
    /// Body of `GET /v2/models/{m}`.
    pub fn to_json(&self) -> Bytes {
        let mut out = Vec::with_capacity(256 + 64 * (self.inputs.len() + self.outputs.len()));
        out.extend_from_slice(b"{\"name\":");
        write_str(&mut out, &self.name);
        out.extend_from_slice(b",\"versions\":");
        write_strings(&mut out, self.versions.iter().map(String::as_str));
        out.extend_from_slice(b",\"platform\":");
        write_str(&mut out, &self.platform);
        out.extend_from_slice(b",\"inputs\":");
        write_specs(&mut out, &self.inputs);
        out.extend_from_slice(b",\"outputs\":");
        write_specs(&mut out, &self.outputs);
        out.push(b'}');
        out.into()
    }

    /// Message of the RPC `ModelMetadata`.
    pub fn to_proto(&self) -> proto::ModelMetadataResponse {
        use proto::model_metadata_response::TensorMetadata;
        let specs = |specs: &[TensorSpec]| {
            let message = |spec: &TensorSpec| TensorMetadata {
                name: spec.name.clone(),
                datatype: spec.datatype.as_str().to_owned(),
                shape: spec.shape.dimensions().to_vec(),
            };
            specs.iter().map(message).collect()
        };
        proto::ModelMetadataResponse {
            name: self.name.clone(),
            versions: self.versions.clone(),
            platform: self.platform.clone(),
            inputs: specs(&self.inputs),
            outputs: specs(&self.outputs),
            ..proto::ModelMetadataResponse::default()
        }
    }
}

/// Body of `GET /v2`.
pub fn server<S: AsRef<str>>(name: &str, version: &str, extensions: &[S]) -> Bytes {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"name\":");
    write_str(&mut out, name);
    out.extend_from_slice(b",\"version\":");
    write_str(&mut out, version);
    out.extend_from_slice(b",\"extensions\":");
    write_strings(&mut out, extensions.iter().map(AsRef::as_ref));
    out.push(b'}');
    out.into()
}

/// Body of both health endpoints: the published text disagrees with its clients about which member each has, so both
/// have both. The status has to say the same.
pub fn health(live: bool, ready: bool) -> Bytes {
    Bytes::from_static(match (live, ready) {
        (true, true) => b"{\"live\":true,\"ready\":true}",
        (true, false) => b"{\"live\":true,\"ready\":false}",
        (false, true) => b"{\"live\":false,\"ready\":true}",
        (false, false) => b"{\"live\":false,\"ready\":false}",
    })
}

/// Body of `GET /v2/models/{m}/ready` and `GET /v1/models/{m}`; `error` says why not, with status 503.
pub fn model_ready(name: &str, ready: bool, error: Option<&str>) -> Bytes {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(b"{\"name\":");
    write_str(&mut out, name);
    out.extend_from_slice(if ready {
        b",\"ready\":true"
    } else {
        b",\"ready\":false"
    });
    if let Some(error) = error {
        out.extend_from_slice(b",\"error\":");
        write_str(&mut out, error);
    }
    out.push(b'}');
    out.into()
}

/// Body of `GET /`: what KServe's V1 client compares with.
pub fn v1_alive() -> Bytes {
    Bytes::from_static(b"{\"status\":\"alive\"}")
}

/// Body of `GET /v1/models`.
pub fn v1_list<S: AsRef<str>>(names: &[S]) -> Bytes {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(b"{\"models\":");
    write_strings(&mut out, names.iter().map(AsRef::as_ref));
    out.push(b'}');
    out.into()
}

fn write_strings<'a>(out: &mut Vec<u8>, strings: impl Iterator<Item = &'a str>) {
    out.push(b'[');
    for (index, string) in strings.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_str(out, string);
    }
    out.push(b']');
}

fn write_specs(out: &mut Vec<u8>, specs: &[TensorSpec]) {
    out.push(b'[');
    for (index, spec) in specs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        write_str(out, &spec.name);
        out.extend_from_slice(b",\"datatype\":");
        write_str(out, spec.datatype.as_str());
        out.extend_from_slice(b",\"shape\":[");
        for (index, &dimension) in spec.shape.dimensions().iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_int(out, dimension);
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b']');
}
