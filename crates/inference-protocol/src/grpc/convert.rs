//! Between protobuf messages and tensors.

use std::collections::HashMap;

use bytes::Bytes;

use super::proto::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    model_infer_response::InferOutputTensor,
};
use crate::{
    Datatype, InferRequest, InferResponse, ModelRef, ParameterValue, Parameters, ProtocolError,
    RequestedOutputs, Role, Shape, StringDataBuilder, Tensor, TensorData, TensorLabel,
    error::shown,
    rest::{
        self, BINARY_DATA, BINARY_DATA_OUTPUT, CLASSIFICATION, SHARED_MEMORY_REGION, append_raw, raw_data,
        requested_output, shared_memory, wrong_parameter,
    },
    tensor::Element,
};

/// How tensors of a message are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// As little-endian bytes, one entry per tensor.
    Raw,
    /// In the typed lists.
    Typed,
}

impl Contents {
    /// What a reply to this request carries: raw, unless the request parameter `binary_data_output` is false.
    pub fn of(requested: &RequestedOutputs) -> Contents {
        if requested.wants_raw() {
            Contents::Raw
        } else {
            Contents::Typed
        }
    }
}

/// The request of a message. Raw contents stay slices of the message's body.
///
/// # Errors
/// What is wrong with the message; it is not checked against a model.
pub fn request_from_proto(message: ModelInferRequest) -> Result<(ModelRef, InferRequest), ProtocolError> {
    let ModelInferRequest {
        model_name,
        model_version,
        id,
        parameters,
        inputs,
        outputs,
        raw_input_contents,
    } = message;
    let request = || -> Result<InferRequest, ProtocolError> {
        if let (Some(input), false) = (
            inputs.iter().find(|input| input.contents.is_some()),
            raw_input_contents.is_empty(),
        ) {
            return Err(ProtocolError::RawAndTyped {
                input: shown(&input.name),
                model: shown(&model_name),
            });
        }
        let mut parameters = parameters_from_proto(parameters);
        let binary_data_output = match parameters.remove(BINARY_DATA_OUTPUT) {
            None => None,
            Some(ParameterValue::Bool(value)) => Some(value),
            Some(other) => {
                return Err(wrong_parameter(
                    &format!("parameters.{BINARY_DATA_OUTPUT}"),
                    "a boolean",
                    &other,
                ));
            }
        };
        let list = outputs
            .into_iter()
            .map(|output| requested_output(output.name, parameters_from_proto(output.parameters)))
            .collect::<Result<_, _>>()?;
        let mut raw = RawContents::new(Role::Input, inputs.len(), raw_input_contents)?;
        let inputs = inputs
            .into_iter()
            .map(|input| {
                let InferInputTensor {
                    name,
                    datatype,
                    shape,
                    parameters,
                    contents,
                } = input;
                tensor_from_proto(
                    Role::Input,
                    name,
                    &datatype,
                    shape,
                    parameters,
                    contents,
                    raw.next(),
                )
            })
            .collect::<Result<_, _>>()?;
        let id = Some(id).filter(|id| !id.is_empty());
        let outputs = RequestedOutputs {
            binary_data_output,
            list,
        };
        Ok(InferRequest {
            id,
            parameters,
            inputs,
            outputs,
        })
    };
    let request = request().map_err(|error| error.in_model(&model_name))?;
    let version = Some(model_version).filter(|version| !version.is_empty());
    Ok((
        ModelRef {
            name: model_name,
            version,
        },
        request,
    ))
}

