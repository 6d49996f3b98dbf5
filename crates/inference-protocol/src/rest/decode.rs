//! Reading V2 bodies.

use std::str;

use bytes::Bytes;

use super::{BINARY_DATA, BINARY_DATA_OUTPUT, BINARY_DATA_SIZE, CLASSIFICATION, raw_binary};
use crate::{
    Datatype, InferRequest, InferResponse, ModelSignature, ParameterValue, Parameters, ProtocolError,
    RequestedOutput, RequestedOutputs, Role, Shape, StringData, Tensor, TensorData, TensorLabel,
    json::{self, Fault, Mode, Reader, Scalar},
};

/// Reads a request, whatever its model: the values agree with the shape that stands beside them, no more.
///
/// `header` is the value of [`super::HEADER_LENGTH`], if the request has it. Binary values stay slices of `body`.
///
/// # Errors
/// What is wrong with the body. [`ProtocolError::RawBinaryWithoutSignature`] for a header of 0.
pub fn decode_request(body: &Bytes, header: Option<&[u8]>) -> Result<InferRequest, ProtocolError> {
    decode_request_in(Mode::Strict, body, split(body, header)?)
}

/// Reads a request for a model: as [`decode_request`], and the tensors are the model's. A header of 0 makes the
/// body the bytes of the model's only input.
///
/// # Errors
/// As [`decode_request`] and [`ModelSignature::validate`]; the text names the model.
pub fn decode_request_for(
    signature: &ModelSignature,
    body: &Bytes,
    header: Option<&[u8]>,
) -> Result<InferRequest, ProtocolError> {
    let json_len = split(body, header).map_err(|error| error.in_model(&signature.model))?;
    let request = match json_len {
        Some(0) => raw_binary::decode(signature, body)?,
        json_len => decode_request_in(Mode::Strict, body, json_len)
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

fn decode_request_in(
    mode: Mode,
    body: &Bytes,
    json_len: Option<usize>,
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
    let inputs = inputs.ok_or_else(|| missing("inputs"))?;
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
            got: String::from_utf8_lossy(&header[..header.len().min(32)]).into(),
        })
}

/// Members of one object that were seen: a second one is refused, as readers disagree about which of them counts.
#[derive(Default)]
struct Seen(u8);

impl Seen {
    fn once(&mut self, member: u8, field: &str) -> Result<(), ProtocolError> {
        if self.0 & member != 0 {
            return Err(ProtocolError::DuplicateField { field: field.into() });
        }
        self.0 |= member;
        Ok(())
    }
}

