//! The model's name out of the first bytes of a `ModelInferRequest`.

use super::FRAME_PREFIX;

/// What the first bytes of a gRPC body tell about the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek<'a> {
    /// The model, as fields 1 and 2 name it; an empty version lets the server choose.
    Found {
        /// `model_name`.
        name: &'a str,
        /// `model_version`.
        version: &'a str,
    },
    /// The bytes end before that is known.
    NeedMore,
    /// Not a message that can be peeked into: compressed, or malformed.
    Unreadable,
}

const MODEL_NAME: u64 = 1;
const MODEL_VERSION: u64 = 2;

/// Reads `model_name` and `model_version` from the first bytes of a gRPC body, its 5-byte prefix included, without
/// decoding what follows.
///
/// Serializers write fields by number, so both stand in front: reading stops at the first field above 2 once the name
/// is known. A message that repeats the fields after that is routed by the first values.
pub fn peek_model(prefix: &[u8]) -> Peek<'_> {
    let Some((frame, received)) = prefix.split_first_chunk::<FRAME_PREFIX>() else {
        return match prefix.first() {
            Some(0) | None => Peek::NeedMore,
            Some(_) => Peek::Unreadable,
        };
    };
    if frame[0] != 0 {
        return Peek::Unreadable;
    }
    let len = u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]) as usize;
    let complete = received.len() >= len;
    let mut rest = if complete { &received[..len] } else { received };
    let (mut name, mut version) = (None, None);
    loop {
        if rest.is_empty() && complete {
            // Absent fields are empty strings.
            return Peek::Found {
                name: name.unwrap_or_default(),
                version: version.unwrap_or_default(),
            };
        }
        let short = if complete {
            Peek::Unreadable
        } else {
            Peek::NeedMore
        };
        let tag = match varint(&mut rest) {
            Varint::Read(tag) => tag,
            Varint::Short => return short,
            Varint::Malformed => return Peek::Unreadable,
        };
        let (field, wire) = (tag >> 3, tag & 7);
        if let Some(name) = name
            && field > MODEL_VERSION
        {
            return Peek::Found {
                name,
                version: version.unwrap_or_default(),
            };
        }
        let value = match field_value(wire, &mut rest) {
            Ok(value) => value,
            Err(Varint::Malformed) => return Peek::Unreadable,
            Err(Varint::Short | Varint::Read(_)) => return short,
        };
        if field == MODEL_NAME || field == MODEL_VERSION {
            let (2, Ok(text)) = (wire, std::str::from_utf8(value)) else {
                return Peek::Unreadable;
            };
            if field == MODEL_NAME {
                name = Some(text);
            } else {
                version = Some(text);
            }
            if let (Some(name), Some(version)) = (name, version) {
                return Peek::Found { name, version };
            }
        }
    }
}

enum Varint {
    Read(u64),
    Short,
    Malformed,
}

fn varint(rest: &mut &[u8]) -> Varint {
    let mut value = 0_u64;
    for (index, &byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index).min(63);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Varint::Read(value);
        }
    }
    if rest.len() < 10 {
        Varint::Short
    } else {
        Varint::Malformed
    }
}

/// Steps over the value of a field.
fn field_value<'a>(wire: u64, rest: &mut &'a [u8]) -> Result<&'a [u8], Varint> {
    let len = match wire {
        0 => {
            return match varint(rest) {
                Varint::Read(_) => Ok(&[]),
                failed => Err(failed),
            };
        }
        1 => 8,
        2 => match varint(rest) {
            Varint::Read(len) => usize::try_from(len).map_err(|_| Varint::Malformed)?,
            failed => return Err(failed),
        },
        5 => 4,
        _ => return Err(Varint::Malformed), // groups, which proto3 does not have
    };
    let (value, after) = rest.split_at_checked(len).ok_or(Varint::Short)?;
    *rest = after;
    Ok(value)
}
