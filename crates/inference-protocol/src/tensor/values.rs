//! Values of a tensor.

use std::borrow::Cow;

use bytes::Bytes;
use half::{bf16, f16};

use super::{Element, StringData};
use crate::Datatype;

/// Values of a tensor, row-major.
///
/// Fixed-width values are their little-endian bytes: either a slice of the received body (not copied, maybe
/// unaligned) or the buffer that JSON was parsed into (aligned). `BYTES` values are spans of one buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorData(pub(super) Values);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    Fixed {
        datatype: Datatype,
        width: usize,
        bytes: Bytes,
    },
    Strings(StringData),
}

/// Owner of a typed buffer behind [`Bytes`].
struct Typed<T>(Vec<T>);

impl<T: Element> AsRef<[u8]> for Typed<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl TensorData {
    /// Fixed-width values out of a typed buffer, which is taken over, not copied.
    pub fn from_vec<T: Element>(values: Vec<T>) -> TensorData {
        let width = size_of::<T>();
        let bytes = if values.is_empty() {
            Bytes::new()
        } else {
            Bytes::from_owner(Typed(values))
        };
        TensorData(Values::Fixed {
            datatype: T::DATATYPE,
            width,
            bytes,
        })
    }

    /// Fixed-width values as little-endian bytes. `None` for `BYTES`, a length that is no multiple of the
    /// width, or a `BOOL` byte that is neither 0 nor 1.
    pub fn from_le_bytes(datatype: Datatype, bytes: Bytes) -> Option<TensorData> {
        let width = datatype.width()?;
        let whole = bytes.len().is_multiple_of(width);
        let valid = whole && (datatype != Datatype::Bool || bytes.iter().all(|&byte| byte <= 1));
        valid.then_some(TensorData(Values::Fixed {
            datatype,
            width,
            bytes,
        }))
    }

    /// `BYTES` values.
    pub fn from_strings(strings: StringData) -> TensorData {
        TensorData(Values::Strings(strings))
    }

    /// Datatype of the values.
    pub fn datatype(&self) -> Datatype {
        match &self.0 {
            Values::Fixed { datatype, .. } => *datatype,
            Values::Strings(_) => Datatype::Bytes,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match &self.0 {
            Values::Fixed { width, bytes, .. } => bytes.len() / width,
            Values::Strings(strings) => strings.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Little-endian bytes of fixed-width values; `None` for `BYTES`.
    pub fn as_le_bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            Values::Fixed { bytes, .. } => Some(bytes),
            Values::Strings(_) => None,
        }
    }

    /// `BYTES` values; `None` for fixed-width ones.
    pub fn as_strings(&self) -> Option<&StringData> {
        match &self.0 {
            Values::Fixed { .. } => None,
            Values::Strings(strings) => Some(strings),
        }
    }

    /// The values as a slice, without a copy; `None` if `T` is not their datatype or they are not aligned for it.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        match &self.0 {
            Values::Fixed { datatype, bytes, .. } if *datatype == T::DATATYPE => {
                if bytes.is_empty() {
                    return Some(&[]); // an empty slice of bytes need not be aligned
                }
                bytemuck::checked::try_cast_slice(bytes).ok()
            }
            Values::Fixed { .. } | Values::Strings(_) => None,
        }
    }

    /// The values as a slice, copied only if they are not aligned; `None` if `T` is not their datatype.
    pub fn to_slice<T: Element>(&self) -> Option<Cow<'_, [T]>> {
        if let Some(slice) = self.as_slice() {
            return Some(Cow::Borrowed(slice));
        }
        match &self.0 {
            Values::Fixed {
                datatype,
                bytes,
                width,
            } if *datatype == T::DATATYPE => {
                let values = bytes
                    .chunks_exact(*width)
                    .map(bytemuck::checked::pod_read_unaligned)
                    .collect();
                Some(Cow::Owned(values))
            }
            Values::Fixed { .. } | Values::Strings(_) => None,
        }
    }

    /// The values as `f64`, without an allocation: `BOOL` as 0 and 1, 64-bit integers to the nearest. `None`
    /// for `BYTES`.
    pub fn iter_f64(&self) -> Option<F64Iter<'_>> {
        match &self.0 {
            Values::Fixed {
                datatype,
                width,
                bytes,
            } => Some(F64Iter {
                datatype: *datatype,
                width: *width,
                bytes,
            }),
            Values::Strings(_) => None,
        }
    }

    /// The value at `index` as [`TensorData::iter_f64`] has it; `None` for `BYTES` or outside.
    pub fn f64_at(&self, index: usize) -> Option<f64> {
        match &self.0 {
            Values::Fixed {
                datatype,
                width,
                bytes,
            } => {
                let start = index.checked_mul(*width)?;
                Some(read_f64(*datatype, bytes.get(start..start.checked_add(*width)?)?))
            }
            Values::Strings(_) => None,
        }
    }
}

