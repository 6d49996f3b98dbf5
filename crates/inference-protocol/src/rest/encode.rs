//! Writing V2 bodies.

use super::{BINARY_DATA, BINARY_DATA_OUTPUT, BINARY_DATA_SIZE, CLASSIFICATION, Encoding, RestBody};
use crate::{
    InferRequest, InferResponse, NanPolicy, ParameterValue, Parameters, ProtocolError, RequestedOutput,
    RequestedOutputs, Role, Tensor, TensorLabel,
    json::{JsonFloat, Values, write_f64, write_int, write_str},
};

/// Writes a request, all of its inputs in one encoding.
///
/// # Errors
/// [`ProtocolError::NotInJson`], [`ProtocolError::NotFinite`] and [`ProtocolError::Value`] (text that is not UTF-8)
/// for values without a JSON form.
pub fn encode_request(request: &InferRequest, encoding: Encoding) -> Result<RestBody, ProtocolError> {
    let mut writer = Writer::new(request.inputs.iter());
    writer.open();
    if let Some(id) = &request.id {
        writer.string("id", id);
    }
    let default = request
        .outputs
        .binary_data_output
        .map(|binary| (BINARY_DATA_OUTPUT, binary.into()));
    writer.parameters(&request.parameters, default);
    let binary = |_: &str| encoding == Encoding::Binary;
    writer.tensors(Role::Input, &request.inputs, binary, NanPolicy::Error)?;
    if !request.outputs.list.is_empty() {
        writer.requested_outputs(&request.outputs.list);
    }
    Ok(writer.close())
}

/// Writes a response, each output as `requested` has it: JSON, unless binary data was asked for.
///
/// # Errors
/// [`ProtocolError::NotInJson`], [`ProtocolError::NotFinite`] and [`ProtocolError::Value`] (text that is not UTF-8)
/// for values without a JSON form.
pub fn encode_response(
    response: &InferResponse,
    requested: &RequestedOutputs,
    nan: NanPolicy,
) -> Result<RestBody, ProtocolError> {
    let mut writer = Writer::new(response.outputs.iter());
    writer.open();
    writer.string("model_name", &response.model_name);
    if let Some(version) = &response.model_version {
        writer.string("model_version", version);
    }
    if let Some(id) = &response.id {
        writer.string("id", id);
    }
    writer.parameters(&response.parameters, None);
    writer.tensors(
        Role::Output,
        &response.outputs,
        |name| requested.wants_binary(name),
        nan,
    )?;
    Ok(writer.close())
}

struct Writer {
    out: Vec<u8>,
    /// What follows the JSON part.
    binary: Vec<u8>,
    any_binary: bool,
}

impl Writer {
    fn new<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Writer {
        // About what a float takes, and what surrounds it.
        let capacity = tensors.map(|tensor| 96 + tensor.len() * 12).sum::<usize>() + 128;
        Writer {
            out: Vec::with_capacity(capacity),
            binary: Vec::new(),
            any_binary: false,
        }
    }

    fn open(&mut self) {
        self.out.push(b'{');
    }

    fn key(&mut self, key: &str) {
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        write_str(&mut self.out, value);
    }

    fn parameters<'a>(
        &mut self,
        parameters: &'a Parameters,
        more: impl IntoIterator<Item = (&'a str, ParameterValue)>,
    ) {
        let mut more = more.into_iter().peekable();
        if parameters.is_empty() && more.peek().is_none() {
            return;
        }
        self.key("parameters");
        self.open();
        for (name, value) in parameters.iter() {
            self.parameter(name, value);
        }
        for (name, value) in more {
            self.parameter(name, &value);
        }
        self.out.push(b'}');
    }

    fn parameter(&mut self, name: &str, value: &ParameterValue) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        write_str(&mut self.out, name);
        self.out.push(b':');
        match value {
            ParameterValue::Bool(value) => {
                self.out
                    .extend_from_slice(if *value { b"true" } else { b"false" });
            }
            ParameterValue::Int(value) => write_int(&mut self.out, *value),
            ParameterValue::Uint(value) => write_int(&mut self.out, *value),
            ParameterValue::Double(value) if value.non_finite_word().is_none() => {
                write_f64(&mut self.out, *value);
            }
            ParameterValue::Double(_) => self.out.extend_from_slice(b"null"),
            ParameterValue::String(value) => write_str(&mut self.out, value),
        }
    }

    fn tensors(
        &mut self,
        role: Role,
        tensors: &[Tensor],
        binary: impl Fn(&str) -> bool,
        nan: NanPolicy,
    ) -> Result<(), ProtocolError> {
        self.key(match role {
            Role::Input => "inputs",
            Role::Output => "outputs",
        });
        self.out.push(b'[');
        for (index, tensor) in tensors.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(br#"{"name":"#);
            write_str(&mut self.out, tensor.name());
            self.out.extend_from_slice(br#","datatype":""#);
            self.out.extend_from_slice(tensor.datatype().as_str().as_bytes());
            self.out.extend_from_slice(br#"","shape":["#);
            for (index, &dimension) in tensor.shape().dimensions().iter().enumerate() {
                if index > 0 {
                    self.out.push(b',');
                }
                write_int(&mut self.out, dimension);
            }
            self.out.push(b']');
            if binary(tensor.name()) {
                let size = self.append_binary(tensor);
                let size = ParameterValue::Uint(size as u64);
                self.parameters(&tensor.parameters, [(BINARY_DATA_SIZE, size)]);
            } else {
                self.parameters(&tensor.parameters, None);
                self.out.extend_from_slice(br#","data":["#);
                let label = || TensorLabel::new(role, tensor.name());
                Values::of(tensor, role)?.write(0..tensor.len(), nan, label, &mut self.out)?;
                self.out.push(b']');
            }
            self.out.push(b'}');
        }
        self.out.push(b']');
        Ok(())
    }

    /// Adds the raw form of the values; its number of bytes.
    fn append_binary(&mut self, tensor: &Tensor) -> usize {
        self.any_binary = true;
        let before = self.binary.len();
        append_raw(tensor, &mut self.binary);
        self.binary.len() - before
    }

    fn requested_outputs(&mut self, outputs: &[RequestedOutput]) {
        self.key("outputs");
        self.out.push(b'[');
        for (index, output) in outputs.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.open();
            self.string("name", &output.name);
            let binary = output
                .binary_data
                .map(|binary| (BINARY_DATA, ParameterValue::Bool(binary)));
            let classes = output
                .classification
                .map(|n| (CLASSIFICATION, ParameterValue::Int(i64::from(n))));
            self.parameters(&output.parameters, binary.into_iter().chain(classes));
            self.out.push(b'}');
        }
        self.out.push(b']');
    }

    fn close(mut self) -> RestBody {
        self.out.push(b'}');
        let json_len = self.any_binary.then_some(self.out.len());
        self.out.append(&mut self.binary);
        RestBody {
            body: self.out.into(),
            json_len,
        }
    }
}

/// Appends the raw form that REST and gRPC share.
pub(crate) fn append_raw(tensor: &Tensor, out: &mut Vec<u8>) {
    if let Some(bytes) = tensor.data().as_le_bytes() {
        out.extend_from_slice(bytes);
    } else if let Some(strings) = tensor.data().as_strings() {
        strings.write_length_prefixed(out);
    }
}
