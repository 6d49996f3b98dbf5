//! The cost curves of a model: one for each size of a row.

use std::time::Duration;

use plumbline_inference_protocol::Tensor;

use super::curve::Curve;

/// Sizes of a row that are told apart, each twice the one before.
const CLASSES: usize = 16;

/// Bytes that a string stands for: what it costs to copy a short one.
const STRING_BYTES: usize = 16;

/// What executions of a model cost. Where dimensions other than the first vary, a row of 512 tokens is not a row of
/// one: rows are told apart by the power of two of their size, and those of a size that has not run yet are unknown.
#[derive(Debug)]
pub(crate) struct Costs {
    curves: [Curve; CLASSES],
    /// Bytes of a row of the warm-up; 0 where all rows are of one size.
    row_bytes: usize,
}

impl Costs {
    /// Nothing is known; all rows are of one size.
    pub(crate) fn unknown() -> Costs {
        Costs::new(Curve::unknown())
    }

    /// For rows of one size.
    pub(crate) fn new(curve: Curve) -> Costs {
        let mut curves: [Curve; CLASSES] = std::array::from_fn(|_| Curve::unknown());
        curves[0] = curve;
        Costs { curves, row_bytes: 0 }
    }

    /// For rows of many sizes; the curve is that of rows like those of `inputs`.
    pub(crate) fn varying(self, inputs: &[Tensor], rows: usize) -> Costs {
        Costs {
            row_bytes: row_bytes(inputs, rows).max(1),
            ..self
        }
    }

    /// The class of rows like these.
    pub(super) fn class(&self, inputs: &[Tensor], rows: usize) -> usize {
        if self.row_bytes == 0 {
            return 0;
        }
        let times = row_bytes(inputs, rows) / self.row_bytes;
        (times.max(1).ilog2() as usize).min(CLASSES - 1)
    }

    pub(super) fn curve(&self, class: usize) -> &Curve {
        &self.curves[class]
    }

    /// Expected time of an execution of the smallest rows; `None` while nothing is known.
    pub(crate) fn estimate(&self, rows: usize) -> Option<Duration> {
        self.curves[0].estimate(rows)
    }

    /// The most rows to gather. A size of rows that has only run alone starts from what pays for the smallest:
    /// the larger a row, the fewer of them.
    pub(super) fn batch(&self, class: usize) -> usize {
        let curve = &self.curves[class];
        if class > 0 && curve.sizes_known() == 1 {
            (self.curves[0].batch() >> class).max(1)
        } else {
            curve.batch()
        }
    }
}

fn row_bytes(inputs: &[Tensor], rows: usize) -> usize {
    let bytes = |tensor: &Tensor| tensor.len() * tensor.datatype().width().unwrap_or(STRING_BYTES);
    inputs.iter().map(bytes).sum::<usize>() / rows.max(1)
}

#[cfg(test)]
mod tests {
    use plumbline_inference_protocol::{Shape, TensorData};

    use super::*;

    fn row(columns: usize) -> Vec<Tensor> {
        let data = TensorData::from_vec(vec![0.0_f32; columns]);
        vec![Tensor::new("x", Shape::from([1, columns as i64]), data).unwrap()]
    }

    #[test]
    fn rows_of_another_size_are_unknown_until_they_have_run() {
        let micros = |rows, micros| (rows, Duration::from_micros(micros));
        let curve = Curve::from_measurements(&[micros(1, 100), micros(16, 120), micros(64, 160)]);
        let costs = Costs::new(curve).varying(&row(1), 1);
        let small = costs.class(&row(1), 1);
        let large = costs.class(&row(9), 1);
        assert_eq!((small, large), (0, 3));
        assert_eq!(costs.class(&row(18), 2), 3);
        assert_eq!(costs.curve(large).estimate(1), None);
        assert_eq!((costs.batch(small), costs.batch(large)), (128, 1));
        costs.curve(large).observe(1, Duration::from_micros(800));
        assert_eq!((costs.batch(small), costs.batch(large)), (128, 16));
    }

    #[test]
    fn where_all_rows_are_of_one_size_nobody_counts_bytes() {
        let costs = Costs::unknown();
        assert_eq!(costs.class(&row(1_000), 1), 0);
    }
}