/// The fixed-width values of a tensor as `f64`. Made by [`TensorData::iter_f64`].
#[derive(Clone, Debug)]
pub struct F64Iter<'a> {
    datatype: Datatype,
    width: usize,
    bytes: &'a [u8],
}

impl Iterator for F64Iter<'_> {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        let (value, rest) = self.bytes.split_at_checked(self.width)?;
        self.bytes = rest;
        Some(read_f64(self.datatype, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.bytes.len() / self.width;
        (left, Some(left))
    }

    fn nth(&mut self, n: usize) -> Option<f64> {
        let skipped = n.saturating_mul(self.width).min(self.bytes.len());
        self.bytes = self.bytes.get(skipped..)?;
        self.next()
    }
}

impl ExactSizeIterator for F64Iter<'_> {}

/// `value` has the width of `datatype`.
fn read_f64(datatype: Datatype, value: &[u8]) -> f64 {
    fn read<T: Element>(value: &[u8]) -> T {
        bytemuck::checked::pod_read_unaligned(value)
    }
    match datatype {
        Datatype::Bool | Datatype::Uint8 => f64::from(read::<u8>(value)),
        Datatype::Uint16 => f64::from(read::<u16>(value)),
        Datatype::Uint32 => f64::from(read::<u32>(value)),
        Datatype::Uint64 => read::<u64>(value) as f64,
        Datatype::Int8 => f64::from(read::<i8>(value)),
        Datatype::Int16 => f64::from(read::<i16>(value)),
        Datatype::Int32 => f64::from(read::<i32>(value)),
        Datatype::Int64 => read::<i64>(value) as f64,
        Datatype::Fp16 => f64::from(read::<f16>(value)),
        Datatype::Bf16 => f64::from(read::<bf16>(value)),
        Datatype::Fp32 => f64::from(read::<f32>(value)),
        Datatype::Fp64 => read::<f64>(value),
        Datatype::Bytes => unreachable!("strings have no fixed width and are not `Values::Fixed`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_buffers_are_viewed_without_a_copy() {
        let data = TensorData::from_vec(vec![1.0_f32, -2.5]);
        assert_eq!(data.as_slice::<f32>(), Some(&[1.0, -2.5][..]));
        assert_eq!(data.as_slice::<f64>(), None);
        assert!(matches!(data.to_slice::<f32>(), Some(Cow::Borrowed(_))));
        assert_eq!(data.iter_f64().map(Iterator::collect), Some(vec![1.0, -2.5]));
        assert_eq!(data.f64_at(1), Some(-2.5));
        assert_eq!(data.f64_at(2), None);
    }

    #[test]
    fn unaligned_bytes_are_copied_once_and_read_the_same() {
        let aligned = Bytes::from_owner(Typed(vec![0_u64; 3]));
        let mut shifted = vec![0_u8; 3];
        shifted.extend_from_slice(&7_i32.to_le_bytes());
        let mut buffer = aligned.to_vec();
        buffer[1..5].copy_from_slice(&7_i32.to_le_bytes());
        // One of two neighbouring offsets is not a multiple of four, wherever the allocator put the buffer.
        let body = Bytes::from(buffer);
        let odd = TensorData::from_le_bytes(Datatype::Int32, body.slice(1..5)).unwrap();
        assert_eq!(odd.to_slice::<i32>().unwrap().as_ref(), &[7]);
        assert_eq!(odd.iter_f64().unwrap().collect::<Vec<_>>(), [7.0]);
    }

    #[test]
    fn bool_bytes_must_be_zero_or_one() {
        assert!(TensorData::from_le_bytes(Datatype::Bool, Bytes::from_static(&[0, 1])).is_some());
        assert!(TensorData::from_le_bytes(Datatype::Bool, Bytes::from_static(&[2])).is_none());
        assert!(TensorData::from_le_bytes(Datatype::Int16, Bytes::from_static(&[2])).is_none());
    }

    #[test]
    fn nth_skips_whole_values() {
        let data = TensorData::from_vec(vec![1_i16, 2, 3, 4, 5]);
        let column: Vec<f64> = data.iter_f64().unwrap().skip(1).step_by(2).collect();
        assert_eq!(column, [2.0, 4.0]);
        assert_eq!(data.iter_f64().unwrap().nth(9), None);
    }
}
