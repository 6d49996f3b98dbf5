//! V2 over REST: JSON bodies, with or without binary tensor data.

mod decode;
mod encode;
mod members;
mod raw_binary;
mod tensors;

use bytes::Bytes;

use crate::{ProtocolError, Role, TensorLabel};

pub use self::{
    decode::{decode_request, decode_request_for, decode_response, observe_request},
    encode::{encode_request, encode_response},
};
pub(crate) use self::{
    encode::append_raw,
    members::{requested_output, wrong_parameter},
    tensors::{count, datatype, raw_data},
};

/// Header that carries the length of the JSON part as soon as a tensor is binary; lower case, as HTTP/2 has it.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// Content type of JSON bodies. Without a charset: a stock client compares the whole value.
pub const JSON: &str = "application/json";

/// Content type of bodies with binary tensor data.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// Request-level parameter: the default for `binary_data` of all outputs.
pub(crate) const BINARY_DATA_OUTPUT: &str = "binary_data_output";
/// Parameter of a requested output: binary or JSON.
pub(crate) const BINARY_DATA: &str = "binary_data";
/// Parameter of a tensor: bytes after the JSON part that are its values.
const BINARY_DATA_SIZE: &str = "binary_data_size";
/// Parameter of a requested output: the number of classes to name.
pub(crate) const CLASSIFICATION: &str = "classification";

/// Parameter of a tensor: its values are, or shall be, in memory that client and server share.
pub(crate) const SHARED_MEMORY_REGION: &str = "shared_memory_region";

/// The answer to a tensor in shared memory.
pub(crate) fn shared_memory(role: Role, name: &str) -> ProtocolError {
    ProtocolError::Unsupported {
        what: format!("{}: shared memory", TensorLabel::new(role, name)).into(),
    }
}

/// How tensors of a request are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As JSON.
    Json,
    /// As binary tensor data after the JSON part.
    Binary,
}

/// A body, and what its headers have to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestBody {
    /// The whole body.
    pub body: Bytes,
    /// Bytes of the JSON part: the value of [`HEADER_LENGTH`]. `None`: no tensor is binary, so no header.
    pub json_len: Option<usize>,
}

impl RestBody {
    /// Value of the `Content-Type` header.
    pub fn content_type(&self) -> &'static str {
        if self.json_len.is_some() {
            OCTET_STREAM
        } else {
            JSON
        }
    }
}

#[cfg(test)]
mod tests;
