//! Writing V1 bodies.

use bytes::Bytes;

use super::{Form, LABEL, PROBABILITIES};
use crate::{
    NanPolicy, ProtocolError, Role, Tensor, TensorLabel,
    json::{Values, write_str},
};

/// Writes a request. By rows, a single input's values stand bare; several are objects by name.
///
/// # Errors
/// [`ProtocolError::NotInJson`], [`ProtocolError::NotFinite`] and [`ProtocolError::Value`] (text that is not UTF-8)
/// for values without a JSON form; [`ProtocolError::InvalidArgument`] for inputs that do not have the same rows.
pub fn encode_request(inputs: &[Tensor], form: Form) -> Result<Bytes, ProtocolError> {
    encode(inputs, Role::Input, form, form.request_key(), NanPolicy::Error)
}

/// Writes an answer in the request's form. By rows, a single output's values stand bare; several are objects by name.
///
/// # Errors
/// As [`encode_request`].
pub fn encode_response(outputs: &[Tensor], form: Form, nan: NanPolicy) -> Result<Bytes, ProtocolError> {
    encode(outputs, Role::Output, form, form.response_key(), nan)
}

/// Writes a classifier's answer: `{"label": …, "probabilities": {class: p}}` per row, in the form by columns two
/// lists of them.
///
/// `labels`: one a row, of shape `[rows]`, `[rows, 1]` or `[1, rows]`; `probabilities`: one tensor of shape `[rows, classes]`, or one for each
/// class of shape `[rows]` or `[rows, 1]`; `classes`: the name of each.
///
/// # Errors
/// [`ProtocolError::Internal`] for tensors of other shapes, otherwise as [`encode_request`].
pub fn encode_classification<S: AsRef<str>>(
    labels: &Tensor,
    probabilities: &[&Tensor],
    classes: &[S],
    form: Form,
    nan: NanPolicy,
) -> Result<Bytes, ProtocolError> {
    let rows = labels.len();
    let is_column = |tensor: &Tensor| tensor.shape().rows() == Some(rows as i64) && tensor.len() == rows;
    let is_matrix = |tensor: &Tensor| *tensor.shape().dimensions() == [rows as i64, classes.len() as i64];
    let by_columns = match probabilities {
        [matrix] if is_matrix(matrix) => false,
        columns if columns.len() == classes.len() && columns.iter().all(|column| is_column(column)) => true,
        _ => return Err(ProtocolError::Internal),
    };
    let keys: Vec<Vec<u8>> = classes
        .iter()
        .map(|class| {
            let mut key = Vec::new();
            write_str(&mut key, class.as_ref());
            key.push(b':');
            key
        })
        .collect();
    let label_values = Values::of(labels, Role::Output)?;
    let probability_values = probabilities
        .iter()
        .map(|tensor| Values::of(tensor, Role::Output))
        .collect::<Result<Vec<_>, _>>()?;
    let write_label = |row: usize, out: &mut Vec<u8>| {
        label_values.write(
            row..row + 1,
            nan,
            || TensorLabel::new(Role::Output, labels.name()),
            out,
        )
    };
    let write_probabilities = |row: usize, out: &mut Vec<u8>| {
        out.push(b'{');
        for (class, key) in keys.iter().enumerate() {
            if class > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            let (tensor, at) = if by_columns {
                (class, row)
            } else {
                (0, row * keys.len() + class)
            };
            let label = || TensorLabel::new(Role::Output, probabilities[tensor].name());
            probability_values[tensor].write(at..at + 1, nan, label, out)?;
        }
        out.push(b'}');
        Ok(())
    };

    let mut out = Vec::with_capacity(32 + rows * (48 + keys.iter().map(|key| key.len() + 12).sum::<usize>()));
    open(&mut out, form.response_key());
    match form {
        Form::Rows => list(&mut out, rows, |row, out| {
            member(out, b'{', LABEL);
            write_label(row, out)?;
            member(out, b',', PROBABILITIES);
            write_probabilities(row, out)?;
            out.push(b'}');
            Ok(())
        })?,
        Form::Columns => {
            member(&mut out, b'{', LABEL);
            list(&mut out, rows, write_label)?;
            member(&mut out, b',', PROBABILITIES);
            list(&mut out, rows, write_probabilities)?;
            out.push(b'}');
        }
    }
    out.push(b'}');
    Ok(out.into())
}

