//! Requests whose body is the bytes of one tensor, without any JSON.

use bytes::Bytes;

use super::tensors::raw_data;
use crate::{
    Datatype, InferRequest, ModelSignature, ProtocolError, RequestedOutputs, Role, Shape, StringData, Tensor,
    TensorData, TensorSpec,
};

/// The request that `body` is for this model: it must have one input, whose shape the number of bytes settles.
pub(super) fn decode(signature: &ModelSignature, body: &Bytes) -> Result<InferRequest, ProtocolError> {
    let unfit = |expected, got: String| ProtocolError::RawBinary {
        model: signature.model.as_str().into(),
        expected,
        got: got.into(),
    };
    let [spec] = signature.inputs.as_slice() else {
        return Err(unfit(
            "a model with exactly one input",
            format!("{} inputs", signature.inputs.len()),
        ));
    };
    let (shape, data) = match spec.datatype.width() {
        None => (
            one_element(spec),
            TensorData::from_strings([body].into_iter().collect::<StringData>()),
        ),
        Some(width) => {
            let shape = infer_shape(spec, body.len(), width).map_err(|expected| {
                unfit(
                    expected,
                    format!("{} bytes for {} shape {}", body.len(), spec.datatype, spec.shape),
                )
            })?;
            let count = body.len() / width;
            let data = raw_data(
                Role::Input,
                &spec.name,
                spec.datatype,
                &shape,
                count,
                body.clone(),
            )
            .map_err(|error| error.in_model(&signature.model))?;
            (shape, data)
        }
    };
    if spec.datatype == Datatype::Bytes && !spec.shape.accepts(&shape) {
        return Err(unfit(
            "a BYTES input of one value",
            format!("shape {}", spec.shape),
        ));
    }
    let input = Tensor::with_role(Role::Input, spec.name.clone(), shape, data)?;
    Ok(InferRequest {
        inputs: vec![input],
        outputs: RequestedOutputs {
            binary_data_output: Some(true),
            list: Vec::new(),
        },
        ..InferRequest::default()
    })
}

fn one_element(spec: &TensorSpec) -> Shape {
    spec.shape.dimensions().iter().map(|_| 1).collect()
}

/// The shape of `bytes` bytes. Of several variable dimensions the first is the batch, which is 1; more than one
/// other cannot be told apart.
fn infer_shape(spec: &TensorSpec, bytes: usize, width: usize) -> Result<Shape, &'static str> {
    const WHOLE: &str = "a body that fills the input's shape";
    let mut dimensions = spec.shape.dimensions().to_vec();
    let variable = dimensions.iter().filter(|&&dimension| dimension == -1).count();
    if variable > 1 && dimensions[0] == -1 {
        dimensions[0] = 1;
    }
    let unknown: Vec<usize> = (0..dimensions.len()).filter(|&at| dimensions[at] == -1).collect();
    if !bytes.is_multiple_of(width) {
        return Err(WHOLE);
    }
    let count = bytes / width;
    match unknown.as_slice() {
        [] => {}
        &[at] => {
            dimensions[at] = 1;
            let known = Shape::new(&dimensions).element_count().map_err(|_| WHOLE)?;
            if known == 0 || !count.is_multiple_of(known) {
                return Err(WHOLE);
            }
            dimensions[at] = (count / known) as i64;
        }
        _ => return Err("an input with at most one variable dimension besides the batch"),
    }
    let shape = Shape::from(dimensions);
    if shape.element_count() == Ok(count) {
        Ok(shape)
    } else {
        Err(WHOLE)
    }
}
