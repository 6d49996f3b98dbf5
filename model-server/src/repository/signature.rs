//! What a model takes and gives, as clients see it: from the file, from ONNX Runtime and from a run.

use ort::value::Outlet;
use plumbline_inference_protocol::{ModelSignature, Shape, TensorSpec};

use super::LoadProblem;
use super::model_toml::ModelToml;
use crate::model::OutputInfo;
use crate::onnx::{Dimension, OnnxModel, Probabilities, ValueInfo, ValueType};
use crate::session::{Session, value_type_of};

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
    /// Two outputs that could have one name.
    #[error(
        "output `{part}` has the name that a part of the sequence `{sequence}` would have: rename one of the two"
    )]
    PartName {
        /// The sequence.
        sequence: String,
        /// The other output.
        part: String,
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
    let is_served = match &info.value_type {
        ValueType::Tensor { .. } => info.value_type.mapping().is_some(),
        // An output's type may be left to inference; ONNX Runtime tells it when the model is built.
        ValueType::Unknown => side == "output",
        _ => side == "output" && info.value_type.mapping().is_some(),
    };
    let problem = match &info.value_type {
        ValueType::Tensor { .. } => Unservable::NoDatatype {
            side,
            name,
            value_type,
        },
        _ => Unservable::NotATensor {
            side,
            name,
            value_type,
        },
    };
    (!is_served).then_some(problem)
}

/// Exporters that keep the weights among the inputs do not mean that requests should bring their own: more inputs with
/// an initializer than this are not offered.
const MAX_OPTIONAL_INPUTS: usize = 64;

/// What a model takes and gives, as clients see it.
pub(super) struct Specs {
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) optional_inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<TensorSpec>,
    /// Types of the outputs in the graph.
    types: Vec<ValueType>,
}

impl Specs {
    /// Inputs and outputs as ONNX Runtime has them after shape inference, and what only the file tells.
    pub(super) fn of(session: &Session, description: &OnnxModel) -> Result<Specs, LoadProblem> {
        let mut problems = Vec::new();
        let mut specs = |side: &'static str, outlets: Vec<(String, ValueType)>| -> Vec<TensorSpec> {
            let spec = |(name, value_type): (String, ValueType)| {
                let spec = spec_of(side, &name, &value_type, description);
                if spec.is_none() {
                    problems.extend(problem_of(side, &ValueInfo { name, value_type }));
                }
                spec
            };
            outlets.into_iter().filter_map(spec).collect()
        };
        let outlets = |outlets: &[Outlet]| -> Vec<(String, ValueType)> {
            let outlet = |outlet: &Outlet| (outlet.name().to_owned(), value_type_of(outlet.dtype()));
            outlets.iter().map(outlet).collect()
        };
        let optional = session.optional_inputs();
        let optional = if optional.len() > MAX_OPTIONAL_INPUTS {
            Vec::new()
        } else {
            optional
        };
        let is_served = |(_, value_type): &(String, ValueType)| value_type.mapping().is_some();
        let types = outlets(session.outputs());
        let specs = Specs {
            inputs: specs("input", outlets(session.inputs())),
            optional_inputs: specs("input", optional.into_iter().filter(is_served).collect()),
            outputs: specs("output", types.clone()),
            types: types.into_iter().map(|(_, value_type)| value_type).collect(),
        };
        problems.extend(specs.part_names());
        if problems.is_empty() {
            Ok(specs)
        } else {
            Err(LoadProblem::Unservable(problems))
        }
    }

    /// Outputs that are named as a part of a sequence.
    fn part_names(&self) -> Vec<Unservable> {
        let is_sequence = |value_type: &ValueType| value_type.mapping().is_some_and(|m| m.is_sequence());
        let sequences = self
            .outputs
            .iter()
            .zip(&self.types)
            .filter(|(_, value_type)| is_sequence(value_type));
        let parts = sequences.flat_map(|(sequence, _)| {
            let is_part = |other: &&TensorSpec| {
                let number = other
                    .name
                    .strip_prefix(&sequence.name)
                    .and_then(|rest| rest.strip_prefix('_'));
                number.is_some_and(|number| {
                    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
                })
            };
            let problem = |part: &TensorSpec| Unservable::PartName {
                sequence: sequence.name.clone(),
                part: part.name.clone(),
            };
            self.outputs.iter().filter(is_part).map(problem)
        });
        parts.collect()
    }

    /// Corrects the outputs by what runs have shown: converters write 1 where they mean any number of rows, and a rank
    /// that nobody knew is at least that of a run.
    pub(super) fn complete(&mut self, shown: &[(String, Shape)]) {
        for (output, value_type) in self.outputs.iter_mut().zip(&self.types) {
            if !matches!(value_type, ValueType::Tensor { .. }) {
                continue;
            }
            for (_, shown) in shown.iter().filter(|(name, _)| *name == output.name) {
                if output.any_rank || output.shape.rank() != shown.rank() {
                    output.shape = shown.dimensions().iter().map(|_| -1).collect();
                    output.any_rank = true;
                } else if !output.shape.accepts(shown) {
                    let sizes = output.shape.dimensions().iter().zip(shown.dimensions());
                    let size = |(&told, &shown): (&i64, &i64)| if told == shown { told } else { -1 };
                    output.shape = sizes.map(size).collect();
                }
            }
        }
    }

    /// Whether every output is a tensor in the graph.
    pub(super) fn are_plain(&self) -> bool {
        self.types
            .iter()
            .all(|value_type| matches!(value_type, ValueType::Tensor { .. }))
    }

    pub(super) fn into_signature(self, model: &str) -> ModelSignature {
        ModelSignature {
            model: model.to_owned(),
            inputs: self.inputs,
            optional_inputs: self.optional_inputs,
            outputs: self.outputs,
        }
    }

    /// What is known about the outputs beyond their shapes. Class labels are those of `model.toml`, else those of the
    /// graph.
    pub(super) fn output_infos(
        &self,
        description: &OnnxModel,
        toml: &ModelToml,
    ) -> Result<Vec<OutputInfo>, LoadProblem> {
        let is_unknown = |name: &&String| self.outputs.iter().all(|spec| spec.name != **name);
        if let Some(unknown) = toml.class_labels.keys().find(is_unknown) {
            return Err(LoadProblem::Labels(format!(
                "the model has no output `{unknown}`"
            )));
        }
        let info = |(spec, value_type): (&TensorSpec, &ValueType)| {
            let given = toml.class_labels.get(&spec.name).cloned();
            if let (Some(labels), Some(classes)) = (&given, last_dimension(spec))
                && labels.len() as i64 != classes
            {
                let (output, given) = (&spec.name, labels.len());
                return Err(LoadProblem::Labels(format!(
                    "output `{output}` has {classes} classes, got {given} labels"
                )));
            }
            let labels = given.or_else(|| labels_of(spec, description));
            let mut info = OutputInfo::new(labels);
            info.class = class_of(&spec.name, description);
            info.mapping = value_type.mapping().filter(|mapping| !mapping.is_plain());
            info.onnx_type = info.mapping.is_some().then(|| value_type.to_string());
            Ok(info)
        };
        self.outputs.iter().zip(&self.types).map(info).collect()
    }
}

