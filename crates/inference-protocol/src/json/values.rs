//! Values of a tensor as JSON.

use std::{borrow::Cow, ops::Range};

use super::{JsonFloat, write_int, write_str};
use crate::{NanPolicy, ProtocolError, Role, StringData, Tensor, TensorLabel, tensor::Element};

/// The values of one tensor, ready to be written in runs.
pub(crate) enum Values<'a> {
    Bool(Cow<'a, [bool]>),
    Uint8(Cow<'a, [u8]>),
    Uint16(Cow<'a, [u16]>),
    Uint32(Cow<'a, [u32]>),
    Uint64(Cow<'a, [u64]>),
    Int8(Cow<'a, [i8]>),
    Int16(Cow<'a, [i16]>),
    Int32(Cow<'a, [i32]>),
    Int64(Cow<'a, [i64]>),
    Fp32(Cow<'a, [f32]>),
    Fp64(Cow<'a, [f64]>),
    Bytes(&'a StringData),
}

/// Why a value has no JSON form.
enum Unwritable {
    NotFinite(usize),
    NotUtf8(usize),
}

impl<'a> Values<'a> {
    /// The values of `tensor`.
    ///
    /// # Errors
    /// [`ProtocolError::NotInJson`] for a datatype without a JSON form.
    pub(crate) fn of(tensor: &'a Tensor, role: Role) -> Result<Values<'a>, ProtocolError> {
        use crate::Datatype as D;
        fn slice<T: Element>(tensor: &Tensor) -> Cow<'_, [T]> {
            tensor.data().to_slice().expect("the datatype was matched")
        }
        Ok(match tensor.datatype() {
            D::Bool => Values::Bool(slice(tensor)),
            D::Uint8 => Values::Uint8(slice(tensor)),
            D::Uint16 => Values::Uint16(slice(tensor)),
            D::Uint32 => Values::Uint32(slice(tensor)),
            D::Uint64 => Values::Uint64(slice(tensor)),
            D::Int8 => Values::Int8(slice(tensor)),
            D::Int16 => Values::Int16(slice(tensor)),
            D::Int32 => Values::Int32(slice(tensor)),
            D::Int64 => Values::Int64(slice(tensor)),
            D::Fp32 => Values::Fp32(slice(tensor)),
            D::Fp64 => Values::Fp64(slice(tensor)),
            D::Bytes => Values::Bytes(tensor.data().as_strings().expect("the datatype was matched")),
            datatype @ (D::Fp16 | D::Bf16) => {
                return Err(ProtocolError::NotInJson {
                    tensor: TensorLabel::new(role, tensor.name()),
                    datatype,
                });
            }
        })
    }

    /// Appends the values in `range`, separated by commas, without brackets.
    pub(crate) fn write(
        &self,
        range: Range<usize>,
        nan: NanPolicy,
        label: impl FnOnce() -> TensorLabel,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        let written = match self {
            Values::Bool(values) => {
                separated(&values[range], out, |value, out| {
                    out.extend_from_slice(if value { b"true" } else { b"false" });
                });
                Ok(())
            }
            Values::Uint8(values) => integers(&values[range], out),
            Values::Uint16(values) => integers(&values[range], out),
            Values::Uint32(values) => integers(&values[range], out),
            Values::Uint64(values) => integers(&values[range], out),
            Values::Int8(values) => integers(&values[range], out),
            Values::Int16(values) => integers(&values[range], out),
            Values::Int32(values) => integers(&values[range], out),
            Values::Int64(values) => integers(&values[range], out),
            Values::Fp32(values) => floats(&values[range.clone()], range.start, nan, out),
            Values::Fp64(values) => floats(&values[range.clone()], range.start, nan, out),
            Values::Bytes(values) => strings(values, range, out),
        };
        written.map_err(|unwritable| match unwritable {
            Unwritable::NotFinite(index) => ProtocolError::NotFinite {
                tensor: label(),
                index,
            },
            Unwritable::NotUtf8(index) => ProtocolError::Value {
                tensor: label(),
                index,
                expected: "UTF-8, as JSON has no other bytes: ask for binary data, or over gRPC",
                got: "other bytes".into(),
            },
        })
    }
}

fn separated<T: Copy>(values: &[T], out: &mut Vec<u8>, mut write: impl FnMut(T, &mut Vec<u8>)) {
    for (index, &value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(value, out);
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the same signature as its siblings, whose values may have no JSON form"
)]
fn integers<T: itoa::Integer + Copy>(values: &[T], out: &mut Vec<u8>) -> Result<(), Unwritable> {
    separated(values, out, |value, out| write_int(out, value));
    Ok(())
}

fn floats<T: JsonFloat>(
    values: &[T],
    start: usize,
    nan: NanPolicy,
    out: &mut Vec<u8>,
) -> Result<(), Unwritable> {
    for (index, &value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match (value.non_finite_word(), nan) {
            (None, _) => value.write(out),
            (Some(_), NanPolicy::Null) => out.extend_from_slice(b"null"),
            (Some(word), NanPolicy::Literal) => out.extend_from_slice(word.as_bytes()),
            (Some(_), NanPolicy::Error) => return Err(Unwritable::NotFinite(start + index)),
        }
    }
    Ok(())
}

fn strings(values: &StringData, range: Range<usize>, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    let start = range.start;
    for index in range {
        if index > start {
            out.push(b',');
        }
        write_str(out, values.str_at(index).ok_or(Unwritable::NotUtf8(index))?);
    }
    Ok(())
}
