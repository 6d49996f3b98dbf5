//! Tensors of V2 bodies.

use bytes::Bytes;

use super::{
    BINARY_DATA_SIZE, SHARED_MEMORY_REGION,
    members::{Seen, missing, optional, parameters, wrong_parameter},
    shared_memory,
};
use crate::{
    Datatype, ParameterValue, Parameters, ProtocolError, Role, Shape, StringData, Tensor, TensorData,
    TensorLabel,
    error::shown,
    json::{self, Fault, Reader, Scalar},
};

/// A tensor whose values may still lie behind the JSON part.
pub(super) struct Pending {
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

/// Reads the list of tensors.
pub(super) fn tensors(
    reader: &mut Reader<'_>,
    body: &Bytes,
    role: Role,
) -> Result<Vec<Pending>, ProtocolError> {
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
        let place = Place {
            role,
            list,
            index: tensors.len(),
        };
        let mut members = Members::default();
        members.read(reader, body, place)?;
        tensors.push(members.finish(reader, body, place)?);
    }
    Ok(tensors)
}

/// Where a tensor stands in the body, for errors.
#[derive(Clone, Copy)]
struct Place {
    role: Role,
    list: &'static str,
    index: usize,
}

impl Place {
    fn member(self, member: &str) -> String {
        format!("{}[{}].{member}", self.list, self.index)
    }

    fn error(self, reader: &Reader<'_>, fault: Fault, member: &str) -> ProtocolError {
        reader.error(fault, || self.member(member))
    }
}

/// The members of a tensor, in whatever order they stand.
#[derive(Default)]
struct Members {
    seen: Seen,
    name: Option<String>,
    datatype: Option<Datatype>,
    shape: Option<Shape>,
    parameters: Parameters,
    data: Option<TensorData>,
    /// Where `data` stands, if it came before what is needed to read it.
    data_at: Option<usize>,
}

impl Members {
    fn read(&mut self, reader: &mut Reader<'_>, body: &Bytes, place: Place) -> Result<(), ProtocolError> {
        let outside =
            |reader: &Reader<'_>, fault| reader.error(fault, || format!("{}[{}]", place.list, place.index));
        let mut object = reader.enter_object().map_err(|fault| outside(reader, fault))?;
        while let Some(key) = reader
            .next_key(&mut object)
            .map_err(|fault| outside(reader, fault))?
        {
            let bit = match &*key {
                "name" => 1,
                "datatype" => 2,
                "shape" => 4,
                "parameters" => 8,
                "data" => 16,
                _ => {
                    reader.skip().map_err(|fault| place.error(reader, fault, &key))?;
                    continue;
                }
            };
            self.seen
                .once(bit, &key)
                .map_err(|_| ProtocolError::DuplicateField {
                    field: place.member(&key).into(),
                })?;
            self.member(reader, body, place, &key)?;
        }
        Ok(())
    }

    fn member(
        &mut self,
        reader: &mut Reader<'_>,
        body: &Bytes,
        place: Place,
        key: &str,
    ) -> Result<(), ProtocolError> {
        match key {
            "name" => {
                let name = reader.string().map_err(|fault| place.error(reader, fault, key))?;
                self.name = Some(name.into_owned());
            }
            "datatype" => {
                let name = reader.string().map_err(|fault| place.error(reader, fault, key))?;
                self.datatype = Some(datatype(&name, || match &self.name {
                    Some(name) => TensorLabel::new(place.role, name),
                    None => TensorLabel::new(place.role, &format!("#{}", place.index)),
                })?);
            }
            "shape" => {
                self.shape = Some(read_shape(reader).map_err(|fault| place.error(reader, fault, key))?);
            }
            "parameters" => {
                let read = |reader: &mut Reader<'_>| parameters(reader, &place.member(key));
                self.parameters = optional(reader, read)?.unwrap_or_default();
            }
            _ => {
                if let (Some(name), Some(datatype), Some(shape)) = (&self.name, self.datatype, &self.shape) {
                    self.data = Some(read_values(reader, body, place.role, name, datatype, shape)?);
                } else {
                    reader.peek();
                    self.data_at = Some(reader.at);
                    reader.pass().map_err(|fault| place.error(reader, fault, key))?;
                }
            }
        }
        Ok(())
    }

    fn finish(
        mut self,
        reader: &mut Reader<'_>,
        body: &Bytes,
        place: Place,
    ) -> Result<Pending, ProtocolError> {
        let role = place.role;
        let name = self.name.ok_or_else(|| missing(place.member("name")))?;
        let datatype = self.datatype.ok_or_else(|| missing(place.member("datatype")))?;
        let shape = self.shape.ok_or_else(|| missing(place.member("shape")))?;
        let count = count(role, &name, &shape)?;
        if let Some(data_at) = self.data_at {
            let end = std::mem::replace(&mut reader.at, data_at);
            self.data = Some(read_values(reader, body, role, &name, datatype, &shape)?);
            reader.at = end;
        }
        let size = match self.parameters.remove(BINARY_DATA_SIZE) {
            None => None,
            Some(ParameterValue::Int(size)) if size >= 0 => Some(size as u64),
            Some(ParameterValue::Uint(size)) => Some(size),
            Some(other) => {
                let field = format!("{}.{BINARY_DATA_SIZE}", place.member("parameters"));
                return Err(wrong_parameter(&field, "a number of bytes", &other));
            }
        };
        let values = match (self.data, size) {
            (Some(data), None) => Values::Json(data),
            (None, Some(size)) => Values::Binary { size },
            (Some(_), Some(_)) => {
                return Err(ProtocolError::DataAndBinary {
                    tensor: TensorLabel::new(role, &name),
                });
            }
            (None, None) if self.parameters.get(SHARED_MEMORY_REGION).is_some() => {
                return Err(shared_memory(role, &name));
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
            parameters: self.parameters,
            values,
        })
    }
}

/// The datatype of this name.
pub(crate) fn datatype(name: &str, tensor: impl FnOnce() -> TensorLabel) -> Result<Datatype, ProtocolError> {
    Datatype::parse(name).ok_or_else(|| ProtocolError::UnknownDatatype {
        tensor: tensor(),
        got: shown(name),
    })
}

/// The number of elements.
pub(crate) fn count(role: Role, name: &str, shape: &Shape) -> Result<usize, ProtocolError> {
    shape
        .element_count()
        .map_err(|reason| ProtocolError::InvalidShape {
            tensor: TensorLabel::new(role, name),
            shape: shape.clone(),
            reason,
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

fn read_values(
    reader: &mut Reader<'_>,
    body: &Bytes,
    role: Role,
    name: &str,
    datatype: Datatype,
    shape: &Shape,
) -> Result<TensorData, ProtocolError> {
    let count = count(role, name, shape)?;
    json::read_data(reader, body, datatype, shape, count)
        .map_err(|fault| fault.error(reader, role, name, datatype, shape))
}

/// Gives the binary tensors their slices of what follows the JSON part.
pub(super) fn with_binary(
    pending: Vec<Pending>,
    role: Role,
    body: &Bytes,
    json_len: Option<usize>,
) -> Result<Vec<Tensor>, ProtocolError> {
    let mut rest = body.slice(json_len.unwrap_or(body.len())..);
    let mut tensors = Vec::with_capacity(pending.len());
    for pending in pending {
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
        tensors.push(tensor);
    }
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
