//! Whether the rows of a model depend on each other: only where a run has shown that they do not may requests of
//! different clients be run together.

use plumbline_inference_protocol::{Datatype, Shape, StringData, Tensor, TensorData, TensorSpec};

use super::warm_up::shape_of;
use crate::session::{RunError, Session};

/// Sizes of the values that are tried: a standardized feature, an age, an amount. Integers are indices more often than
/// not and stay small at first.
const SCALES: [f64; 4] = [1.0, 4.0, 60.0, 3_000.0];

/// How far the values of a row may differ when it is run together with others. Kernels add up in another order then;
/// that changes the last bits of a sum, and a few more after some layers.
const TOLERANCE: f64 = 1e-3;

/// Whether every input, and every output of a run of one row, has rows: a variable first dimension.
pub(super) fn have_rows(inputs: &[TensorSpec], outputs: &[TensorSpec], shown: &[(String, Shape)]) -> bool {
    // Of an output whose shape nobody knows, the run of one row shows one; and some converters write 1 for any number.
    let may_vary = |(spec, (_, shown)): (&TensorSpec, &(String, Shape))| {
        shown.rows() == Some(1) && matches!(spec.shape.rows(), None | Some(-1 | 1))
    };
    inputs_have_rows(inputs) && outputs.iter().zip(shown).all(may_vary)
}

/// Whether every input has a variable first dimension.
pub(super) fn inputs_have_rows(inputs: &[TensorSpec]) -> bool {
    let varies = |spec: &TensorSpec| spec.shape.rows() == Some(-1) && !spec.any_rank;
    !inputs.is_empty() && inputs.iter().all(varies)
}

/// Whether two rows give together, in both orders and one of them twice, what each gives alone. `false` also where
/// the values tried say nothing: the model does not run with them, or answers the same to all.
pub(super) fn are_independent(session: &mut Session, inputs: &[TensorSpec], outputs: &[usize]) -> bool {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut told_apart = false;
    let mut tried = 0;
    for scale in SCALES {
        let row = |random: &mut Random| -> Option<Vec<Tensor>> {
            inputs.iter().map(|input| row_of(input, scale, random)).collect()
        };
        let (Some(one), Some(other)) = (row(&mut random), row(&mut random)) else {
            return false;
        };
        // Values that are out of its range say nothing.
        let Ok(agrees) = agrees(session, outputs, &one, &other) else {
            continue;
        };
        match agrees {
            Some(differ) => told_apart |= differ,
            None => return false,
        }
        tried += 1;
    }
    tried > 0 && told_apart
}

/// `None` if rows depend on each other, else whether the two give different outputs.
fn agrees(
    session: &mut Session,
    outputs: &[usize],
    one: &[Tensor],
    other: &[Tensor],
) -> Result<Option<bool>, RunError> {
    let (of_one, of_other) = (session.run(one, outputs)?, session.run(other, outputs)?);
    for order in [[0, 1, 0], [1, 0, 1]] {
        let rows = order.map(|which| if which == 0 { one } else { other });
        let expected = order.map(|which| if which == 0 { &of_one } else { &of_other });
        let column = |index: usize| Tensor::concat_rows(&rows.map(|row| &row[index]));
        let Some(together) = (0..one.len()).map(column).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let got = session.run(&together, outputs)?;
        for (index, tensor) in got.iter().enumerate() {
            for (at, expected) in expected.iter().enumerate() {
                let row = tensor.row_range(at..at + 1);
                if tensor.shape().rows() != Some(3)
                    || !row.is_some_and(|row| same(&row, &expected[index], TOLERANCE))
                {
                    return Ok(None);
                }
            }
        }
    }
    let differ = |(one, other): (&Tensor, &Tensor)| !same(one, other, 0.0);
    Ok(Some(of_one.iter().zip(&of_other).any(differ)))
}

/// Whether two tensors have the same shape and values, up to a share of the largest value.
fn same(one: &Tensor, other: &Tensor, tolerance: f64) -> bool {
    if one.shape() != other.shape() || one.datatype() != other.datatype() {
        return false;
    }
    let is_float = matches!(
        one.datatype(),
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64
    );
    match (one.data().iter_f64(), other.data().iter_f64()) {
        (Some(values), Some(others)) if is_float => {
            let largest = values
                .clone()
                .filter(|value| value.is_finite())
                .fold(0.0, |largest: f64, value| largest.max(value.abs()));
            let near = |(value, other): (f64, f64)| {
                value == other
                    || (value.is_nan() && other.is_nan())
                    || (value - other).abs() <= tolerance * largest
            };
            values.zip(others).all(near)
        }
        _ => one.data() == other.data(),
    }
}