/// Reads the whole text as one object.
fn each_key(
    reader: &mut Reader<'_>,
    what: &'static str,
    mut member: impl FnMut(&mut Reader<'_>, &str) -> Result<(), ProtocolError>,
) -> Result<(), ProtocolError> {
    let error = |reader: &Reader<'_>, fault| reader.error(fault, || what.to_owned());
    let mut object = reader.enter_object().map_err(|fault| error(reader, fault))?;
    while let Some(key) = reader
        .next_key(&mut object)
        .map_err(|fault| error(reader, fault))?
    {
        member(reader, &key)?;
    }
    reader.end().map_err(|fault| error(reader, fault))
}

fn missing(field: impl Into<Box<str>>) -> ProtocolError {
    ProtocolError::MissingField { field: field.into() }
}

fn skip(reader: &mut Reader<'_>, field: &str) -> Result<(), ProtocolError> {
    reader
        .skip()
        .map(|_| ())
        .map_err(|fault| reader.error(fault, || field.to_owned()))
}

fn string(reader: &mut Reader<'_>, field: &str) -> Result<String, ProtocolError> {
    let text = reader
        .string()
        .map_err(|fault| reader.error(fault, || field.to_owned()))?;
    Ok(text.into_owned())
}

/// `null` is how some clients and servers write an optional member that they do not have.
fn optional<T>(
    reader: &mut Reader<'_>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, ProtocolError>,
) -> Result<Option<T>, ProtocolError> {
    if reader.peek() == Some(b'n') && reader.literal("null") {
        return Ok(None);
    }
    read(reader).map(Some)
}

fn parameters(reader: &mut Reader<'_>, field: &str) -> Result<Parameters, ProtocolError> {
    let mut all = Parameters::default();
    let error = |reader: &Reader<'_>, fault| reader.error(fault, || field.to_owned());
    let mut object = reader.enter_object().map_err(|fault| error(reader, fault))?;
    while let Some(key) = reader
        .next_key(&mut object)
        .map_err(|fault| error(reader, fault))?
    {
        let value = match parameter(reader) {
            Ok(value) => Some(value),
            Err(Fault::Unwanted { at, .. }) if reader.mode == Mode::Lenient => {
                reader.at = at;
                skip(reader, field)?;
                None
            }
            Err(fault) => return Err(reader.error(fault, || format!("{field}.{key}"))),
        };
        if all.get(&key).is_some() {
            return Err(ProtocolError::DuplicateField {
                field: format!("{field}.{key}").into(),
            });
        }
        if let Some(value) = value {
            all.set(key, value);
        }
    }
    Ok(all)
}

fn parameter(reader: &mut Reader<'_>) -> Result<ParameterValue, Fault> {
    match reader.peek() {
        Some(b'"') => Ok(ParameterValue::String(reader.string()?.into_owned())),
        Some(b't' | b'f') => reader.boolean().map(ParameterValue::Bool),
        Some(b'-' | b'0'..=b'9') => {
            let at = reader.at;
            for read in [
                |reader: &mut Reader<'_>| i64::read(reader).map(ParameterValue::Int),
                |reader: &mut Reader<'_>| u64::read(reader).map(ParameterValue::Uint),
            ] {
                reader.at = at;
                match read(reader) {
                    Err(Fault::Unwanted { .. }) => {}
                    read => return read,
                }
            }
            reader.at = at;
            f64::read(reader).map(ParameterValue::Double)
        }
        _ => reader.unwanted("a string, number or boolean"),
    }
}

fn take_bool(
    parameters: &mut Parameters,
    name: &str,
    field: impl FnOnce() -> String,
) -> Result<Option<bool>, ProtocolError> {
    match parameters.remove(name) {
        None => Ok(None),
        Some(ParameterValue::Bool(value)) => Ok(Some(value)),
        Some(other) => Err(wrong_parameter(field(), "a boolean", &other)),
    }
}

pub(crate) fn wrong_parameter(field: String, expected: &'static str, got: &ParameterValue) -> ProtocolError {
    let got = match got {
        ParameterValue::Bool(value) => format!("`{value}`"),
        ParameterValue::Int(value) => format!("`{value}`"),
        ParameterValue::Uint(value) => format!("`{value}`"),
        ParameterValue::Double(value) => format!("`{value}`"),
        ParameterValue::String(value) => format!("`{:.32}`", value.replace(char::is_control, " ")),
    };
    ProtocolError::Field {
        field: field.into(),
        expected,
        got: got.into(),
    }
}

/// Moves the parameters that the protocol defines into their fields.
pub(crate) fn requested_output(
    name: String,
    mut parameters: Parameters,
) -> Result<RequestedOutput, ProtocolError> {
    let field = |parameter: &str| format!("parameters.{parameter} of output `{name}`");
    let binary_data = take_bool(&mut parameters, BINARY_DATA, || field(BINARY_DATA))?;
    let classification = match parameters.remove(CLASSIFICATION) {
        None => None,
        Some(value) => {
            let count = match value {
                ParameterValue::Int(count) => u32::try_from(count).ok(),
                ParameterValue::Uint(count) => u32::try_from(count).ok(),
                ParameterValue::Bool(_) | ParameterValue::Double(_) | ParameterValue::String(_) => None,
            };
            let wrong = || wrong_parameter(field(CLASSIFICATION), "a number of classes", &value);
            Some(count.ok_or_else(wrong)?)
        }
    };
    Ok(RequestedOutput {
        name,
        binary_data,
        classification,
        parameters,
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

/// A tensor whose values may still lie behind the JSON part.
struct Pending {
    name: String,
    datatype: Datatype,
    shape: Shape,
    count: usize,
    parameters: Parameters,
    values: Values,
}

enum Values {
    Json(TensorData),
    Binary { size: u64 },
}

fn tensors(reader: &mut Reader<'_>, body: &Bytes, role: Role) -> Result<Vec<Pending>, ProtocolError> {
    let list = match role {
        Role::Input => "inputs",
        Role::Output => "outputs",
    };
    let error = |reader: &Reader<'_>, fault| reader.error(fault, || list.to_owned());
    let mut tensors = Vec::new();
    let mut array = reader.enter_array().map_err(|fault| error(reader, fault))?;
    while reader
        .next_element(&mut array)
        .map_err(|fault| error(reader, fault))?
    {
        tensors.push(tensor(reader, body, role, list, tensors.len())?);
    }
    if tensors.is_empty() && role == Role::Input {
        return Err(ProtocolError::Field {
            field: list.into(),
            expected: "at least one tensor",
            got: "`[]`".into(),
        });
    }
    Ok(tensors)
}

fn tensor(
    reader: &mut Reader<'_>,
    body: &Bytes,
    role: Role,
    list: &'static str,
    index: usize,
) -> Result<Pending, ProtocolError> {
    let at = |member: &str| format!("{list}[{index}].{member}");
    let error = |reader: &Reader<'_>, fault, member: &str| reader.error(fault, || at(member));
    let once = |seen: &mut Seen, bit, member: &str| {
        seen.once(bit, member).map_err(|_| ProtocolError::DuplicateField {
            field: at(member).into(),
        })
    };

    let (mut name, mut datatype, mut shape): (Option<String>, Option<String>, Option<Shape>) =
        (None, None, None);
    let mut given = Parameters::default();
    let mut data = None;
    let mut data_at = None; // where `data` stands, if it came before what is needed to read it
    let mut seen = Seen::default();
    let mut object = reader
        .enter_object()
        .map_err(|fault| reader.error(fault, || format!("{list}[{index}]")))?;
    while let Some(key) = reader
        .next_key(&mut object)
        .map_err(|fault| reader.error(fault, || format!("{list}[{index}]")))?
    {
        match &*key {
            "name" => {
                once(&mut seen, 1, &key)?;
                name = Some(
                    reader
                        .string()
                        .map_err(|fault| error(reader, fault, "name"))?
                        .into_owned(),
                );
            }
            "datatype" => {
                once(&mut seen, 2, &key)?;
                datatype = Some(
                    reader
                        .string()
                        .map_err(|fault| error(reader, fault, "datatype"))?
                        .into_owned(),
                );
            }
            "shape" => {
                once(&mut seen, 4, &key)?;
                shape = Some(read_shape(reader).map_err(|fault| error(reader, fault, "shape"))?);
            }
            "parameters" => {
                once(&mut seen, 8, &key)?;
                if reader.peek() == Some(b'n') && reader.literal("null") {
                    continue;
                }
                given = parameters(reader, &at("parameters"))?;
            }
            "data" => {
                once(&mut seen, 16, &key)?;
                if let (Some(name), Some(datatype), Some(shape)) = (&name, &datatype, &shape) {
                    data = Some(read_values(reader, body, role, name, datatype, shape)?);
                } else {
                    reader.peek();
                    data_at = Some(reader.at);
                    reader.skip().map_err(|fault| error(reader, fault, "data"))?;
                }
            }
            _ => skip(reader, &key)?,
        }
    }
    let name = name.ok_or_else(|| missing(at("name")))?;
    let datatype = datatype.ok_or_else(|| missing(at("datatype")))?;
    let shape = shape.ok_or_else(|| missing(at("shape")))?;
    if let Some(data_at) = data_at {
        let end = std::mem::replace(&mut reader.at, data_at);
        data = Some(read_values(reader, body, role, &name, &datatype, &shape)?);
        reader.at = end;
    }
    let size = match given.remove(BINARY_DATA_SIZE) {
        None => None,
        Some(ParameterValue::Int(size)) if size >= 0 => Some(size as u64),
        Some(ParameterValue::Uint(size)) => Some(size),
        Some(other) => {
            let field = format!("{}.{BINARY_DATA_SIZE}", at("parameters"));
            return Err(wrong_parameter(field, "a number of bytes", &other));
        }
    };
    let (datatype, count) = check(role, &name, &datatype, &shape)?;
    let values = match (data, size) {
        (Some(data), None) => Values::Json(data),
        (None, Some(size)) => Values::Binary { size },
        (Some(_), Some(_)) => {
            return Err(ProtocolError::DataAndBinary {
                tensor: TensorLabel::new(role, &name),
            });
        }
        (None, None) => {
            return Err(ProtocolError::NoData {
                tensor: TensorLabel::new(role, &name),
                shape,
            });
        }
    };
    Ok(Pending {
        name,
        datatype,
        shape,
        count,
        parameters: given,
        values,
    })
}

fn read_shape(reader: &mut Reader<'_>) -> Result<Shape, Fault> {
    let mut shape = Shape::default();
    let mut array = reader.enter_array()?;
    while reader.next_element(&mut array)? {
        shape.push(i64::read(reader)?);
    }
    Ok(shape)
}

/// The datatype and the number of elements.
fn check(role: Role, name: &str, datatype: &str, shape: &Shape) -> Result<(Datatype, usize), ProtocolError> {
    let Some(known) = Datatype::parse(datatype) else {
        let got: String = datatype.chars().filter(|c| !c.is_control()).take(32).collect();
        return Err(ProtocolError::UnknownDatatype {
            tensor: TensorLabel::new(role, name),
            got: got.into(),
        });
    };
    match shape.element_count() {
        Ok(count) => Ok((known, count)),
        Err(reason) => {
            let tensor = TensorLabel::new(role, name);
            Err(ProtocolError::InvalidShape {
                tensor,
                shape: shape.clone(),
                reason,
            })
        }
    }
}

fn read_values(
    reader: &mut Reader<'_>,
    body: &Bytes,
    role: Role,
    name: &str,
    datatype: &str,
    shape: &Shape,
) -> Result<TensorData, ProtocolError> {
    let (datatype, count) = check(role, name, datatype, shape)?;
    json::read_data(reader, body, datatype, shape, count)
        .map_err(|fault| fault.error(reader, role, name, datatype, shape))
}

/// Gives the binary tensors their slices of what follows the JSON part.
fn with_binary(
    pending: Vec<Pending>,
    role: Role,
    body: &Bytes,
    json_len: Option<usize>,
) -> Result<Vec<Tensor>, ProtocolError> {
    let mut rest = body.slice(json_len.unwrap_or(body.len())..);
    let tensors = pending.into_iter().map(|pending| {
        let Pending {
            name,
            datatype,
            shape,
            count,
            parameters,
            values,
        } = pending;
        let data = match values {
            Values::Json(data) => data,
            Values::Binary { size } => {
                let label = || TensorLabel::new(role, &name);
                if json_len.is_none() {
                    return Err(ProtocolError::HeaderMissing { tensor: label() });
                }
                let got = rest.len();
                let fits = usize::try_from(size).ok().filter(|&size| size <= got);
                let Some(size) = fits else {
                    return Err(ProtocolError::BinaryTooShort {
                        tensor: label(),
                        expected: size,
                        got,
                    });
                };
                raw_data(role, &name, datatype, &shape, count, rest.split_to(size))?
            }
        };
        let mut tensor = Tensor::with_role(role, name, shape, data)?;
        tensor.parameters = parameters;
        Ok(tensor)
    });
    let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
    if rest.is_empty() {
        Ok(tensors)
    } else {
        Err(ProtocolError::TrailingBytes { got: rest.len() })
    }
}

/// Values of a tensor out of their raw form, which REST and gRPC share.
pub(crate) fn raw_data(
    role: Role,
    name: &str,
    datatype: Datatype,
    shape: &Shape,
    count: usize,
    raw: Bytes,
) -> Result<TensorData, ProtocolError> {
    let label = || TensorLabel::new(role, name);
    let got = raw.len();
    let Some(width) = datatype.width() else {
        let strings = StringData::from_length_prefixed(raw)
            .ok_or_else(|| ProtocolError::BytesLengths { tensor: label(), got })?;
        return Ok(TensorData::from_strings(strings));
    };
    let expected = count.saturating_mul(width);
    if got != expected {
        return Err(ProtocolError::ByteSize {
            tensor: label(),
            datatype,
            shape: shape.clone(),
            expected,
            got,
        });
    }
    TensorData::from_le_bytes(datatype, raw).ok_or_else(|| ProtocolError::BoolByte { tensor: label() })
}

/// The outputs that a raw binary request gets: all, binary.
pub(super) fn all_binary() -> RequestedOutputs {
    RequestedOutputs {
        binary_data_output: Some(true),
        list: Vec::new(),
    }
}
