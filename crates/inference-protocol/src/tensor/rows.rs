//! Rows of a tensor, its first dimension: taken out, and put together.

use std::ops::Range;

use bytes::Bytes;

use super::values::Values;
use super::{StringData, StringDataBuilder, Tensor, TensorData};
use crate::Shape;

impl Tensor {
    /// The rows `range` of this tensor, as a view of the same buffer; without its parameters.
    ///
    /// `None` for a scalar, and for rows that it does not have.
    pub fn row_range(&self, range: Range<usize>) -> Option<Tensor> {
        let rows = usize::try_from(self.shape.rows()?).ok()?;
        if range.start > range.end || range.end > rows {
            return None;
        }
        let width = self.data.len().checked_div(rows).unwrap_or(0);
        let data = self.data.range(range.start * width..range.end * width)?;
        Tensor::new(self.name.clone(), with_rows(&self.shape, range.len()), data).ok()
    }

    /// The rows of `parts`, one after the other, under the name of the first; copied once.
    ///
    /// `None` for no parts, a scalar, datatypes or further dimensions that differ, and strings of 4 GiB or more.
    pub fn concat_rows(parts: &[&Tensor]) -> Option<Tensor> {
        let (first, rest) = parts.split_first()?;
        let further = first.shape.dimensions().get(1..)?;
        let same = |part: &&Tensor| {
            part.datatype() == first.datatype() && part.shape.dimensions().get(1..) == Some(further)
        };
        if !rest.iter().all(same) {
            return None;
        }
        let rows = parts.iter().try_fold(0_usize, |sum, part| {
            sum.checked_add(usize::try_from(part.shape.rows()?).ok()?)
        })?;
        let data = TensorData::concat(parts.iter().map(|part| &part.data))?;
        Tensor::new(first.name.clone(), with_rows(&first.shape, rows), data).ok()
    }
}

fn with_rows(shape: &Shape, rows: usize) -> Shape {
    let dimension = |(index, &dimension): (usize, &i64)| if index == 0 { rows as i64 } else { dimension };
    shape.dimensions().iter().enumerate().map(dimension).collect()
}

impl TensorData {
    /// The values `range`, a view of the same buffer; `None` outside.
    fn range(&self, range: Range<usize>) -> Option<TensorData> {
        Some(TensorData(match &self.0 {
            Values::Fixed {
                datatype,
                width,
                bytes,
            } => {
                let (start, end) = (range.start.checked_mul(*width)?, range.end.checked_mul(*width)?);
                if start > end || end > bytes.len() {
                    return None;
                }
                Values::Fixed {
                    datatype: *datatype,
                    width: *width,
                    bytes: bytes.slice(start..end),
                }
            }
            Values::Strings(strings) => Values::Strings(strings.range(range)?),
        }))
    }

    /// All values in one buffer. The parts are of one datatype.
    fn concat<'a>(parts: impl Iterator<Item = &'a TensorData> + Clone) -> Option<TensorData> {
        let first = parts.clone().next()?;
        Some(TensorData(match &first.0 {
            Values::Fixed { datatype, width, .. } => {
                let views = parts.map(|part| part.as_le_bytes().map(|bytes| &bytes[..]));
                let total = views
                    .clone()
                    .try_fold(0_usize, |sum, view| sum.checked_add(view?.len()))?;
                let mut whole = Vec::with_capacity(total);
                for view in views {
                    whole.extend_from_slice(view?);
                }
                Values::Fixed {
                    datatype: *datatype,
                    width: *width,
                    bytes: Bytes::from(whole),
                }
            }
            Values::Strings(_) => {
                let values = parts.clone().map(TensorData::len).sum();
                let bytes = parts
                    .clone()
                    .map(|part| Some(part.as_strings()?.iter().map(<[u8]>::len).sum::<usize>()))
                    .sum::<Option<usize>>()?;
                let mut whole = StringDataBuilder::with_capacity(values, bytes);
                for part in parts {
                    if !part.as_strings()?.iter().all(|string| whole.push(string)) {
                        return None;
                    }
                }
                Values::Strings(whole.finish())
            }
        }))
    }
}

impl StringData {
    /// The values `range`, in the same buffer; `None` outside.
    fn range(&self, range: Range<usize>) -> Option<StringData> {
        Some(StringData::from_spans(
            self.buffer().clone(),
            self.spans().get(range)?.to_vec(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(values: &[&str], shape: &[i64]) -> Tensor {
        let data = TensorData::from_strings(values.iter().copied().collect());
        Tensor::new("s", Shape::new(shape), data).unwrap()
    }

    fn floats(values: &[f32], shape: &[i64]) -> Tensor {
        Tensor::new("x", Shape::new(shape), TensorData::from_vec(values.to_vec())).unwrap()
    }

    #[test]
    fn rows_that_are_put_together_come_apart_again() {
        let (one, two) = (
            floats(&[1.0, 2.0], &[1, 2]),
            floats(&[3.0, 4.0, 5.0, 6.0], &[2, 2]),
        );
        let whole = Tensor::concat_rows(&[&one, &two]).unwrap();
        assert_eq!(whole, floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2]));
        assert_eq!(whole.row_range(0..1), Some(one));
        assert_eq!(whole.row_range(1..3), Some(two));
        assert_eq!(whole.row_range(3..3), Some(floats(&[], &[0, 2])));

        let (one, two) = (strings(&["a", ""], &[1, 2]), strings(&["bc", "d"], &[1, 2]));
        let whole = Tensor::concat_rows(&[&one, &two]).unwrap();
        assert_eq!(whole, strings(&["a", "", "bc", "d"], &[2, 2]));
        assert_eq!(whole.row_range(1..2), Some(two));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let row = floats(&[1.0, 2.0], &[1, 2]);
        for other in [
            floats(&[1.0, 2.0], &[2, 1]),
            floats(&[1.0, 2.0], &[2]),
            strings(&["a", "b"], &[1, 2]),
            floats(&[1.0], &[]),
        ] {
            assert_eq!(Tensor::concat_rows(&[&row, &other]), None, "{other:?}");
            assert_eq!(Tensor::concat_rows(&[&other, &row]), None, "{other:?}");
        }
        assert_eq!(Tensor::concat_rows(&[]), None);
        assert_eq!(row.row_range(0..2), None);
        assert_eq!(floats(&[1.0], &[]).row_range(0..0), None);
        // Rows without values are rows all the same.
        let empty = Tensor::concat_rows(&[&floats(&[], &[2, 0]), &floats(&[], &[1, 0])]).unwrap();
        assert_eq!(empty.shape().dimensions(), [3, 0]);
        assert_eq!(empty.row_range(0..2).unwrap().shape().dimensions(), [2, 0]);
    }
}
