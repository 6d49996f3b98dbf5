//! Open Inference Protocol: types and codecs for V1, V2 REST, V2 gRPC and binary tensors; no sockets.
//!
//! A request's path becomes a [`Route`]; its body becomes an [`InferRequest`] through [`rest`], [`grpc`] or [`v1`],
//! whose [`Tensor`]s are views of the received bytes wherever the encoding allows it. [`ModelSignature`] tells
//! whether they fit a model. An [`InferResponse`] goes back the same way, a [`ProtocolError`] through its table.

pub mod coding;
mod datatype;
mod error;
pub mod grpc;
mod infer;
mod json;
pub mod metadata;
pub mod openapi;
pub mod rest;
mod route;
mod shape;
mod signature;
mod tensor;
pub mod v1;

pub use self::{
    datatype::{Datatype, UnknownDatatypeName},
    error::{ErrorStatus, Names, ProtocolError, Role, TensorLabel},
    grpc::GrpcCode,
    infer::{
        InferRequest, InferResponse, ModelRef, NanPolicy, ParameterValue, Parameters, RequestedOutput,
        RequestedOutputs,
    },
    route::{Access, Route, SharedMemory},
    shape::{Shape, ShapeError},
    signature::{ModelSignature, TensorSpec},
    tensor::{CLASS_LABELS, Element, F64Iter, StringData, StringDataBuilder, StringIter, Tensor, TensorData},
};
