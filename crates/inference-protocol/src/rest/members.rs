//! Members of the objects in V2 bodies.

use super::{BINARY_DATA, CLASSIFICATION};
use crate::{
    ParameterValue, Parameters, ProtocolError, RequestedOutput,
    error::shown,
    json::{Fault, Mode, Reader, Scalar},
};

/// Far more than the protocol and its users have; they are looked up one by one.
const MOST_PARAMETERS: usize = 256;

/// Members of one object that were seen: a second one is refused, as readers disagree about which of them counts.
#[derive(Default)]
pub(super) struct Seen(u8);

impl Seen {
    pub(super) fn once(&mut self, member: u8, field: &str) -> Result<(), ProtocolError> {
        if self.0 & member != 0 {
            return Err(ProtocolError::DuplicateField { field: field.into() });
        }
        self.0 |= member;
        Ok(())
    }
}

/// Reads the whole text as one object.
pub(super) fn each_key(
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

pub(super) fn missing(field: impl Into<Box<str>>) -> ProtocolError {
    ProtocolError::MissingField { field: field.into() }
}

pub(super) fn skip(reader: &mut Reader<'_>, field: &str) -> Result<(), ProtocolError> {
    reader
        .skip()
        .map(|_| ())
        .map_err(|fault| reader.error(fault, || field.to_owned()))
}

pub(super) fn string(reader: &mut Reader<'_>, field: &str) -> Result<String, ProtocolError> {
    let text = reader
        .string()
        .map_err(|fault| reader.error(fault, || field.to_owned()))?;
    Ok(text.into_owned())
}

/// `null` is how some clients and servers write an optional member that they do not have.
pub(super) fn optional<T>(
    reader: &mut Reader<'_>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, ProtocolError>,
) -> Result<Option<T>, ProtocolError> {
    if reader.peek() == Some(b'n') && reader.literal("null") {
        return Ok(None);
    }
    read(reader).map(Some)
}

pub(super) fn parameters(reader: &mut Reader<'_>, field: &str) -> Result<Parameters, ProtocolError> {
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
        if all.len() == MOST_PARAMETERS {
            let (expected, got) = ("at most 256 parameters", "more".into());
            return Err(ProtocolError::Field {
                field: field.into(),
                expected,
                got,
            });
        }
        if all.get(&key).is_some() {
            return Err(ProtocolError::DuplicateField {
                field: shown(&format!("{field}.{key}")),
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

pub(super) fn take_bool(
    parameters: &mut Parameters,
    name: &str,
    field: impl FnOnce() -> String,
) -> Result<Option<bool>, ProtocolError> {
    match parameters.remove(name) {
        None => Ok(None),
        Some(ParameterValue::Bool(value)) => Ok(Some(value)),
        Some(other) => Err(wrong_parameter(&field(), "a boolean", &other)),
    }
}

pub(crate) fn wrong_parameter(field: &str, expected: &'static str, got: &ParameterValue) -> ProtocolError {
    let got = match got {
        ParameterValue::Bool(value) => format!("`{value}`"),
        ParameterValue::Int(value) => format!("`{value}`"),
        ParameterValue::Uint(value) => format!("`{value}`"),
        ParameterValue::Double(value) => format!("`{value}`"),
        ParameterValue::String(value) => format!("`{:.32}`", value.replace(char::is_control, " ")),
    };
    ProtocolError::Field {
        field: shown(field),
        expected,
        got: got.into(),
    }
}

/// Moves the parameters that the protocol defines into their fields.
pub(crate) fn requested_output(
    name: String,
    mut parameters: Parameters,
) -> Result<RequestedOutput, ProtocolError> {
    let field = |parameter: &str| format!("outputs.{name}.parameters.{parameter}");
    let binary_data = take_bool(&mut parameters, BINARY_DATA, || field(BINARY_DATA))?;
    let classification = match parameters.remove(CLASSIFICATION) {
        None => None,
        Some(value) => {
            let count = match value {
                ParameterValue::Int(count) => u32::try_from(count).ok(),
                ParameterValue::Uint(count) => u32::try_from(count).ok(),
                ParameterValue::Bool(_) | ParameterValue::Double(_) | ParameterValue::String(_) => None,
            };
            let wrong = || wrong_parameter(&field(CLASSIFICATION), "a number of classes", &value);
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