/// The message of a request.
///
/// # Errors
/// [`ProtocolError::NotTyped`] for a datatype without typed contents.
pub fn request_to_proto(
    model: &ModelRef,
    request: &InferRequest,
    contents: Contents,
) -> Result<ModelInferRequest, ProtocolError> {
    let mut parameters = parameters_to_proto(&request.parameters);
    if let Some(binary) = request.outputs.binary_data_output {
        parameters.insert(BINARY_DATA_OUTPUT.to_owned(), parameter_to_proto(&binary.into()));
    }
    let inputs = request.inputs.iter().map(|tensor| {
        Ok(InferInputTensor {
            name: tensor.name().to_owned(),
            datatype: tensor.datatype().as_str().to_owned(),
            shape: tensor.shape().dimensions().to_vec(),
            parameters: parameters_to_proto(&tensor.parameters),
            contents: typed_contents(Role::Input, tensor, contents)?,
        })
    });
    let outputs = request.outputs.list.iter().map(|output| {
        let mut parameters = parameters_to_proto(&output.parameters);
        if let Some(binary) = output.binary_data {
            parameters.insert(BINARY_DATA.to_owned(), parameter_to_proto(&binary.into()));
        }
        if let Some(classes) = output.classification {
            parameters.insert(
                CLASSIFICATION.to_owned(),
                parameter_to_proto(&i64::from(classes).into()),
            );
        }
        InferRequestedOutputTensor {
            name: output.name.clone(),
            parameters,
        }
    });
    Ok(ModelInferRequest {
        model_name: model.name.clone(),
        model_version: model.version.clone().unwrap_or_default(),
        id: request.id.clone().unwrap_or_default(),
        parameters,
        inputs: inputs.collect::<Result<_, _>>()?,
        outputs: outputs.collect(),
        raw_input_contents: raw_contents(&request.inputs, contents),
    })
}

/// The response of a message. Raw contents stay slices of the message's body.
///
/// # Errors
/// What is wrong with the message.
pub fn response_from_proto(message: ModelInferResponse) -> Result<InferResponse, ProtocolError> {
    let ModelInferResponse {
        model_name,
        model_version,
        id,
        parameters,
        outputs,
        raw_output_contents,
    } = message;
    let mut raw = RawContents::new(Role::Output, outputs.len(), raw_output_contents)?;
    let outputs = outputs
        .into_iter()
        .map(|output| {
            let InferOutputTensor {
                name,
                datatype,
                shape,
                parameters,
                contents,
            } = output;
            tensor_from_proto(
                Role::Output,
                name,
                &datatype,
                shape,
                parameters,
                contents,
                raw.next(),
            )
        })
        .collect::<Result<_, _>>()?;
    Ok(InferResponse {
        model_name,
        model_version: Some(model_version).filter(|version| !version.is_empty()),
        id: Some(id).filter(|id| !id.is_empty()),
        parameters: parameters_from_proto(parameters),
        outputs,
    })
}

/// The message of a response.
///
/// # Errors
/// [`ProtocolError::NotTyped`] for a datatype without typed contents.
pub fn response_to_proto(
    response: &InferResponse,
    contents: Contents,
) -> Result<ModelInferResponse, ProtocolError> {
    let outputs = response.outputs.iter().map(|tensor| {
        Ok(InferOutputTensor {
            name: tensor.name().to_owned(),
            datatype: tensor.datatype().as_str().to_owned(),
            shape: tensor.shape().dimensions().to_vec(),
            parameters: parameters_to_proto(&tensor.parameters),
            contents: typed_contents(Role::Output, tensor, contents)?,
        })
    });
    Ok(ModelInferResponse {
        model_name: response.model_name.clone(),
        model_version: response.model_version.clone().unwrap_or_default(),
        id: response.id.clone().unwrap_or_default(),
        parameters: parameters_to_proto(&response.parameters),
        outputs: outputs.collect::<Result<_, _>>()?,
        raw_output_contents: raw_contents(&response.outputs, contents),
    })
}

/// Raw contents in the order of their tensors, or none at all.
struct RawContents {
    entries: Option<std::vec::IntoIter<Bytes>>,
}

impl RawContents {
    fn new(role: Role, tensors: usize, entries: Vec<Bytes>) -> Result<RawContents, ProtocolError> {
        if entries.is_empty() {
            return Ok(RawContents { entries: None });
        }
        if entries.len() != tensors {
            let kind = match role {
                Role::Input => "input",
                Role::Output => "output",
            };
            return Err(ProtocolError::RawCount {
                kind,
                expected: tensors,
                got: entries.len(),
            });
        }
        Ok(RawContents {
            entries: Some(entries.into_iter()),
        })
    }

