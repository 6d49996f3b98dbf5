//! Reading V2 bodies.

use std::str;

use bytes::Bytes;

use super::{
    BINARY_DATA_OUTPUT,
    members::{Seen, each_key, missing, optional, parameters, requested_output, skip, string, take_bool},
    raw_binary,
    tensors::{tensors, with_binary},
};
use crate::{
    InferRequest, InferResponse, ModelSignature, Parameters, ProtocolError, RequestedOutput, Role,
    error::shown,
    json::{Mode, Reader},
};

/// Reads a request, whatever its model: the values agree with the shape that stands beside them, no more.
///
/// `header` is the value of [`super::HEADER_LENGTH`], if the request has it. Binary values stay slices of `body`.
///
/// # Errors
/// What is wrong with the body. [`ProtocolError::RawBinaryWithoutSignature`] for a header of 0.
pub fn decode_request(body: &Bytes, header: Option<&[u8]>) -> Result<InferRequest, ProtocolError> {
    decode_request_in(Mode::Strict, body, split(body, header)?, Inputs::Some)
}

/// Reads a request that another server answers: as [`decode_request`], but lenient where servers are known to be.
/// `null`, `NaN` and `Infinity` stand for floats, and parameters of unknown form are passed over.
///
/// # Errors
/// As [`decode_request`].
pub fn observe_request(body: &Bytes, header: Option<&[u8]>) -> Result<InferRequest, ProtocolError> {
    decode_request_in(Mode::Lenient, body, split(body, header)?, Inputs::Some)
}

/// Reads a request for a model: as [`decode_request`], and the tensors are the model's. A header of 0 makes the
/// body the bytes of the model's only input. `inputs` may be empty, or absent, for a model that needs none.
///
/// # Errors
/// As [`decode_request`] and [`ModelSignature::validate`]; the text names the model.
pub fn decode_request_for(
    signature: &ModelSignature,
    body: &Bytes,
    header: Option<&[u8]>,
) -> Result<InferRequest, ProtocolError> {
    let json_len = split(body, header).map_err(|error| error.in_model(&signature.model))?;
    let inputs = if signature.inputs.is_empty() {
        Inputs::MaybeNone
    } else {
        Inputs::Some
    };
    let request = match json_len {
        Some(0) => raw_binary::decode(signature, body)?,
        json_len => decode_request_in(Mode::Strict, body, json_len, inputs)
            .map_err(|error| error.in_model(&signature.model))?,
    };
    signature.validate(&request)?;
    Ok(request)
}

/// Reads a response of any server: `null` and bare `NaN`, `Infinity` stand for floats without a JSON form, and
/// optional members may be null.
///
/// `header` is the value of [`super::HEADER_LENGTH`], if the response has it. Binary values stay slices of `body`.
///
/// # Errors
/// What is wrong with the body.
pub fn decode_response(body: &Bytes, header: Option<&[u8]>) -> Result<InferResponse, ProtocolError> {
    let json_len = split(body, header)?;
    let mut reader = Reader::new(&body[..json_len.unwrap_or(body.len())], Mode::Lenient)?;
    let mut response = InferResponse::default();
    let mut outputs = None;
    let mut seen = Seen::default();
    each_key(&mut reader, "the response", |reader, key| {
        match key {
            "model_name" => {
                seen.once(1, key)?;
                response.model_name = string(reader, key)?;
            }
            "model_version" => {
                seen.once(2, key)?;
                response.model_version = optional(reader, |reader| string(reader, key))?;
            }
            "id" => {
                seen.once(4, key)?;
                response.id = optional(reader, |reader| string(reader, key))?;
            }
            "parameters" => {
                seen.once(8, key)?;
                response.parameters = optional(reader, |reader| parameters(reader, key))?.unwrap_or_default();
            }
            "outputs" => {
                seen.once(16, key)?;
                outputs = Some(tensors(reader, body, Role::Output)?);
            }
            _ => skip(reader, key)?,
        }
        Ok(())
    })?;
    let outputs = outputs.ok_or_else(|| missing("outputs"))?;
    response.outputs = with_binary(outputs, Role::Output, body, json_len)?;
    Ok(response)
}

