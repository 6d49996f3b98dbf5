//! What a model takes and gives, and whether a request fits.

use crate::{
    Datatype, InferRequest, Names, ProtocolError, RequestedOutputs, Role, Shape, Tensor, TensorLabel,
    error::shown,
    rest::{SHARED_MEMORY_REGION, shared_memory},
};

/// One input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name of the tensor.
    pub name: String,
    /// Its datatype.
    pub datatype: Datatype,
    /// Its shape, -1 where any size will do.
    pub shape: Shape,
    /// Whether the number of dimensions is open as well; `shape` is then one that will do.
    pub any_rank: bool,
}

impl TensorSpec {
    /// A tensor of a model.
    pub fn new(name: impl Into<String>, datatype: Datatype, shape: impl Into<Shape>) -> TensorSpec {
        TensorSpec {
            name: name.into(),
            datatype,
            shape: shape.into(),
            any_rank: false,
        }
    }

    /// The same with any number of dimensions.
    #[must_use]
    pub fn with_any_rank(mut self) -> TensorSpec {
        self.any_rank = true;
        self
    }

    /// Whether a tensor of this shape fits.
    pub fn accepts(&self, shape: &Shape) -> bool {
        self.any_rank || self.shape.accepts(shape)
    }
}

/// What a model takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelSignature {
    /// Name of the model, for error texts.
    pub model: String,
    /// Inputs, all of them required.
    pub inputs: Vec<TensorSpec>,
    /// Inputs that a request may leave out: the model has values for them.
    pub optional_inputs: Vec<TensorSpec>,
    /// Outputs.
    pub outputs: Vec<TensorSpec>,
}

impl ModelSignature {
    /// The input `name`, optional ones among them.
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs
            .iter()
            .chain(&self.optional_inputs)
            .find(|spec| spec.name == name)
    }

    /// The output `name`.
    pub fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|spec| spec.name == name)
    }

    /// Whether the request has this model's inputs and no others, with its datatypes and shapes, and asks only for
    /// outputs that it has.
    ///
    /// # Errors
    /// The first difference: [`ProtocolError::DuplicateTensor`], [`ProtocolError::UnexpectedInput`],
    /// [`ProtocolError::MissingInputs`], [`ProtocolError::DatatypeMismatch`], [`ProtocolError::ShapeMismatch`],
    /// [`ProtocolError::UnexpectedOutput`].
    pub fn validate(&self, request: &InferRequest) -> Result<(), ProtocolError> {
        self.validate_inputs(&request.inputs)?;
        self.validate_outputs(&request.outputs)
    }

    /// The inputs' half of [`ModelSignature::validate`].
    ///
    /// # Errors
    /// As there.
    pub fn validate_inputs(&self, inputs: &[Tensor]) -> Result<(), ProtocolError> {
        for (index, tensor) in inputs.iter().enumerate() {
            let Some(spec) = self.find_input(index, tensor.name()) else {
                return Err(ProtocolError::UnexpectedInput {
                    model: self.model.as_str().into(),
                    got: shown(tensor.name()),
                    expected: names(&self.inputs),
                });
            };
            if inputs[..index]
                .iter()
                .any(|earlier| earlier.name() == tensor.name())
            {
                let tensor = TensorLabel::new(Role::Input, tensor.name());
                return Err(ProtocolError::DuplicateTensor { tensor }.in_model(&self.model));
            }
            self.validate_tensor(spec, tensor)?;
        }
        let is_required = |tensor: &&Tensor| self.inputs.iter().any(|spec| spec.name == tensor.name());
        let got = if self.optional_inputs.is_empty() {
            inputs.len()
        } else {
            inputs.iter().filter(is_required).count()
        };
        if got < self.inputs.len() {
            let absent = |spec: &&TensorSpec| inputs.iter().all(|tensor| tensor.name() != spec.name);
            return Err(ProtocolError::MissingInputs {
                model: self.model.as_str().into(),
                expected: self.inputs.len(),
                got,
                missing: Names(
                    self.inputs
                        .iter()
                        .filter(absent)
                        .map(|spec| spec.name.clone())
                        .collect(),
                ),
            });
        }
        Ok(())
    }

    /// The outputs' half of [`ModelSignature::validate`].
    ///
    /// # Errors
    /// As there.
    pub fn validate_outputs(&self, requested: &RequestedOutputs) -> Result<(), ProtocolError> {
        for (index, output) in requested.list.iter().enumerate() {
            if self.output(&output.name).is_none() {
                return Err(ProtocolError::UnexpectedOutput {
                    model: self.model.as_str().into(),
                    got: shown(&output.name),
                    expected: names(&self.outputs),
                });
            }
            if requested.list[..index]
                .iter()
                .any(|earlier| earlier.name == output.name)
            {
                let tensor = TensorLabel::new(Role::Output, &output.name);
                return Err(ProtocolError::DuplicateTensor { tensor }.in_model(&self.model));
            }
            if output.parameters.get(SHARED_MEMORY_REGION).is_some() {
                return Err(shared_memory(Role::Output, &output.name));
            }
        }
        Ok(())
    }

    /// Clients mostly send inputs in the model's order, so that place is tried first.
    fn find_input(&self, index: usize, name: &str) -> Option<&TensorSpec> {
        self.inputs
            .get(index)
            .filter(|spec| spec.name == name)
            .or_else(|| self.input(name))
    }

    fn validate_tensor(&self, spec: &TensorSpec, tensor: &Tensor) -> Result<(), ProtocolError> {
        if spec.datatype != tensor.datatype() {
            return Err(ProtocolError::DatatypeMismatch {
                model: self.model.as_str().into(),
                tensor: TensorLabel::new(Role::Input, tensor.name()),
                expected: spec.datatype,
                got: tensor.datatype(),
            });
        }
        if !spec.accepts(tensor.shape()) {
            return Err(ProtocolError::ShapeMismatch {
                model: self.model.as_str().into(),
                tensor: TensorLabel::new(Role::Input, tensor.name()),
                expected: Box::new(spec.shape.clone()),
                got: Box::new(tensor.shape().clone()),
            });
        }
        Ok(())
    }
}