    fn next(&mut self) -> Option<Bytes> {
        self.entries.as_mut().and_then(Iterator::next)
    }
}

fn tensor_from_proto(
    role: Role,
    name: String,
    datatype: &str,
    shape: Vec<i64>,
    parameters: HashMap<String, InferParameter>,
    contents: Option<InferTensorContents>,
    raw: Option<Bytes>,
) -> Result<Tensor, ProtocolError> {
    let label = || TensorLabel::new(role, &name);
    let shape = Shape::from(shape);
    let known = rest::datatype(datatype, label)?;
    let count = rest::count(role, &name, &shape)?;
    let data = match (raw, contents) {
        // A peer that fills both is read by the raw contents, as stock clients do; requests were refused before.
        (Some(raw), _) => raw_data(role, &name, known, &shape, count, raw)?,
        (None, Some(contents)) => typed_data(role, &name, known, contents)?,
        (None, None) if parameters.contains_key(SHARED_MEMORY_REGION) => {
            return Err(shared_memory(role, &name));
        }
        (None, None) if count == 0 && known.in_json() => {
            typed_data(role, &name, known, InferTensorContents::default())?
        }
        (None, None) => {
            return Err(ProtocolError::NoData {
                tensor: label(),
                shape,
            });
        }
    };
    let mut tensor = Tensor::with_role(role, name, shape, data)?;
    tensor.parameters = parameters_from_proto(parameters);
    Ok(tensor)
}

fn typed_data(
    role: Role,
    name: &str,
    datatype: Datatype,
    contents: InferTensorContents,
) -> Result<TensorData, ProtocolError> {
    fn narrow<W, N>(
        role: Role,
        name: &str,
        wide: Vec<W>,
        expected: &'static str,
    ) -> Result<TensorData, ProtocolError>
    where
        W: Copy + std::fmt::Display,
        N: Element + TryFrom<W>,
    {
        let narrowed = wide.into_iter().enumerate().map(|(index, value)| {
            N::try_from(value).map_err(|_| ProtocolError::Value {
                tensor: TensorLabel::new(role, name),
                index,
                expected,
                got: format!("`{value}`").into(),
            })
        });
        narrowed.collect::<Result<Vec<N>, _>>().map(TensorData::from_vec)
    }
    Ok(match datatype {
        Datatype::Bool => TensorData::from_vec(contents.bool_contents),
        Datatype::Uint8 => narrow::<_, u8>(role, name, contents.uint_contents, "an integer from 0 to 255")?,
        Datatype::Uint16 => {
            narrow::<_, u16>(role, name, contents.uint_contents, "an integer from 0 to 65535")?
        }
        Datatype::Uint32 => TensorData::from_vec(contents.uint_contents),
        Datatype::Uint64 => TensorData::from_vec(contents.uint64_contents),
        Datatype::Int8 => narrow::<_, i8>(role, name, contents.int_contents, "an integer from -128 to 127")?,
        Datatype::Int16 => narrow::<_, i16>(
            role,
            name,
            contents.int_contents,
            "an integer from -32768 to 32767",
        )?,
        Datatype::Int32 => TensorData::from_vec(contents.int_contents),
        Datatype::Int64 => TensorData::from_vec(contents.int64_contents),
        Datatype::Fp32 => TensorData::from_vec(contents.fp32_contents),
        Datatype::Fp64 => TensorData::from_vec(contents.fp64_contents),
        Datatype::Bytes => {
            let values = contents.bytes_contents;
            let bytes = values.iter().map(Bytes::len).sum();
            let mut strings = StringDataBuilder::with_capacity(values.len(), bytes);
            for (index, value) in values.iter().enumerate() {
                if !strings.push(value) {
                    return Err(ProtocolError::Value {
                        tensor: TensorLabel::new(role, name),
                        index,
                        expected: "less than 4 GiB of text",
                        got: "more".into(),
                    });
                }
            }
            TensorData::from_strings(strings.finish())
        }
        Datatype::Fp16 | Datatype::Bf16 => {
            return Err(ProtocolError::NotTyped {
                tensor: TensorLabel::new(role, name),
                datatype,
            });
        }
    })
}

