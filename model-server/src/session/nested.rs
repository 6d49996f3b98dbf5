//! Outputs that are no tensors, as the tensors that clients get for them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ort::session::SharedSessionInner;
use plumbline_inference_protocol::{
    Datatype, ParameterValue, Shape, StringData, StringDataBuilder, Tensor, TensorData,
};

use super::RunError;
use super::value::Value;
use crate::onnx::Mapping;

/// Parameter of a tensor that stands for an optional value which is not there.
const ABSENT: &str = "absent";
/// Parameter of a tensor that is one of a sequence: the output's name.
const SEQUENCE: &str = "sequence";
/// Parameter of a tensor that is one of a sequence: how many there are.
const SEQUENCE_LENGTH: &str = "sequence_length";

/// The tensors of the output `name`, by its mapping. `lent` as for [`Value::into_tensor`].
pub(super) fn tensors_of(
    value: Value,
    name: &str,
    mapping: &Mapping,
    session: &Arc<SharedSessionInner>,
    lent: &[Range<usize>],
) -> Result<Vec<Tensor>, RunError> {
    Ok(match mapping {
        Mapping::Tensor(_) => vec![value.into_tensor(name, session, lent)?],
        Mapping::Sequence(datatype) => sequence(&value, name, *datatype, session)?,
        Mapping::Maps(datatype) => vec![matrix(value.elements()?, name, *datatype, session)?],
        Mapping::Map(datatype) => vec![matrix(vec![value], name, *datatype, session)?],
        Mapping::Optional(inner) if value.is_present()? => tensors_of(value, name, inner, session, lent)?,
        Mapping::Optional(inner) => {
            let mut absent = tensor(name, Shape::from([0]), join(name, inner.datatype(), &[])?)?;
            absent.parameters.set(ABSENT, true);
            vec![absent]
        }
    })
}

/// One tensor stacked on a new first axis, or a tensor for each when their shapes differ.
fn sequence(
    value: &Value,
    name: &str,
    datatype: Datatype,
    session: &Arc<SharedSessionInner>,
) -> Result<Vec<Tensor>, RunError> {
    let elements = value.elements()?.into_iter();
    let parts: Vec<Tensor> = elements
        .map(|element| element.into_tensor(name, session, &[]))
        .collect::<Result<_, _>>()?;
    let shape = parts
        .first()
        .map(|first| first.shape().clone())
        .unwrap_or_default();
    if parts.iter().all(|part| *part.shape() == shape) {
        let length = std::iter::once(parts.len() as i64);
        let shape = length.chain(shape.dimensions().iter().copied()).collect();
        let data: Vec<&TensorData> = parts.iter().map(Tensor::data).collect();
        return Ok(vec![tensor(name, shape, join(name, datatype, &data)?)?]);
    }
    let length = parts.len() as i64;
    let numbered = parts.into_iter().enumerate().map(|(index, part)| {
        let (_, shape, data) = part.into_parts();
        let mut part = tensor(&format!("{name}_{index}"), shape, data)?;
        part.parameters
            .set(SEQUENCE, ParameterValue::String(name.to_owned()));
        part.parameters.set(SEQUENCE_LENGTH, length);
        Ok(part)
    });
    numbered.collect()
}

/// A key of a map; numbers in the order of numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i64),
    Text(String),
}

