//! What a model takes and gives, as clients see it: from the file, from ONNX Runtime and from a run.

use ort::value::{Outlet, ValueType as OrtType};
use plumbline_inference_protocol::{Shape, TensorSpec};

use super::LoadProblem;
use super::model_toml::ModelToml;
use crate::model::OutputInfo;
use crate::onnx::{self, Dimension, OnnxModel, ValueInfo, ValueType};
use crate::session::{Session, datatype_of};

/// An input or output that the protocol cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unservable {
    /// Not a tensor.
    #[error("{side} `{name}` is {value_type}, and a tensor is all that the protocol carries")]
    NotATensor {
        /// `input` or `output`.
        side: &'static str,
        /// Its name.
        name: String,
        /// Its type.
        value_type: ValueType,
    },
    /// A tensor of elements that the protocol does not have.
    #[error("{side} `{name}` is {value_type}, a datatype that the protocol does not have")]
    NoDatatype {
        /// `input` or `output`.
        side: &'static str,
        /// Its name.
        name: String,
        /// Its type.
        value_type: ValueType,
    },
    /// An input of any rank.
    #[error("input `{name}` has no shape: export the model with a shape, dimensions may be variable")]
    NoShape {
        /// Its name.
        name: String,
    },
    /// Nothing to answer with.
    #[error("the graph has no outputs")]
    NoOutputs,
}

/// Why the model's inputs and outputs cannot be served, its terminal `ZipMap` nodes taken as removed.
pub(crate) fn problems_of(model: &OnnxModel) -> Vec<Unservable> {
    let is_zip_map = |output: &&ValueInfo| model.zip_maps.iter().all(|zip_map| zip_map.output != output.name);
    let inputs = model.inputs.iter().filter_map(|input| problem_of("input", input));
    let outputs = model
        .outputs
        .iter()
        .filter(is_zip_map)
        .filter_map(|output| problem_of("output", output));
    let none = model.outputs.is_empty().then_some(Unservable::NoOutputs);
    inputs.chain(outputs).chain(none).collect()
}

fn problem_of(side: &'static str, info: &ValueInfo) -> Option<Unservable> {
    let (name, value_type) = (info.name.clone(), info.value_type.clone());
    match &info.value_type {
        ValueType::Tensor { element, .. } if onnx::datatype_of(*element).is_none() => {
            Some(Unservable::NoDatatype {
                side,
                name,
                value_type,
            })
        }
        ValueType::Tensor { shape: None, .. } if side == "input" => Some(Unservable::NoShape { name }),
        // An output's type may be left to inference; ONNX Runtime tells it when the model is built.
        ValueType::Tensor { .. } => None,
        ValueType::Unknown if side == "output" => None,
        ValueType::SparseTensor { .. }
        | ValueType::Sequence(_)
        | ValueType::Map { .. }
        | ValueType::Optional(_)
        | ValueType::Unknown => Some(Unservable::NotATensor {
            side,
            name,
            value_type,
        }),
    }
}

/// Inputs and outputs as ONNX Runtime has them after shape inference.
pub(super) fn specs_of(session: &Session) -> Result<(Vec<TensorSpec>, Vec<TensorSpec>), LoadProblem> {
    let mut problems = Vec::new();
    let mut specs = |side: &'static str, outlets: &[Outlet]| -> Vec<TensorSpec> {
        let spec = |outlet: &Outlet| {
            let spec = spec_of(outlet);
            if spec.is_none() {
                let (name, value_type) = (outlet.name().to_owned(), ValueType::Unknown);
                problems.push(Unservable::NotATensor {
                    side,
                    name,
                    value_type,
                });
            }
            spec
        };
        outlets.iter().filter_map(spec).collect()
    };
    let (inputs, outputs) = (
        specs("input", session.inputs()),
        specs("output", session.outputs()),
    );
    if problems.is_empty() {
        Ok((inputs, outputs))
    } else {
        Err(LoadProblem::Unservable(problems))
    }
}

fn spec_of(outlet: &Outlet) -> Option<TensorSpec> {
    match outlet.dtype() {
        OrtType::Tensor { ty, shape, .. } => {
            let shape: Shape = shape.iter().map(|&dimension| dimension.max(-1)).collect();
            Some(TensorSpec::new(outlet.name(), datatype_of(*ty)?, shape))
        }
        OrtType::Sequence(_) | OrtType::Map { .. } | OrtType::Optional(_) => None,
    }
}

/// ONNX Runtime tells a shape that nobody knows as that of a scalar; a run shows the rank.
pub(super) fn complete_shapes(outputs: &mut [TensorSpec], description: &OnnxModel, shown: &[Shape]) {
    for (output, shown) in outputs.iter_mut().zip(shown) {
        let says_scalar = |info: &&ValueInfo| {
            info.name == output.name
                && matches!(&info.value_type, ValueType::Tensor { shape: Some(shape), .. } if shape.is_empty())
        };
        if output.shape.rank() == 0
            && shown.rank() > 0
            && !description.outputs.iter().any(|o| says_scalar(&o))
        {
            output.shape = shown.dimensions().iter().map(|_| -1).collect();
        }
    }
}

/// Class labels by output: those of `model.toml`, else those of a removed `ZipMap`.
pub(super) fn output_infos(
    outputs: &[TensorSpec],
    description: &OnnxModel,
    toml: &ModelToml,
) -> Result<Vec<OutputInfo>, LoadProblem> {
    if let Some(unknown) = toml
        .class_labels
        .keys()
        .find(|name| outputs.iter().all(|spec| spec.name != **name))
    {
        return Err(LoadProblem::Labels(format!(
            "the model has no output `{unknown}`"
        )));
    }
    let info = |spec: &TensorSpec| {
        let zip_map = description
            .zip_maps
            .iter()
            .find(|zip_map| zip_map.output == spec.name);
        let given = toml.class_labels.get(&spec.name).cloned();
        if let (Some(labels), Some(&classes)) = (&given, spec.shape.dimensions().last())
            && classes >= 0
            && labels.len() as i64 != classes
        {
            let (output, given) = (&spec.name, labels.len());
            return Err(LoadProblem::Labels(format!(
                "output `{output}` has {classes} classes, got {given} labels"
            )));
        }
        Ok(OutputInfo::new(
            given.or_else(|| zip_map.map(|zip_map| zip_map.classes.to_texts())),
        ))
    };
    outputs.iter().map(info).collect()
}

/// Whether all variable first dimensions of inputs have one and the same name.
pub(super) fn rows_agree(inputs: &[ValueInfo]) -> bool {
    let mut names = inputs.iter().filter_map(|input| match &input.value_type {
        ValueType::Tensor {
            shape: Some(shape), ..
        } => match shape.first()? {
            Dimension::Named(name) => Some(Some(name.as_str())),
            Dimension::Unknown => Some(None),
            Dimension::Fixed(_) => None,
        },
        _ => None,
    });
    match names.next() {
        Some(Some(first)) => names.all(|name| name == Some(first)),
        Some(None) | None => false,
    }
}
