//! V2 over gRPC: messages, framing, statuses, and the way between messages and tensors.

mod code;
mod convert;
mod frame;
mod metadata;
mod method;
mod peek;
pub mod reflection;
mod stream;

pub use self::{
    code::GrpcCode,
    convert::{Contents, request_from_proto, request_to_proto, response_from_proto, response_to_proto},
    frame::{
        FRAME_PREFIX, FrameParser, compress_frame, decode_frame, decode_message, encode_frame, expand_frame,
        is_compressed, message_coding, message_of,
    },
    metadata::{decode_status_message, encode_status_message, format_timeout, parse_timeout},
    method::Method,
    peek::{Peek, peek_model},
    stream::StreamedRequest,
};

/// Content type of gRPC bodies.
pub const CONTENT_TYPE: &str = "application/grpc";

/// Whether a `Content-Type` is gRPC's: `application/grpc`, bare or with `+proto` or a parameter. Not gRPC-Web.
pub fn is_grpc(content_type: &[u8]) -> bool {
    content_type
        .strip_prefix(CONTENT_TYPE.as_bytes())
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Messages of the package `inference`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; `proto/inference.proto` has the words"
)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}

/// Messages of the package `grpc.health.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; `proto/health.proto` has the words"
)]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

#[cfg(test)]
mod tests;
