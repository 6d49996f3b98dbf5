//! The extension `classification`: an output's highest values with their places and labels, instead of its values.

use std::fmt::Write as _;

use plumbline_inference_protocol::{Datatype, Element, ProtocolError, StringData, Tensor, TensorData};

/// The `count` highest values of each row of `output`, each as `value:index` or `value:index:label`: `BYTES`, `[rows,
/// count]`. The first dimension is the rows where there is another, or where the model's is variable (`has_rows`);
/// otherwise the whole output is one row. NaN is below every number; of equal values, the first goes first.
///
/// # Errors
/// [`ProtocolError::InvalidArgument`] for values that are not numbers, or not as many in each row.
pub(crate) fn classify(
    model: &str,
    output: &Tensor,
    count: u32,
    labels: Option<&[String]>,
    has_rows: bool,
) -> Result<Tensor, ProtocolError> {
    let dimensions = output.shape().dimensions();
    let rows = match dimensions {
        [rows] if has_rows => *rows,
        [] | [_] => 1,
        [rows, ..] => *rows,
    };
    let rows = usize::try_from(rows).unwrap_or(0);
    let columns = output.len().checked_div(rows).unwrap_or(0);
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(columns);
    let told = Told {
        columns,
        count,
        labels,
    };
    let data = output.data();
    let texts = match output.datatype() {
        Datatype::Uint8 => told.of::<u8>(data),
        Datatype::Uint16 => told.of::<u16>(data),
        Datatype::Uint32 => told.of::<u32>(data),
        Datatype::Uint64 => told.of::<u64>(data),
        Datatype::Int8 => told.of::<i8>(data),
        Datatype::Int16 => told.of::<i16>(data),
        Datatype::Int32 => told.of::<i32>(data),
        Datatype::Int64 => told.of::<i64>(data),
        Datatype::Fp32 => told.of::<f32>(data),
        Datatype::Fp64 => told.of::<f64>(data),
        Datatype::Fp16 | Datatype::Bf16 => {
            let values: Vec<f64> = data.iter_f64().map(Iterator::collect).unwrap_or_default();
            Some(told.of_slice(&values))
        }
        Datatype::Bool | Datatype::Bytes => None,
    };
    let Some(texts) = texts else {
        let (name, datatype) = (output.name(), output.datatype());
        return Err(ProtocolError::InvalidArgument {
            reason: format!(
                "model `{model}`: output `{name}`: expected numbers to classify, got datatype {datatype}"
            )
            .into(),
        });
    };
    let shape = [rows as i64, count as i64];
    Tensor::new(output.name(), shape, TensorData::from_strings(texts))
}

struct Told<'a> {
    columns: usize,
    count: usize,
    labels: Option<&'a [String]>,
}

impl Told<'_> {
    fn of<T: Element + PartialOrd + std::fmt::Display>(&self, data: &TensorData) -> Option<StringData> {
        data.to_slice::<T>().map(|values| self.of_slice(&values))
    }

    fn of_slice<T: PartialOrd + std::fmt::Display>(&self, values: &[T]) -> StringData {
        let mut texts = Vec::new();
        let mut order: Vec<usize> = Vec::with_capacity(self.columns);
        for row in values.chunks(self.columns.max(1)) {
            order.clear();
            order.extend(0..row.len());
            // Only NaN is not equal to itself.
            #[expect(clippy::eq_op, reason = "the test for NaN that every type has")]
            let is_nan = |at: usize| row[at] != row[at];
            order.sort_by(|&a, &b| {
                let descending = row[b].partial_cmp(&row[a]);
                descending.unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)))
            });
            for &at in order.iter().take(self.count) {
                let mut text = format!("{}:{at}", row[at]);
                if let Some(label) = self.labels.and_then(|labels| labels.get(at)) {
                    let _ = write!(text, ":{label}");
                }
                texts.push(text);
            }
        }
        texts.iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(tensor: &Tensor) -> Vec<String> {
        let strings = tensor.data().as_strings().expect("texts");
        strings
            .iter()
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect()
    }

    #[test]
    fn each_row_is_told_by_its_highest_values() {
        let values = vec![0.25_f32, 0.75, 0.0, f32::NAN, 2.0, 2.0];
        let output = Tensor::new("p", [2, 3], TensorData::from_vec(values)).unwrap();
        let labels = ["a", "b"].map(str::to_owned);
        let told = classify("m", &output, 2, Some(&labels), true).unwrap();
        assert_eq!(told.shape().dimensions(), [2, 2]);
        assert_eq!(texts(&told), ["0.75:1:b", "0.25:0:a", "2:1:b", "2:2"]);
        let told = classify("m", &output, 9, None, true).unwrap();
        assert_eq!(told.shape().dimensions(), [2, 3]);
        assert_eq!(texts(&told)[3..], ["2:1", "2:2", "NaN:0"]);
    }

    #[test]
    fn one_dimension_is_rows_or_classes_as_the_model_says() {
        let output = Tensor::new("n", [3], TensorData::from_vec(vec![5_i64, 7, 6])).unwrap();
        let rows = classify("m", &output, 2, None, true).unwrap();
        assert_eq!(
            (rows.shape().dimensions(), texts(&rows)[1].as_str()),
            (&[3, 1][..], "7:0")
        );
        let classes = classify("m", &output, 2, None, false).unwrap();
        assert_eq!(
            (classes.shape().dimensions(), texts(&classes)),
            (&[1, 2][..], vec!["7:1".into(), "6:2".into()])
        );
        let empty = Tensor::new("n", [0, 3], TensorData::from_vec(Vec::<i64>::new())).unwrap();
        assert_eq!(
            classify("m", &empty, 2, None, true).unwrap().shape().dimensions(),
            [0, 0]
        );
    }

    #[test]
    fn texts_have_no_order() {
        let output = Tensor::new("t", [1], TensorData::from_strings(["a"].into_iter().collect())).unwrap();
        assert_eq!(
            classify("m", &output, 1, None, true).unwrap_err().http_status(),
            400
        );
    }
}