impl Key {
    fn into_text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// Keys and values of one map.
struct Row {
    keys: Vec<Key>,
    values: TensorData,
}

/// N maps as a tensor `[N, C]`, its columns named by the class labels. A map that lacks a key of another has NaN there.
fn matrix(
    maps: Vec<Value>,
    name: &str,
    datatype: Datatype,
    session: &Arc<SharedSessionInner>,
) -> Result<Tensor, RunError> {
    let rows: Vec<Row> = maps
        .into_iter()
        .map(|map| {
            let keys = map.element(0)?.into_tensor(name, session, &[])?;
            let values = map.element(1)?.into_tensor(name, session, &[])?;
            Ok(Row {
                keys: keys_of(name, keys.data())?,
                values: values.into_parts().2,
            })
        })
        .collect::<Result<_, RunError>>()?;
    let keys = rows.first().map(|row| row.keys.clone()).unwrap_or_default();
    let (keys, data) = if rows.iter().all(|row| row.keys == keys) {
        let data: Vec<&TensorData> = rows.iter().map(|row| &row.values).collect();
        (keys, join(name, datatype, &data)?)
    } else {
        let all: BTreeSet<&Key> = rows.iter().flat_map(|row| &row.keys).collect();
        let all: Vec<Key> = all.into_iter().cloned().collect();
        let data = spread(name, datatype, &rows, &all)?;
        (all, data)
    };
    let shape = Shape::from([rows.len() as i64, keys.len() as i64]);
    let mut tensor = tensor(name, shape, data)?;
    tensor.set_class_labels(keys.into_iter().map(Key::into_text));
    Ok(tensor)
}

fn keys_of(name: &str, keys: &TensorData) -> Result<Vec<Key>, RunError> {
    if let Some(strings) = keys.as_strings() {
        let text = |key: &[u8]| Key::Text(String::from_utf8_lossy(key).into_owned());
        return Ok(strings.iter().map(text).collect());
    }
    match (keys.datatype(), keys.as_le_bytes()) {
        (Datatype::Int64, Some(bytes)) => {
            let numbers = bytes.as_chunks().0.iter();
            Ok(numbers
                .map(|&bytes| Key::Number(i64::from_le_bytes(bytes)))
                .collect())
        }
        (datatype, _) => Err(failed(name, &format!("a map with keys of datatype {datatype}"))),
    }
}

/// The rows' values in the columns of `keys`, NaN where a row has none.
fn spread(name: &str, datatype: Datatype, rows: &[Row], keys: &[Key]) -> Result<TensorData, RunError> {
    let missing = match datatype {
        Datatype::Fp32 => &f32::NAN.to_le_bytes()[..],
        Datatype::Fp64 => &f64::NAN.to_le_bytes()[..],
        _ => {
            return Err(failed(
                name,
                "maps with different keys, and no value that stands for none",
            ));
        }
    };
    let mut bytes = Vec::with_capacity(rows.len() * keys.len() * missing.len());
    for row in rows {
        let values = row.values.as_le_bytes().map_or(&[][..], |values| &values[..]);
        for key in keys {
            let value = row.keys.iter().position(|own| own == key);
            let value = value.and_then(|at| values.chunks_exact(missing.len()).nth(at));
            bytes.extend_from_slice(value.unwrap_or(missing));
        }
    }
    TensorData::from_le_bytes(datatype, bytes.into()).ok_or_else(|| failed(name, "bytes of no float"))
}

/// The values of all parts, which have this datatype, one after the other.
fn join(name: &str, datatype: Datatype, parts: &[&TensorData]) -> Result<TensorData, RunError> {
    if datatype.width().is_none() {
        let lists = || parts.iter().filter_map(|part| part.as_strings());
        let strings = lists().map(StringData::len).sum();
        let mut joined = StringDataBuilder::with_capacity(strings, 0);
        return if lists().flatten().all(|string| joined.push(string)) {
            Ok(TensorData::from_strings(joined.finish()))
        } else {
            Err(failed(name, "strings of 4 GiB or more"))
        };
    }
    let parts = || parts.iter().filter_map(|part| part.as_le_bytes());
    let mut bytes = Vec::with_capacity(parts().map(Bytes::len).sum());
    parts().for_each(|part| bytes.extend_from_slice(part));
    TensorData::from_le_bytes(datatype, bytes.into()).ok_or_else(|| failed(name, "bytes of another datatype"))
}

fn tensor(name: &str, shape: Shape, data: TensorData) -> Result<Tensor, RunError> {
    Tensor::new(name, shape, data).map_err(|error| failed(name, &error.to_string()))
}

fn failed(name: &str, what: &str) -> RunError {
    RunError::Failed {
        reason: format!("output `{name}`: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(keys: &[Key], values: &[f32]) -> Row {
        Row {
            keys: keys.to_vec(),
            values: TensorData::from_vec(values.to_vec()),
        }
    }

    #[test]
    fn a_map_without_a_key_of_another_has_nan_there() {
        let (two, ten) = (Key::Number(2), Key::Number(10));
        let rows = [
            row(std::slice::from_ref(&ten), &[1.0]),
            row(&[two.clone(), ten.clone()], &[2.0, 3.0]),
        ];
        let all: BTreeSet<&Key> = rows.iter().flat_map(|row| &row.keys).collect();
        let keys: Vec<Key> = all.into_iter().cloned().collect();
        assert_eq!(keys, [two, ten]); // as numbers, not as text
        let values = spread("p", Datatype::Fp32, &rows, &keys).unwrap();
        let values: Vec<f64> = values.iter_f64().unwrap().collect();
        assert!(values[0].is_nan());
        assert_eq!(values[1..], [1.0, 2.0, 3.0]);
        assert!(spread("p", Datatype::Int64, &rows, &keys).is_err());
    }

    #[test]
    fn strings_are_joined_as_they_are() {
        let part = |strings: &[&[u8]]| TensorData::from_strings(strings.iter().collect());
        let (a, b) = (part(&[b"a\0", b""]), part(&[b"\xff"]));
        let joined = join("s", Datatype::Bytes, &[&a, &b]).unwrap();
        let strings: Vec<&[u8]> = joined.as_strings().unwrap().iter().collect();
        assert_eq!(strings, [&b"a\0"[..], b"", b"\xff"]);
    }
}