fn typed_contents(
    role: Role,
    tensor: &Tensor,
    contents: Contents,
) -> Result<Option<InferTensorContents>, ProtocolError> {
    fn values<T: Element>(tensor: &Tensor) -> Vec<T> {
        tensor
            .data()
            .to_slice()
            .expect("the datatype was matched")
            .into_owned()
    }
    fn widened<N: Element + Into<W>, W>(tensor: &Tensor) -> Vec<W> {
        tensor
            .data()
            .to_slice::<N>()
            .expect("the datatype was matched")
            .iter()
            .map(|&value| value.into())
            .collect()
    }
    if contents == Contents::Raw {
        return Ok(None);
    }
    let mut typed = InferTensorContents::default();
    match tensor.datatype() {
        Datatype::Bool => typed.bool_contents = values(tensor),
        Datatype::Uint8 => typed.uint_contents = widened::<u8, _>(tensor),
        Datatype::Uint16 => typed.uint_contents = widened::<u16, _>(tensor),
        Datatype::Uint32 => typed.uint_contents = values(tensor),
        Datatype::Uint64 => typed.uint64_contents = values(tensor),
        Datatype::Int8 => typed.int_contents = widened::<i8, _>(tensor),
        Datatype::Int16 => typed.int_contents = widened::<i16, _>(tensor),
        Datatype::Int32 => typed.int_contents = values(tensor),
        Datatype::Int64 => typed.int64_contents = values(tensor),
        Datatype::Fp32 => typed.fp32_contents = values(tensor),
        Datatype::Fp64 => typed.fp64_contents = values(tensor),
        Datatype::Bytes => {
            let strings = tensor.data().as_strings().expect("the datatype was matched");
            typed.bytes_contents = strings.iter().map(Bytes::copy_from_slice).collect();
        }
        datatype @ (Datatype::Fp16 | Datatype::Bf16) => {
            return Err(ProtocolError::NotTyped {
                tensor: TensorLabel::new(role, tensor.name()),
                datatype,
            });
        }
    }
    Ok(Some(typed))
}

fn raw_contents(tensors: &[Tensor], contents: Contents) -> Vec<Bytes> {
    if contents == Contents::Typed {
        return Vec::new();
    }
    let raw = tensors.iter().map(|tensor| {
        tensor.data().as_le_bytes().cloned().unwrap_or_else(|| {
            let mut raw = Vec::new();
            append_raw(tensor, &mut raw);
            raw.into()
        })
    });
    raw.collect()
}

/// Sorted, so that the order is the same each time.
fn parameters_from_proto(parameters: HashMap<String, InferParameter>) -> Parameters {
    let mut parameters: Vec<_> = parameters.into_iter().collect();
    parameters.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let chosen = parameters.into_iter().filter_map(|(name, parameter)| {
        let value = match parameter.parameter_choice? {
            ParameterChoice::BoolParam(value) => ParameterValue::Bool(value),
            ParameterChoice::Int64Param(value) => ParameterValue::Int(value),
            ParameterChoice::StringParam(value) => ParameterValue::String(value),
            ParameterChoice::DoubleParam(value) => ParameterValue::Double(value),
            ParameterChoice::Uint64Param(value) => ParameterValue::Uint(value),
        };
        Some((name, value))
    });
    Parameters::from_unique(chosen.collect())
}

fn parameters_to_proto(parameters: &Parameters) -> HashMap<String, InferParameter> {
    parameters
        .iter()
        .map(|(name, value)| (name.to_owned(), parameter_to_proto(value)))
        .collect()
}

fn parameter_to_proto(value: &ParameterValue) -> InferParameter {
    let choice = match value {
        ParameterValue::Bool(value) => ParameterChoice::BoolParam(*value),
        ParameterValue::Int(value) => ParameterChoice::Int64Param(*value),
        ParameterValue::Uint(value) => ParameterChoice::Uint64Param(*value),
        ParameterValue::Double(value) => ParameterChoice::DoubleParam(*value),
        ParameterValue::String(value) => ParameterChoice::StringParam(value.clone()),
    };
    InferParameter {
        parameter_choice: Some(choice),
    }
}
