//! Protobuf's wire format: fields in the order in which they stand.

use std::ops::Range;

/// What is wrong with bytes that should be a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireError {
    /// The message ends within a field.
    Truncated,
    /// No protobuf writer makes this: field number 0, a group, a varint of more than ten bytes.
    Malformed,
}

/// Value of one field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// One field of a message, with the range of bytes that it takes, its tag included.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) value: Value<'a>,
    pub(super) range: Range<usize>,
}

impl<'a> Field<'a> {
    /// The bytes of a string, a message or a packed list.
    pub(super) fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => Err(WireError::Malformed),
        }
    }

    /// An `int32`, `int64`, `bool` or enum.
    pub(super) fn int(&self) -> Result<i64, WireError> {
        match self.value {
            Value::Varint(value) => Ok(value as i64),
            Value::Bytes(_) | Value::Fixed64(_) | Value::Fixed32(_) => Err(WireError::Malformed),
        }
    }

    /// A string; ONNX promises UTF-8, and names that are not are shown with replacement characters.
    pub(super) fn text(&self) -> Result<String, WireError> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    /// A repeated `int64`, packed or not, appended to `values`.
    pub(super) fn ints(&self, values: &mut Vec<i64>) -> Result<(), WireError> {
        match self.value {
            Value::Varint(value) => values.push(value as i64),
            Value::Bytes(packed) => {
                let mut at = 0;
                while at < packed.len() {
                    values.push(varint(packed, &mut at)? as i64);
                }
            }
            Value::Fixed64(_) | Value::Fixed32(_) => return Err(WireError::Malformed),
        }
        Ok(())
    }
}

/// The fields of `message` in order; ends after the first error.
pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { message, at: 0 }
}

pub(super) struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.message.len() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.at = self.message.len();
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<Field<'a>, WireError> {
        let start = self.at;
        let tag = varint(self.message, &mut self.at)?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::Malformed)?;
        if number == 0 {
            return Err(WireError::Malformed);
        }
        let value = match tag & 7 {
            0 => Value::Varint(varint(self.message, &mut self.at)?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take_array()?)),
            2 => {
                let length = varint(self.message, &mut self.at)?;
                let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take_array()?)),
            _ => return Err(WireError::Malformed),
        };
        let range = start..self.at;
        Ok(Field { number, value, range })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(length).ok_or(WireError::Truncated)?;
        let bytes = self.message.get(self.at..end).ok_or(WireError::Truncated)?;
        self.at = end;
        Ok(bytes)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.take(N)?.try_into().map_err(|_| WireError::Truncated)
    }
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, WireError> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at).ok_or(WireError::Truncated)?;
        *at += 1;
        // The tenth byte holds one bit.
        if shift == 63 && byte > 1 {
            return Err(WireError::Malformed);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(WireError::Malformed)
}

/// Appends a varint field.
pub(super) fn put_int(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value as u64);
}

/// Appends a string, bytes or message field.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_with_its_ranges() {
        let mut message = Vec::new();
        put_int(&mut message, 1, 300);
        put_int(&mut message, 2, -1);
        put_bytes(&mut message, 1_000, b"graph");
        let read: Vec<_> = fields(&message).collect::<Result<_, _>>().unwrap();
        assert_eq!((read[0].number, read[0].value), (1, Value::Varint(300)));
        assert_eq!(read[1].int(), Ok(-1));
        assert_eq!((read[2].number, read[2].value), (1_000, Value::Bytes(b"graph")));
        assert_eq!(read[0].range.end, read[1].range.start);
        assert_eq!(read[2].range.end, message.len());
    }

    #[test]
    fn every_prefix_of_a_message_is_whole_or_truncated() {
        let mut message = Vec::new();
        put_bytes(&mut message, 7, b"abcdef");
        put_int(&mut message, 3, 1 << 40);
        for end in 0..message.len() {
            let last = fields(&message[..end]).last();
            assert!(
                matches!(last, None | Some(Ok(_) | Err(WireError::Truncated))),
                "{end}: {last:?}"
            );
        }
    }

    #[test]
    fn what_no_writer_makes_is_malformed() {
        for bytes in [
            &[0x00, 0x01][..],
            &[0x0b],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ] {
            assert_eq!(fields(bytes).next().unwrap().unwrap_err(), WireError::Malformed);
        }
        assert_eq!(
            fields(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f])
                .next()
                .unwrap()
                .unwrap_err(),
            WireError::Truncated
        );
    }

    #[test]
    fn packed_and_unpacked_lists_read_the_same() {
        let mut unpacked = Vec::new();
        put_int(&mut unpacked, 8, 5);
        put_int(&mut unpacked, 8, 300);
        let mut packed = Vec::new();
        put_bytes(&mut packed, 8, &[5, 0xac, 0x02]);
        for message in [unpacked, packed] {
            let mut values = Vec::new();
            for field in fields(&message) {
                field.unwrap().ints(&mut values).unwrap();
            }
            assert_eq!(values, [5, 300]);
        }
    }
}
