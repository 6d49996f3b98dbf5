//! How a type that is no tensor is served as one.

use plumbline_inference_protocol::{Datatype, Shape, TensorSpec};

use super::types::{Dimension, ValueType, datatype_of};

/// What becomes of an output. The datatypes are those of the tensors that clients see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// A tensor is a tensor.
    Tensor(Datatype),
    /// A sequence of tensors is one tensor, stacked on a new first axis; of unequal shapes, a tensor for each.
    Sequence(Datatype),
    /// N maps from class to value are a tensor `[N, C]` with class labels.
    Maps(Datatype),
    /// One map is a tensor `[1, C]` with class labels.
    Map(Datatype),
    /// What is there is served as itself, what is not as a tensor of shape `[0]`.
    Optional(Box<Mapping>),
}

impl Mapping {
    /// Datatype of the tensors.
    pub(crate) fn datatype(&self) -> Datatype {
        match self {
            Self::Tensor(datatype)
            | Self::Sequence(datatype)
            | Self::Maps(datatype)
            | Self::Map(datatype) => *datatype,
            Self::Optional(inner) => inner.datatype(),
        }
    }

    /// Whether clients get the value as it is.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Tensor(_))
    }

    /// Whether the first axis is a position in a sequence, so that there are no rows.
    pub(crate) fn is_sequence(&self) -> bool {
        match self {
            Self::Sequence(_) => true,
            Self::Optional(inner) => inner.is_sequence(),
            Self::Tensor(_) | Self::Maps(_) | Self::Map(_) => false,
        }
    }
}

impl ValueType {
    /// How a value of this type is served; `None` when it cannot be.
    pub(crate) fn mapping(&self) -> Option<Mapping> {
        match self {
            Self::Tensor { element, .. } => datatype_of(*element).map(Mapping::Tensor),
            Self::Sequence(element) => match &**element {
                Self::Tensor { element, .. } => datatype_of(*element).map(Mapping::Sequence),
                Self::Map { .. } => match element.mapping()? {
                    Mapping::Map(datatype) => Some(Mapping::Maps(datatype)),
                    _ => None,
                },
                _ => None,
            },
            // Keys are integers or strings, as ONNX has it; both are class labels.
            Self::Map { value, .. } => match &**value {
                Self::Tensor { element, .. } => datatype_of(*element).map(Mapping::Map),
                _ => None,
            },
            Self::Optional(inner) => match inner.mapping()? {
                Mapping::Optional(_) => None,
                mapping => Some(Mapping::Optional(Box::new(mapping))),
            },
            Self::SparseTensor { .. } | Self::Unknown => None,
        }
    }

    /// The tensor that clients see, named `name`.
    pub(crate) fn spec(&self, name: &str) -> Option<TensorSpec> {
        let mapping = self.mapping()?;
        let any_rank = || TensorSpec::new(name, mapping.datatype(), [-1]).with_any_rank();
        Some(match self {
            Self::Tensor { shape, .. } => match shape {
                Some(shape) => TensorSpec::new(name, mapping.datatype(), shape_of(shape)),
                None => any_rank(),
            },
            Self::Sequence(element) => match (&mapping, &**element) {
                (
                    Mapping::Sequence(datatype),
                    Self::Tensor {
                        shape: Some(shape), ..
                    },
                ) => {
                    let stacked = std::iter::once(-1).chain(shape.iter().map(Dimension::size));
                    TensorSpec::new(name, *datatype, stacked.collect::<Shape>())
                }
                (Mapping::Maps(datatype), _) => TensorSpec::new(name, *datatype, [-1, -1]),
                _ => any_rank(),
            },
            Self::Map { .. } => TensorSpec::new(name, mapping.datatype(), [1, -1]),
            Self::Optional(_) | Self::SparseTensor { .. } | Self::Unknown => any_rank(),
        })
    }
}

fn shape_of(dimensions: &[Dimension]) -> Shape {
    dimensions.iter().map(Dimension::size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(element: i64, shape: Option<&[i64]>) -> ValueType {
        let dimension = |&size: &i64| match size {
            -1 => Dimension::Unknown,
            size => Dimension::Fixed(size),
        };
        ValueType::Tensor {
            element,
            shape: shape.map(|shape| shape.iter().map(dimension).collect()),
        }
    }

    fn told(value_type: &ValueType) -> Option<String> {
        let spec = value_type.spec("y")?;
        let any = if spec.any_rank { " of any rank" } else { "" };
        Some(format!("{} {}{any}", spec.datatype, spec.shape))
    }

    #[test]
    fn every_type_that_can_be_tensors_tells_which() {
        let sequence = |of: ValueType| ValueType::Sequence(Box::new(of));
        let optional = |of: ValueType| ValueType::Optional(Box::new(of));
        let map = |value: i64| ValueType::Map {
            key: 8,
            value: Box::new(tensor(value, Some(&[]))),
        };
        for (value_type, served) in [
            (tensor(16, Some(&[-1, 4])), "BF16 [-1, 4]"),
            (tensor(1, Some(&[])), "FP32 []"),
            (tensor(1, None), "FP32 [-1] of any rank"),
            (sequence(tensor(7, Some(&[2, -1]))), "INT64 [-1, 2, -1]"),
            (sequence(tensor(8, None)), "BYTES [-1] of any rank"),
            (sequence(map(1)), "FP32 [-1, -1]"),
            (map(11), "FP64 [1, -1]"),
            (optional(tensor(1, Some(&[3]))), "FP32 [-1] of any rank"),
            (optional(sequence(tensor(1, Some(&[3])))), "FP32 [-1] of any rank"),
        ] {
            assert_eq!(told(&value_type).as_deref(), Some(served), "{value_type}");
        }
        for refused in [
            tensor(17, Some(&[1])),
            sequence(sequence(tensor(1, None))),
            sequence(optional(tensor(1, None))),
            sequence(map(14)),
            optional(optional(tensor(1, None))),
            ValueType::SparseTensor { element: 1 },
            ValueType::Unknown,
        ] {
            assert_eq!(told(&refused), None, "{refused}");
        }
    }

    #[test]
    fn elements_without_a_datatype_are_named() {
        assert_eq!(tensor(17, None).to_string(), "tensor(float8e4m3fn)");
        assert_eq!(tensor(22, None).to_string(), "tensor(int4)");
        assert_eq!(tensor(99, None).to_string(), "tensor(element type 99)");
    }
}
