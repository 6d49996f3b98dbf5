//! Types of a graph's inputs and outputs.

use std::fmt;

use plumbline_inference_protocol::{Datatype, TensorSpec};

use super::wire::{Field, WireError, fields};

/// A named input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    pub value_type: ValueType,
}

/// An ONNX type, as far as it decides whether a value can be a tensor on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// `tensor(element)`. `shape` is `None` when the file does not tell even the rank.
    Tensor {
        /// `TensorProto.DataType`.
        element: i64,
        /// Dimensions, outermost first.
        shape: Option<Vec<Dimension>>,
    },
    /// `sparse_tensor(element)`.
    SparseTensor {
        /// `TensorProto.DataType`.
        element: i64,
    },
    /// `seq(element)`.
    Sequence(Box<ValueType>),
    /// `map(key, value)`.
    Map {
        /// `TensorProto.DataType` of the keys.
        key: i64,
        /// Type of the values.
        value: Box<ValueType>,
    },
    /// `optional(element)`.
    Optional(Box<ValueType>),
    /// Absent, or of a kind that came after this code.
    Unknown,
}

/// One dimension of a shape in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// A number.
    Fixed(i64),
    /// A name, the same for dimensions that must agree.
    Named(String),
    /// Neither.
    Unknown,
}

/// Names of a classifier's classes, in the order of its probabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClassLabels {
    /// `classlabels_int64s`.
    Ints(Vec<i64>),
    /// `classlabels_strings`.
    Strings(Vec<String>),
}

impl ClassLabels {
    /// The labels as text.
    pub(crate) fn to_texts(&self) -> Vec<String> {
        match self {
            Self::Ints(labels) => labels.iter().map(ToString::to_string).collect(),
            Self::Strings(labels) => labels.clone(),
        }
    }

    /// Number of classes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Ints(labels) => labels.len(),
            Self::Strings(labels) => labels.len(),
        }
    }
}

impl ValueInfo {
    /// The tensor that clients see, -1 for dimensions without a number; `None` when this cannot be served.
    pub(crate) fn spec(&self) -> Option<TensorSpec> {
        self.value_type.spec(&self.name)
    }

    pub(super) fn read(message: &[u8]) -> Result<ValueInfo, WireError> {
        let mut info = ValueInfo {
            name: String::new(),
            value_type: ValueType::Unknown,
        };
        for field in fields(message) {
            let field = field?;
            match field.number {
                1 => info.name = field.text()?,
                2 => info.value_type = ValueType::read(field.bytes()?, MAX_TYPE_DEPTH)?,
                _ => {}
            }
        }
        Ok(info)
    }
}

impl Dimension {
    /// Of a number, or of any number below 0 for none.
    pub(crate) fn of(size: i64) -> Dimension {
        if size < 0 {
            Self::Unknown
        } else {
            Self::Fixed(size)
        }
    }

    /// The number, -1 without one.
    pub fn size(&self) -> i64 {
        match self {
            Self::Fixed(size) => *size,
            Self::Named(_) | Self::Unknown => -1,
        }
    }

    fn read(message: &[u8]) -> Result<Dimension, WireError> {
        let mut dimension = Dimension::Unknown;
        for field in fields(message) {
            let field = field?;
            match field.number {
                // Some converters write -1 for "any"; ONNX Runtime reads it so, too.
                1 if field.int()? >= 0 => dimension = Dimension::Fixed(field.int()?),
                2 if !field.bytes()?.is_empty() => dimension = Dimension::Named(field.text()?),
                _ => {}
            }
        }
        Ok(dimension)
    }
}

/// Deeper types than `optional(seq(map(…)))` do not exist; a file that says so is not worth the stack.
const MAX_TYPE_DEPTH: usize = 8;

