//! Tensors: a name, a shape, and values in the form that is cheapest to pass on.

mod elements;
mod rows;
mod strings;
mod values;

pub(crate) use self::strings::Span;
pub use self::{
    elements::Element,
    strings::{StringData, StringDataBuilder, StringIter},
    values::{F64Iter, TensorData},
};

use crate::{Datatype, ParameterValue, Parameters, ProtocolError, Role, Shape, TensorLabel};

/// Response-output parameter that names the classes behind the last dimension of a tensor of probabilities: the
/// text of a JSON array of strings. Written and read by [`Tensor::set_class_labels`] and [`Tensor::class_labels`].
pub const CLASS_LABELS: &str = "class_labels";

/// A named tensor whose values agree with its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    name: String,
    shape: Shape,
    data: TensorData,
    /// Parameters beside the values. `binary_data_size` is never among them: it belongs to the encoding.
    pub parameters: Parameters,
}

impl Tensor {
    /// A tensor; the number of values must be the product of `shape`.
    ///
    /// # Errors
    /// [`ProtocolError::InvalidShape`], [`ProtocolError::ElementCount`]; both speak of an output, as those who
    /// build tensors are mostly servers.
    pub fn new(
        name: impl Into<String>,
        shape: impl Into<Shape>,
        data: TensorData,
    ) -> Result<Tensor, ProtocolError> {
        Tensor::with_role(Role::Output, name.into(), shape.into(), data)
    }

    pub(crate) fn with_role(
        role: Role,
        name: String,
        shape: Shape,
        data: TensorData,
    ) -> Result<Tensor, ProtocolError> {
        let expected = match shape.element_count() {
            Ok(count) => count,
            Err(reason) => {
                return Err(ProtocolError::InvalidShape {
                    tensor: TensorLabel::new(role, &name),
                    shape,
                    reason,
                });
            }
        };
        if expected != data.len() {
            let (tensor, got) = (TensorLabel::new(role, &name), data.len());
            return Err(ProtocolError::ElementCount {
                tensor,
                shape,
                expected,
                got,
            });
        }
        Ok(Tensor {
            name,
            shape,
            data,
            parameters: Parameters::default(),
        })
    }

    /// The tensor's name. Empty for the bare tensor of a V1 body that was read without a signature.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Datatype of the values.
    pub fn datatype(&self) -> Datatype {
        self.data.datatype()
    }

    /// Dimensions, none of them negative.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The values, row-major.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The parts: name, shape, values.
    pub fn into_parts(self) -> (String, Shape, TensorData) {
        (self.name, self.shape, self.data)
    }

    /// Names the classes behind the last dimension; see [`CLASS_LABELS`].
    pub fn set_class_labels<S: AsRef<str>>(&mut self, labels: impl IntoIterator<Item = S>) {
        let text = crate::json::array_of_strings(labels);
        self.parameters.set(CLASS_LABELS, ParameterValue::String(text));
    }

    /// The classes behind the last dimension, where the server told them; see [`CLASS_LABELS`].
    pub fn class_labels(&self) -> Option<Vec<String>> {
        match self.parameters.get(CLASS_LABELS)? {
            ParameterValue::String(text) => crate::json::parse_array_of_strings(text),
            ParameterValue::Bool(_)
            | ParameterValue::Int(_)
            | ParameterValue::Uint(_)
            | ParameterValue::Double(_) => None,
        }
    }
}