fn encode(
    tensors: &[Tensor],
    role: Role,
    form: Form,
    key: &str,
    nan: NanPolicy,
) -> Result<Bytes, ProtocolError> {
    let writers = tensors
        .iter()
        .map(|tensor| {
            Ok(Writer {
                tensor,
                role,
                nan,
                values: Values::of(tensor, role)?,
            })
        })
        .collect::<Result<Vec<_>, ProtocolError>>()?;
    let capacity = tensors.iter().map(|tensor| 32 + tensor.len() * 12).sum::<usize>() + 32;
    let mut out = Vec::with_capacity(capacity);
    open(&mut out, key);
    match (form, writers.as_slice()) {
        (Form::Rows, writers) => {
            let rows = common_rows(tensors, role)?;
            list(&mut out, rows, |row, out| match writers {
                [only] => only.row(row, out),
                several => object(out, several, |writer, out| writer.row(row, out)),
            })?;
        }
        (Form::Columns, [only]) => only.whole(&mut out)?,
        (Form::Columns, several) => object(&mut out, several, Writer::whole)?,
    }
    out.push(b'}');
    Ok(out.into())
}

/// Rows of all tensors, which must agree.
fn common_rows(tensors: &[Tensor], role: Role) -> Result<usize, ProtocolError> {
    let expected = tensors
        .first()
        .and_then(|tensor| tensor.shape().rows())
        .unwrap_or(0);
    for tensor in tensors {
        if tensor.shape().rows() != Some(expected) {
            let label = TensorLabel::new(role, tensor.name());
            let reason = format!(
                "{label}: expected {expected} rows as in the first tensor for the row format, got shape {}; the column \
                 format (`inputs`) has any shape",
                tensor.shape()
            );
            return Err(ProtocolError::InvalidArgument {
                reason: reason.into(),
            });
        }
    }
    Ok(expected as usize) // a tensor's dimensions are not negative
}

fn open(out: &mut Vec<u8>, key: &str) {
    member(out, b'{', key);
}

/// A key that needs no escapes, after `{` or `,`.
fn member(out: &mut Vec<u8>, before: u8, key: &str) {
    out.extend_from_slice(&[before, b'"']);
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn list(
    out: &mut Vec<u8>,
    rows: usize,
    write: impl Fn(usize, &mut Vec<u8>) -> Result<(), ProtocolError>,
) -> Result<(), ProtocolError> {
    out.push(b'[');
    for row in 0..rows {
        if row > 0 {
            out.push(b',');
        }
        write(row, out)?;
    }
    out.push(b']');
    Ok(())
}

fn object<'a>(
    out: &mut Vec<u8>,
    writers: &[Writer<'a>],
    write: impl Fn(&Writer<'a>, &mut Vec<u8>) -> Result<(), ProtocolError>,
) -> Result<(), ProtocolError> {
    out.push(b'{');
    for (index, writer) in writers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_str(out, writer.tensor.name());
        out.push(b':');
        write(writer, out)?;
    }
    out.push(b'}');
    Ok(())
}

struct Writer<'a> {
    tensor: &'a Tensor,
    role: Role,
    nan: NanPolicy,
    values: Values<'a>,
}

impl Writer<'_> {
    fn row(&self, row: usize, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let dimensions = self.tensor.shape().dimensions().get(1..).unwrap_or_default();
        let len = dimensions.iter().product::<i64>() as usize; // within the tensor's own count
        self.nested(dimensions, row * len, out)
    }

    fn whole(&self, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        self.nested(self.tensor.shape().dimensions(), 0, out)
    }

    /// Writes the values from `start` on as arrays of these dimensions.
    fn nested(&self, dimensions: &[i64], start: usize, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let (outer, inner) = match dimensions {
            [] => return self.values(start, 1, out),
            [outer, inner @ ..] => (*outer as usize, inner),
        };
        out.push(b'[');
        if inner.is_empty() {
            self.values(start, outer, out)?;
        } else {
            let len = inner.iter().product::<i64>() as usize;
            for index in 0..outer {
                if index > 0 {
                    out.push(b',');
                }
                self.nested(inner, start + index * len, out)?;
            }
        }
        out.push(b']');
        Ok(())
    }

    fn values(&self, start: usize, len: usize, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let label = || TensorLabel::new(self.role, self.tensor.name());
        self.values.write(start..start + len, self.nan, label, out)
    }
}