/// Size of the last dimension, where it is fixed.
fn last_dimension(spec: &TensorSpec) -> Option<i64> {
    let last = spec.shape.dimensions().last().copied();
    last.filter(|&size| size >= 0)
}

/// The names of an output's classes, as the graph has them.
pub(crate) fn labels_of(spec: &TensorSpec, description: &OnnxModel) -> Option<Vec<String>> {
    let zip_map = description
        .zip_maps
        .iter()
        .find(|zip_map| zip_map.output == spec.name);
    if let Some(zip_map) = zip_map {
        return Some(zip_map.classes.to_texts());
    }
    let classes = description.classes.as_ref()?;
    let is_matrix = matches!(&classes.probabilities, Probabilities::Matrix(name) if *name == spec.name);
    let fits =
        spec.shape.rank() == 2 && last_dimension(spec).is_none_or(|size| size == classes.labels.len() as i64);
    (is_matrix && fits).then(|| classes.labels.to_texts())
}

/// The class whose probability an output is, where each class has one.
fn class_of(output: &str, description: &OnnxModel) -> Option<String> {
    let classes = description.classes.as_ref()?;
    match &classes.probabilities {
        Probabilities::Columns(columns) => {
            let at = columns.iter().position(|column| column == output)?;
            classes.labels.to_texts().into_iter().nth(at)
        }
        Probabilities::Matrix(_) => None,
    }
}

/// ONNX Runtime tells a shape that nobody knows as that of a scalar; the file tells the two apart.
fn spec_of(
    side: &'static str,
    name: &str,
    value_type: &ValueType,
    description: &OnnxModel,
) -> Option<TensorSpec> {
    let spec = value_type.spec(name)?;
    let ValueType::Tensor { element, shape } = value_type else {
        return Some(spec).filter(|_| side == "output");
    };
    let declared = match side {
        "input" => description
            .inputs
            .iter()
            .chain(&description.optional_inputs)
            .find(|info| info.name == name),
        _ => description.outputs.iter().find(|info| info.name == name),
    };
    let says_scalar = declared.is_some_and(
        |info| matches!(&info.value_type, ValueType::Tensor { shape: Some(shape), .. } if shape.is_empty()),
    );
    if shape.as_ref().is_some_and(Vec::is_empty) && !says_scalar {
        let unknown = ValueType::Tensor {
            element: *element,
            shape: None,
        };
        return unknown.spec(name);
    }
    Some(spec)
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
