//! What a server says about a model's inputs.

use plumbline_inference_protocol::grpc::proto;
use plumbline_inference_protocol::{Datatype, Shape, TensorSpec};
use serde_json::Value;

/// Metadata that is not what the protocol says it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MetadataError {
    #[error("not JSON")]
    NotJson,
    #[error("`inputs[{index}]`: no {field}")]
    Input { index: usize, field: &'static str },
    #[error("no `inputs`")]
    NoInputs,
    #[error("input `{input}`: unknown datatype `{datatype}`")]
    Datatype { input: String, datatype: String },
}

/// The inputs in the body of `GET /v2/models/{m}`.
pub(crate) fn inputs_from_json(body: &[u8]) -> Result<Vec<TensorSpec>, MetadataError> {
    let body: Value = serde_json::from_slice(body).map_err(|_| MetadataError::NotJson)?;
    let inputs = body
        .get("inputs")
        .and_then(Value::as_array)
        .ok_or(MetadataError::NoInputs)?;
    let input = |(index, input): (usize, &Value)| {
        let missing = |field| MetadataError::Input { index, field };
        let text = |field| input.get(field).and_then(Value::as_str).ok_or(missing(field));
        let shape = input
            .get("shape")
            .and_then(Value::as_array)
            .ok_or(missing("shape"))?;
        let shape: Option<Vec<i64>> = shape.iter().map(Value::as_i64).collect();
        spec(text("name")?, text("datatype")?, &shape.ok_or(missing("shape"))?)
    };
    inputs.iter().enumerate().map(input).collect()
}

/// The inputs in the answer of the RPC `ModelMetadata`.
pub(crate) fn inputs_from_proto(
    response: &proto::ModelMetadataResponse,
) -> Result<Vec<TensorSpec>, MetadataError> {
    response
        .inputs
        .iter()
        .map(|input| spec(&input.name, &input.datatype, &input.shape))
        .collect()
}

fn spec(name: &str, datatype: &str, shape: &[i64]) -> Result<TensorSpec, MetadataError> {
    let unknown = || MetadataError::Datatype {
        input: name.to_owned(),
        datatype: datatype.to_owned(),
    };
    Ok(TensorSpec::new(
        name,
        Datatype::parse(datatype).ok_or_else(unknown)?,
        Shape::new(shape),
    ))
}

#[cfg(test)]
mod tests {
    use plumbline_inference_protocol::metadata::ModelMetadata;

    use super::*;

    #[test]
    fn both_forms_name_the_same_inputs() {
        let inputs = vec![
            TensorSpec::new("tenure", Datatype::Fp32, Shape::new(&[-1, 1])),
            TensorSpec::new("Contract", Datatype::Bytes, Shape::new(&[-1, 1])),
        ];
        let metadata = ModelMetadata {
            name: "churn".to_owned(),
            inputs: inputs.clone(),
            ..ModelMetadata::default()
        };
        assert_eq!(inputs_from_json(&metadata.to_json()).as_ref(), Ok(&inputs));
        assert_eq!(inputs_from_proto(&metadata.to_proto()), Ok(inputs));
    }

    #[test]
    fn what_is_missing_is_named() {
        let problem = |body: &str| {
            inputs_from_json(body.as_bytes())
                .expect_err("not metadata")
                .to_string()
        };
        assert_eq!(problem("<html>"), "not JSON");
        assert_eq!(problem("{}"), "no `inputs`");
        assert_eq!(
            problem(r#"{"inputs": [{"name": "x", "datatype": "FP32"}]}"#),
            "`inputs[0]`: no shape"
        );
        assert_eq!(
            problem(r#"{"inputs": [{"name": "x", "datatype": "FLOAT", "shape": [-1]}]}"#),
            "input `x`: unknown datatype `FLOAT`"
        );
    }
}