fn names(specs: &[TensorSpec]) -> Names {
    Names(specs.iter().map(|spec| spec.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RequestedOutput, TensorData};

    fn signature() -> ModelSignature {
        ModelSignature {
            model: "churn".to_owned(),
            inputs: vec![
                TensorSpec::new("x", Datatype::Fp32, [-1, 2]),
                TensorSpec::new("y", Datatype::Int64, [-1]),
            ],
            outputs: vec![TensorSpec::new("p", Datatype::Fp32, [-1])],
            ..ModelSignature::default()
        }
    }

    fn x() -> Tensor {
        Tensor::new("x", [1, 2], TensorData::from_vec(vec![1.0_f32, 2.0])).unwrap()
    }

    fn y() -> Tensor {
        Tensor::new("y", [1], TensorData::from_vec(vec![1_i64])).unwrap()
    }

    fn problem(inputs: &[Tensor]) -> String {
        signature().validate_inputs(inputs).unwrap_err().to_string()
    }

    #[test]
    fn a_fitting_request_passes_in_any_order() {
        assert_eq!(signature().validate_inputs(&[x(), y()]), Ok(()));
        assert_eq!(signature().validate_inputs(&[y(), x()]), Ok(()));
    }

    #[test]
    fn each_difference_is_one_sentence_with_model_tensor_expected_and_got() {
        let stranger = Tensor::new("z", [1], TensorData::from_vec(vec![1_i64])).unwrap();
        assert_eq!(
            problem(&[stranger]),
            "model `churn`: unexpected input `z`, expected `x`, `y`"
        );
        assert_eq!(
            problem(&[x()]),
            "model `churn`: expected 2 inputs, got 1, missing `y`"
        );
        assert_eq!(
            problem(&[x(), x()]),
            "model `churn`: input `x` is given twice, expected once"
        );
        let double = Tensor::new("x", [1, 2], TensorData::from_vec(vec![1.0_f64, 2.0])).unwrap();
        assert_eq!(
            problem(&[double]),
            "model `churn`: input `x`: expected datatype FP32, got FP64"
        );
        let wide = Tensor::new("x", [2, 1], TensorData::from_vec(vec![1.0_f32, 2.0])).unwrap();
        assert_eq!(
            problem(&[wide]),
            "model `churn`: input `x`: expected shape [-1, 2], got [2, 1]"
        );
    }

    #[test]
    fn optional_inputs_may_be_left_out_and_are_checked_when_given() {
        let signature = ModelSignature {
            optional_inputs: vec![TensorSpec::new("scale", Datatype::Fp32, [1])],
            ..signature()
        };
        let scale = |values: Vec<f32>| {
            let rows = values.len() as i64;
            Tensor::new("scale", [rows], TensorData::from_vec(values)).unwrap()
        };
        assert_eq!(signature.validate_inputs(&[x(), y()]), Ok(()));
        assert_eq!(signature.validate_inputs(&[scale(vec![2.0]), x(), y()]), Ok(()));
        let problem = |inputs: &[Tensor]| signature.validate_inputs(inputs).unwrap_err().to_string();
        assert_eq!(
            problem(&[x(), scale(vec![2.0])]),
            "model `churn`: expected 2 inputs, got 1, missing `y`"
        );
        assert_eq!(
            problem(&[x(), y(), scale(vec![2.0, 3.0])]),
            "model `churn`: input `scale`: expected shape [1], got [2]"
        );
    }

    #[test]
    fn an_input_of_any_rank_takes_every_shape() {
        let signature = ModelSignature {
            inputs: vec![TensorSpec::new("x", Datatype::Fp32, [-1]).with_any_rank()],
            ..ModelSignature::default()
        };
        let scalar = Tensor::new("x", [], TensorData::from_vec(vec![1.0_f32])).unwrap();
        for tensor in [x(), scalar] {
            assert_eq!(signature.validate_inputs(&[tensor]), Ok(()));
        }
    }

    #[test]
    fn outputs_must_exist_and_stand_once() {
        let ask = |names: &[&str]| RequestedOutputs {
            list: names
                .iter()
                .map(|&name| RequestedOutput {
                    name: name.to_owned(),
                    ..RequestedOutput::default()
                })
                .collect(),
            ..RequestedOutputs::default()
        };
        assert_eq!(signature().validate_outputs(&ask(&["p"])), Ok(()));
        let unknown = signature().validate_outputs(&ask(&["q"])).unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "model `churn`: unexpected output `q`, expected `p`"
        );
        assert_eq!(
            signature()
                .validate_outputs(&ask(&["p", "p"]))
                .unwrap_err()
                .code(),
            "duplicate_tensor"
        );
    }
}