fn row_of(input: &TensorSpec, scale: f64, random: &mut Random) -> Option<Tensor> {
    let shape = shape_of(input, 1);
    let count = shape.element_count().ok()?;
    let mut float = || (random.next() * 2.0 - 0.5) * scale;
    let data = match input.datatype {
        Datatype::Fp32 => TensorData::from_vec((0..count).map(|_| float() as f32).collect()),
        Datatype::Fp64 => TensorData::from_vec((0..count).map(|_| float()).collect()),
        Datatype::Bytes => {
            let letter = |_| ["a", "b", "c", "1"][(random.next() * 4.0) as usize % 4];
            TensorData::from_strings((0..count).map(letter).collect::<StringData>())
        }
        Datatype::Fp16 | Datatype::Bf16 => {
            // The upper bytes of 0.5 and 1.0 to 2.0, in either format.
            let high = if input.datatype == Datatype::Fp16 {
                0x3c00
            } else {
                0x3f80
            };
            let value = |_| (high + (random.next() * 64.0) as u16).to_le_bytes();
            let bytes: Vec<u8> = (0..count).flat_map(value).collect();
            TensorData::from_le_bytes(input.datatype, bytes.into())?
        }
        integer => {
            // 0 or 1, later up to a few: an index that is in range of most tables.
            let most = if integer == Datatype::Bool {
                2.0
            } else {
                scale.sqrt().clamp(2.0, 60.0)
            };
            let width = integer.width()?;
            let value = |_| {
                let mut bytes = [0_u8; 8];
                bytes[0] = (random.next() * most) as u8;
                bytes.into_iter().take(width)
            };
            let bytes: Vec<u8> = (0..count).flat_map(value).collect();
            TensorData::from_le_bytes(integer, bytes.into())?
        }
    };
    Tensor::new(input.name.as_str(), shape, data).ok()
}

/// Numbers that look random, the same at every start (Marsaglia's xorshift64).
struct Random(u64);

impl Random {
    /// From 0 to below 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(datatype: Datatype, shape: &[i64]) -> TensorSpec {
        TensorSpec::new("x", datatype, Shape::new(shape))
    }

    #[test]
    fn rows_are_a_variable_first_dimension_of_everything() {
        let (rows, fixed) = (spec(Datatype::Fp32, &[-1, 4]), spec(Datatype::Fp32, &[2, 4]));
        let (unknown, sloppy) = (spec(Datatype::Fp32, &[]), spec(Datatype::Fp32, &[1, 4]));
        let one = ("y".to_owned(), Shape::from([1, 4]));
        let both = |input: &TensorSpec, output: &TensorSpec| {
            have_rows(
                std::slice::from_ref(input),
                std::slice::from_ref(output),
                std::slice::from_ref(&one),
            )
        };
        assert!(both(&rows, &rows) && both(&rows, &unknown) && both(&rows, &sloppy));
        assert!(!both(&fixed, &rows) && !both(&sloppy, &rows) && !both(&rows, &fixed));
        assert!(!both(&rows.clone().with_any_rank(), &rows));
        assert!(!have_rows(&[], &[], &[]));
        let rows = [rows];
        assert!(!have_rows(&rows, &rows, &[("y".to_owned(), Shape::from([2, 4]))]));
    }

    #[test]
    fn rows_of_every_datatype_can_be_made_and_differ() {
        for datatype in Datatype::ALL {
            let input = spec(datatype, &[-1, 64]);
            let mut random = Random(1);
            let one = row_of(&input, 4.0, &mut random).unwrap();
            let other = row_of(&input, 4.0, &mut random).unwrap();
            assert_eq!(one.shape().dimensions(), [1, 64]);
            assert!(!same(&one, &other, 0.0), "{datatype}");
            assert!(same(&one, &one, 0.0), "{datatype}");
        }
    }

    #[test]
    fn only_floats_may_differ_a_little() {
        let floats = |value: f32| {
            Tensor::new("y", Shape::from([1, 2]), TensorData::from_vec(vec![100.0, value])).unwrap()
        };
        assert!(same(&floats(1.0), &floats(1.05), TOLERANCE));
        assert!(!same(&floats(1.0), &floats(1.2), TOLERANCE));
        let integers =
            |value: i64| Tensor::new("y", Shape::from([1]), TensorData::from_vec(vec![value])).unwrap();
        assert!(!same(&integers(1_000_000), &integers(1_000_001), TOLERANCE));
    }
}