impl ValueType {
    fn read(message: &[u8], depth: usize) -> Result<ValueType, WireError> {
        let depth = depth.checked_sub(1).ok_or(WireError::Malformed)?;
        let mut value_type = ValueType::Unknown;
        for field in fields(message) {
            let field = field?;
            value_type = match field.number {
                1 => {
                    let (element, shape) = tensor(&field)?;
                    ValueType::Tensor { element, shape }
                }
                8 => ValueType::SparseTensor {
                    element: tensor(&field)?.0,
                },
                4 => ValueType::Sequence(Box::new(ValueType::inner(&field, 1, depth)?)),
                9 => ValueType::Optional(Box::new(ValueType::inner(&field, 1, depth)?)),
                5 => {
                    let mut key = 0;
                    for part in fields(field.bytes()?) {
                        let part = part?;
                        if part.number == 1 {
                            key = part.int()?;
                        }
                    }
                    ValueType::Map {
                        key,
                        value: Box::new(ValueType::inner(&field, 2, depth)?),
                    }
                }
                _ => continue, // the denotation, or a kind unknown here
            };
        }
        Ok(value_type)
    }

    /// The type in field `number` of a message that wraps one.
    fn inner(field: &Field<'_>, number: u32, depth: usize) -> Result<ValueType, WireError> {
        for part in fields(field.bytes()?) {
            let part = part?;
            if part.number == number {
                return ValueType::read(part.bytes()?, depth);
            }
        }
        Ok(ValueType::Unknown)
    }
}

/// Element type and shape of a `TypeProto.Tensor`.
fn tensor(field: &Field<'_>) -> Result<(i64, Option<Vec<Dimension>>), WireError> {
    let (mut element, mut shape) = (0, None);
    for part in fields(field.bytes()?) {
        let part = part?;
        match part.number {
            1 => element = part.int()?,
            2 => {
                let mut dimensions = Vec::new();
                for dimension in fields(part.bytes()?) {
                    let dimension = dimension?;
                    if dimension.number == 1 {
                        dimensions.push(Dimension::read(dimension.bytes()?)?);
                    }
                }
                shape = Some(dimensions);
            }
            _ => {}
        }
    }
    Ok((element, shape))
}

/// `TensorProto.DataType` and the names that ONNX's own documentation prints for them.
const ELEMENTS: [(i64, &str, Option<Datatype>); 26] = [
    (1, "float", Some(Datatype::Fp32)),
    (2, "uint8", Some(Datatype::Uint8)),
    (3, "int8", Some(Datatype::Int8)),
    (4, "uint16", Some(Datatype::Uint16)),
    (5, "int16", Some(Datatype::Int16)),
    (6, "int32", Some(Datatype::Int32)),
    (7, "int64", Some(Datatype::Int64)),
    (8, "string", Some(Datatype::Bytes)),
    (9, "bool", Some(Datatype::Bool)),
    (10, "float16", Some(Datatype::Fp16)),
    (11, "double", Some(Datatype::Fp64)),
    (12, "uint32", Some(Datatype::Uint32)),
    (13, "uint64", Some(Datatype::Uint64)),
    (14, "complex64", None),
    (15, "complex128", None),
    (16, "bfloat16", Some(Datatype::Bf16)),
    (17, "float8e4m3fn", None),
    (18, "float8e4m3fnuz", None),
    (19, "float8e5m2", None),
    (20, "float8e5m2fnuz", None),
    (21, "uint4", None),
    (22, "int4", None),
    (23, "float4e2m1", None),
    (24, "float8e8m0", None),
    (25, "uint2", None),
    (26, "int2", None),
];

/// The protocol's datatype for a `TensorProto.DataType`; `None` where the protocol has none.
pub(crate) fn datatype_of(element: i64) -> Option<Datatype> {
    ELEMENTS
        .iter()
        .find(|(number, ..)| *number == element)
        .and_then(|(.., datatype)| *datatype)
}

struct Element(i64);

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ELEMENTS.iter().find(|(number, ..)| *number == self.0) {
            Some((_, name, _)) => f.write_str(name),
            None => write!(f, "element type {}", self.0),
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor { element, .. } => write!(f, "tensor({})", Element(*element)),
            Self::SparseTensor { element } => write!(f, "sparse_tensor({})", Element(*element)),
            Self::Sequence(element) => write!(f, "seq({element})"),
            Self::Map { key, value } => write!(f, "map({},{value})", Element(*key)),
            Self::Optional(element) => write!(f, "optional({element})"),
            Self::Unknown => f.write_str("an unknown type"),
        }
    }
}