/// Whether a request needs inputs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inputs {
    Some,
    MaybeNone,
}

fn decode_request_in(
    mode: Mode,
    body: &Bytes,
    json_len: Option<usize>,
    needed: Inputs,
) -> Result<InferRequest, ProtocolError> {
    if json_len == Some(0) {
        return Err(ProtocolError::RawBinaryWithoutSignature);
    }
    let mut reader = Reader::new(&body[..json_len.unwrap_or(body.len())], mode)?;
    let mut request = InferRequest::default();
    let mut inputs = None;
    let mut seen = Seen::default();
    each_key(&mut reader, "the request", |reader, key| {
        match key {
            "id" => {
                seen.once(1, key)?;
                request.id = optional(reader, |reader| string(reader, key))?;
            }
            "parameters" => {
                seen.once(2, key)?;
                request.parameters = optional(reader, |reader| parameters(reader, key))?.unwrap_or_default();
            }
            "inputs" => {
                seen.once(4, key)?;
                inputs = Some(tensors(reader, body, Role::Input)?);
            }
            "outputs" => {
                seen.once(8, key)?;
                request.outputs.list = optional(reader, requested_outputs)?.unwrap_or_default();
            }
            _ => skip(reader, key)?,
        }
        Ok(())
    })?;
    let inputs = match inputs {
        None if needed == Inputs::Some => return Err(missing("inputs")),
        Some(inputs) if inputs.is_empty() && needed == Inputs::Some => {
            let (expected, got) = ("at least one tensor", "`[]`".into());
            return Err(ProtocolError::Field {
                field: "inputs".into(),
                expected,
                got,
            });
        }
        inputs => inputs.unwrap_or_default(),
    };
    request.outputs.binary_data_output = take_bool(&mut request.parameters, BINARY_DATA_OUTPUT, || {
        format!("parameters.{BINARY_DATA_OUTPUT}")
    })?;
    request.inputs = with_binary(inputs, Role::Input, body, json_len)?;
    Ok(request)
}

/// Length of the JSON part as the header tells it; `None` without a header.
fn split(body: &Bytes, header: Option<&[u8]>) -> Result<Option<usize>, ProtocolError> {
    let Some(header) = header else { return Ok(None) };
    // Not `usize::from_str` alone: it would take a sign.
    let digits = !header.is_empty() && header.iter().all(u8::is_ascii_digit);
    str::from_utf8(header)
        .ok()
        .filter(|_| digits)
        .and_then(|text| text.parse().ok())
        .filter(|&len: &usize| len <= body.len())
        .map(Some)
        .ok_or_else(|| ProtocolError::HeaderLength {
            body: body.len(),
            got: shown(&String::from_utf8_lossy(&header[..header.len().min(32)])),
        })
}

fn requested_outputs(reader: &mut Reader<'_>) -> Result<Vec<RequestedOutput>, ProtocolError> {
    let error = |reader: &Reader<'_>, fault| reader.error(fault, || "outputs".to_owned());
    let mut outputs = Vec::new();
    let mut array = reader.enter_array().map_err(|fault| error(reader, fault))?;
    while reader
        .next_element(&mut array)
        .map_err(|fault| error(reader, fault))?
    {
        let at = |member: &str| format!("outputs[{}].{member}", outputs.len());
        let mut name = None;
        let mut given = Parameters::default();
        let mut seen = Seen::default();
        let mut object = reader.enter_object().map_err(|fault| error(reader, fault))?;
        while let Some(key) = reader
            .next_key(&mut object)
            .map_err(|fault| error(reader, fault))?
        {
            match &*key {
                "name" => {
                    seen.once(1, &at("name"))?;
                    name = Some(string(reader, &at("name"))?);
                }
                "parameters" => {
                    let field = at("parameters");
                    seen.once(2, &field)?;
                    given = optional(reader, |reader| parameters(reader, &field))?.unwrap_or_default();
                }
                _ => skip(reader, &at(&key))?,
            }
        }
        let name = name.ok_or_else(|| missing(at("name")))?;
        outputs.push(requested_output(name, given)?);
    }
    Ok(outputs)
}
