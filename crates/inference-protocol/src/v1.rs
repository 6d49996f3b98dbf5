//! V1: `{"instances": …}` and `{"inputs": …}` in, `{"predictions": …}` and `{"outputs": …}` out.
//!
//! V1 bodies carry no datatypes: a server reads them by its model's signature ([`decode_request`]), an observer takes
//! them as they look ([`observe_request`], [`observe_response`]). Beyond the published text, for tabular models:
//!
//! - a row of one value may stand bare where the model's shape is `[-1, 1]`,
//! - a model of several inputs takes rows as arrays of its inputs' values, in its order, besides objects by name,
//! - a classifier answers with `{"label": …, "probabilities": {class: p}}` per row ([`encode_classification`]).

mod decode;
mod encode;
mod event;
mod observe;

pub use self::{
    decode::decode_request,
    encode::{encode_classification, encode_request, encode_response},
    event::{data_of_event, event_with_data},
    observe::{observe_request, observe_response},
};

use crate::Tensor;

/// Name of the tensor of a body that names none and was read without a signature.
pub const UNNAMED: &str = "";

/// Name of the labels in a classifier's answer.
pub const LABEL: &str = "label";

/// Name of the probabilities in a classifier's answer.
pub const PROBABILITIES: &str = "probabilities";

/// Which of its two forms a V1 body has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `instances`, answered by `predictions`: a value or an object per row.
    Rows,
    /// `inputs`, answered by `outputs`: a tensor, or tensors by name.
    Columns,
}

impl Form {
    const fn request_key(self) -> &'static str {
        match self {
            Form::Rows => "instances",
            Form::Columns => "inputs",
        }
    }

    const fn response_key(self) -> &'static str {
        match self {
            Form::Rows => "predictions",
            Form::Columns => "outputs",
        }
    }
}

/// A V1 request.
#[derive(Clone, Debug, PartialEq)]
pub struct V1Request {
    /// Input tensors, the rows in their first dimension.
    pub inputs: Vec<Tensor>,
    /// The form of the request, which the answer has as well.
    pub form: Form,
}

#[cfg(test)]
mod tests;
