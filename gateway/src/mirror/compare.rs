//! Whether two answers predict the same.

use plumbline_inference_protocol::grpc::{self, proto};
use plumbline_inference_protocol::{Tensor, rest, v1};

use super::capture::Answer;
use crate::call::Family;

/// Floating-point values agree when they differ by at most `ABSOLUTE + RELATIVE · max(|a|, |b|)`: other kernels and
/// other orders of summation move the last digits of `FP32`, which has seven.
const ABSOLUTE: f64 = 1e-6;
const RELATIVE: f64 = 1e-4;

/// Rows of two answers to the same request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) agree: u64,
    /// Of which an output differs, or is in one answer only.
    pub(super) disagree: u64,
}

/// Compares row by row. Nothing when an answer cannot be read.
pub(super) fn compare(family: Family, a: &Answer, b: &Answer) -> Option<Rows> {
    Some(compare_outputs(&outputs(family, a)?, &outputs(family, b)?))
}

fn outputs(family: Family, answer: &Answer) -> Option<Vec<Tensor>> {
    match family {
        Family::V1 => v1::observe_response(&answer.body).ok(),
        Family::V2 => {
            let response = rest::decode_response(&answer.body, answer.json_len.as_deref()).ok()?;
            Some(response.outputs)
        }
        Family::Grpc => {
            let message: proto::ModelInferResponse = grpc::decode_frame(&answer.body).ok()?;
            Some(grpc::response_from_proto(message).ok()?.outputs)
        }
        Family::Other => None,
    }
}

fn compare_outputs(a: &[Tensor], b: &[Tensor]) -> Rows {
    let rows = a.iter().chain(b).map(rows_of).max().unwrap_or(0);
    let pair = |output: &Tensor| {
        let other = b.iter().find(|other| other.name() == output.name())?;
        (other.datatype() == output.datatype() && other.shape() == output.shape()).then_some(other)
    };
    let pairs: Option<Vec<(&Tensor, &Tensor)>> =
        a.iter().map(|output| Some((output, pair(output)?))).collect();
    let Some(pairs) = pairs.filter(|_| a.len() == b.len()) else {
        return Rows {
            agree: 0,
            disagree: rows,
        };
    };
    let agrees = |row: u64| pairs.iter().all(|(a, b)| row_agrees(a, b, row, rows));
    let agree = (0..rows).filter(|row| agrees(*row)).count() as u64;
    Rows {
        agree,
        disagree: rows - agree,
    }
}

/// The first dimension; a scalar is one row.
fn rows_of(tensor: &Tensor) -> u64 {
    let first = tensor.shape().dimensions().first();
    first.map_or(1, |first| u64::try_from(*first).unwrap_or(0))
}

/// An output with another number of rows than the answer belongs to all of them.
fn row_agrees(a: &Tensor, b: &Tensor, row: u64, rows: u64) -> bool {
    let values = if rows_of(a) == rows {
        let per_row = a.len() / usize::try_from(rows).unwrap_or(usize::MAX).max(1);
        let start = usize::try_from(row).unwrap_or(usize::MAX).saturating_mul(per_row);
        start..start.saturating_add(per_row)
    } else {
        0..a.len()
    };
    values.into_iter().all(|index| value_agrees(a, b, index))
}

fn value_agrees(a: &Tensor, b: &Tensor, index: usize) -> bool {
    if let (Some(a), Some(b)) = (a.data().as_strings(), b.data().as_strings()) {
        return a.get(index) == b.get(index);
    }
    match (a.data().f64_at(index), b.data().f64_at(index)) {
        (Some(a), Some(b)) => {
            let close = (a - b).abs() <= ABSOLUTE + RELATIVE * a.abs().max(b.abs());
            a == b || close || (a.is_nan() && b.is_nan())
        }
        (a, b) => a.is_none() && b.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use plumbline_inference_protocol::TensorData;

    use super::*;

    fn tensor(name: &str, shape: &[i64], values: &[f32]) -> Tensor {
        let data = TensorData::from_vec(values.to_vec());
        Tensor::new(name, shape, data).expect("a tensor")
    }

    fn rows(agree: u64, disagree: u64) -> Rows {
        Rows { agree, disagree }
    }

    #[test]
    fn rows_agree_when_every_value_does() {
        let a = [tensor("p", &[3, 2], &[0.1, 0.9, 0.5, 0.5, f32::NAN, 1.0])];
        let b = [tensor("p", &[3, 2], &[0.100_001, 0.9, 0.5, 0.6, f32::NAN, 1.0])];
        assert_eq!(compare_outputs(&a, &a), rows(3, 0));
        assert_eq!(compare_outputs(&a, &b), rows(2, 1));
        assert_eq!(compare_outputs(&[], &[]), rows(0, 0));
    }

    #[test]
    fn answers_of_other_outputs_disagree_in_every_row() {
        let a = [tensor("p", &[2], &[0.1, 0.9])];
        for b in [
            vec![],
            vec![tensor("q", &[2], &[0.1, 0.9])],
            vec![tensor("p", &[2, 1], &[0.1, 0.9])],
            vec![tensor("p", &[2], &[0.1, 0.9]), tensor("q", &[2], &[0.1, 0.9])],
        ] {
            assert_eq!(compare_outputs(&a, &b), rows(0, 2), "{b:?}");
        }
    }
}
