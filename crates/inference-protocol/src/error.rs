//! What can go wrong with a request, and what the client is told.

mod table;

use std::{fmt, time::Duration};

pub use self::table::ErrorStatus;
use crate::{Datatype, Shape, ShapeError};

/// Which side of a model a tensor is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The tensor goes into the model.
    Input,
    /// The tensor comes out of the model.
    Output,
}

/// A tensor as an error names it: `` input `x` ``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorLabel {
    role: Role,
    name: Box<str>,
}

impl TensorLabel {
    /// The label of the tensor `name`.
    pub fn new(role: Role, name: &str) -> TensorLabel {
        TensorLabel {
            role,
            name: shown(name),
        }
    }
}

impl fmt::Display for TensorLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Input => "input",
            Role::Output => "output",
        };
        write!(f, "{role} `{}`", self.name)
    }
}

/// A name from outside, as an error's text shows it: on one line, and not for pages.
pub(crate) fn shown(name: &str) -> Box<str> {
    const LONGEST: usize = 128;
    if name.len() <= LONGEST && !name.contains(char::is_control) {
        return name.into();
    }
    name.chars()
        .filter(|c| !c.is_control())
        .take(LONGEST)
        .collect::<String>()
        .into()
}

/// Names in backquotes, separated by commas, for an error's text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names(pub Vec<String>);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            write!(f, "{}`{name}`", if index == 0 { "" } else { ", " })?;
        }
        if self.0.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

/// Every way to fail that the protocol knows: the text is what the client reads, on REST and gRPC alike.
///
/// Two texts are Triton's, because stock clients look for them: "Request for unknown model" and "contents field
/// must not be specified when using `raw_input_contents`".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    // The body.
    /// The body is not JSON.
    #[error("malformed JSON at byte {offset}: expected {expected}, got {got}")]
    Json {
        /// Offset in the body.
        offset: usize,
        /// What the grammar allows there.
        expected: &'static str,
        /// What stands there, shortened.
        got: Box<str>,
    },
    /// JSON deeper than the limit.
    #[error("JSON at byte {offset} is nested deeper than the limit of {limit} levels")]
    JsonDepth {
        /// Offset in the body.
        offset: usize,
        /// Levels allowed.
        limit: u32,
    },
    /// A member has a value of the wrong type or range.
    #[error("field `{field}`: expected {expected}, got {got}")]
    Field {
        /// Path of the member, e.g. `inputs[0].shape`.
        field: Box<str>,
        /// What the protocol allows.
        expected: &'static str,
        /// What stands there, shortened.
        got: Box<str>,
    },
    /// A required member is absent.
    #[error("field `{field}` is missing")]
    MissingField {
        /// Path of the member.
        field: Box<str>,
    },
    /// A member stands twice in one object.
    #[error("field `{field}` is given twice")]
    DuplicateField {
        /// Path of the member.
        field: Box<str>,
    },
    /// A V1 body has both or neither of `instances` and `inputs`.
    #[error("expected exactly one of `instances` and `inputs`, got {got}")]
    V1Form {
        /// `both` or `neither`.
        got: &'static str,
    },

    // Tensors.
    /// The datatype is not one of the protocol's.
    #[error("{tensor}: expected a datatype of the protocol such as FP32, got `{got}`")]
    UnknownDatatype {
        /// The tensor.
        tensor: TensorLabel,
        /// The name that was given.
        got: Box<str>,
    },
    /// The datatype has no JSON form.
    #[error(
        "{tensor}: datatype {datatype} has no JSON form, expected binary tensor data or gRPC raw contents"
    )]
    NotInJson {
        /// The tensor.
        tensor: TensorLabel,
        /// `FP16` or `BF16`.
        datatype: Datatype,
    },
    /// The datatype has no field in gRPC's typed contents.
    #[error("{tensor}: datatype {datatype} has no typed contents, expected raw contents")]
    NotTyped {
        /// The tensor.
        tensor: TensorLabel,
        /// `FP16` or `BF16`.
        datatype: Datatype,
    },
    /// The shape has a negative dimension or too many elements.
    #[error("{tensor}: shape {shape} is invalid, {reason}")]
    InvalidShape {
        /// The tensor.
        tensor: TensorLabel,
        /// The shape that was given.
        shape: Shape,
        /// What is wrong with it.
        reason: ShapeError,
    },
    /// The number of values is not the product of the shape.
    #[error("{tensor}: expected {expected} values for shape {shape}, got {got}")]
    ElementCount {
        /// The tensor.
        tensor: TensorLabel,
        /// Its shape.
        shape: Shape,
        /// Product of the shape.
        expected: usize,
        /// Values found.
        got: usize,
    },
    /// Nested arrays that do not follow the shape, or each other.
    #[error(
        "{tensor}: nested arrays must follow shape {shape}, expected {expected}, got {got} at level {level}"
    )]
    Ragged {
        /// The tensor.
        tensor: TensorLabel,
        /// Its shape, -1 where the arrays themselves would tell.
        shape: Shape,
        /// Depth of the array, 0 for the outermost.
        level: usize,
        /// What the shape, or an earlier array, asks for at that depth.
        expected: Box<str>,
        /// What stands there.
        got: Box<str>,
    },
    /// The values are not where arrays have to be.
    #[error("{tensor}: data: expected {expected}, got {got}")]
    Data {
        /// The tensor.
        tensor: TensorLabel,
        /// What the protocol allows.
        expected: &'static str,
        /// What stands there, shortened.
        got: Box<str>,
    },
    /// A value is not of the datatype, or out of its range.
    #[error("{tensor}: value {index}: expected {expected}, got {got}")]
    Value {
        /// The tensor.
        tensor: TensorLabel,
        /// Position of the value, row-major.
        index: usize,
        /// What the datatype allows.
        expected: &'static str,
        /// What stands there, shortened.
        got: Box<str>,
    },
    /// No values: neither `data` nor binary nor gRPC contents.
    #[error("{tensor}: expected values for shape {shape}, got none")]
    NoData {
        /// The tensor.
        tensor: TensorLabel,
        /// Its shape.
        shape: Shape,
    },
    /// A float has no JSON form and the server is told to refuse rather than to write null.
    #[error("{tensor}: value {index} is not finite and has no JSON form, expected binary output")]
    NotFinite {
        /// The tensor.
        tensor: TensorLabel,
        /// Position of the value, row-major.
        index: usize,
    },

    // Binary tensor data.
    /// `Inference-Header-Content-Length` is not a number within the body.
    #[error("header Inference-Header-Content-Length: expected a number from 0 to {body}, got `{got}`")]
    HeaderLength {
        /// Bytes in the body.
        body: usize,
        /// The header's value.
        got: Box<str>,
    },
    /// A tensor is binary, but the header that finds its bytes is absent.
    #[error("{tensor}: binary_data_size needs the header Inference-Header-Content-Length, got none")]
    HeaderMissing {
        /// The tensor.
        tensor: TensorLabel,
    },
    /// Bytes of a tensor do not agree with its shape and datatype.
    #[error("{tensor}: expected {expected} bytes for datatype {datatype} and shape {shape}, got {got}")]
    ByteSize {
        /// The tensor.
        tensor: TensorLabel,
        /// Its datatype.
        datatype: Datatype,
        /// Its shape.
        shape: Shape,
        /// Bytes that the shape asks for.
        expected: usize,
        /// Bytes found.
        got: usize,
    },
    /// The body ends before the bytes of a tensor do.
    #[error("{tensor}: expected {expected} bytes of binary data, got {got} before the end of the body")]
    BinaryTooShort {
        /// The tensor.
        tensor: TensorLabel,
        /// `binary_data_size`.
        expected: u64,
        /// Bytes left in the body.
        got: usize,
    },
    /// Bytes after those of the last tensor.
    #[error(
        "unexpected additional input data: expected the body to end after the last tensor, got {got} more bytes"
    )]
    TrailingBytes {
        /// Bytes left over.
        got: usize,
    },
    /// A tensor has both `data` and `binary_data_size`.
    #[error("{tensor}: expected one of data and binary_data_size, got both")]
    DataAndBinary {
        /// The tensor.
        tensor: TensorLabel,
    },
    /// The lengths within raw `BYTES` data do not add up.
    #[error(
        "{tensor}: expected a 4-byte length before each BYTES value, together {got} bytes, got lengths that end elsewhere"
    )]
    BytesLengths {
        /// The tensor.
        tensor: TensorLabel,
        /// Bytes of raw data.
        got: usize,
    },
    /// A raw `BOOL` byte is neither 0 nor 1.
    #[error("{tensor}: expected BOOL bytes of 0 or 1, got another")]
    BoolByte {
        /// The tensor.
        tensor: TensorLabel,
    },
    /// A body of raw bytes alone (header 0) cannot become this model's input.
    #[error("model `{model}`: a raw binary request needs {expected}, got {got}")]
    RawBinary {
        /// The model.
        model: Box<str>,
        /// What such a request needs.
        expected: &'static str,
        /// What the model or the body has.
        got: Box<str>,
    },
    /// A body of raw bytes alone (header 0), read without a model's signature.
    #[error("a raw binary request can only be read with the model's signature, got none")]
    RawBinaryWithoutSignature,

    // gRPC messages.
    /// The message is not a protobuf message of this type.
    #[error("malformed protobuf message: {reason}")]
    Protobuf {
        /// What the decoder says.
        reason: Box<str>,
    },
    /// The bytes are not a gRPC message with its 5-byte prefix.
    #[error("malformed gRPC frame: expected {expected}, got {got}")]
    GrpcFrame {
        /// What the framing allows.
        expected: &'static str,
        /// What stands there.
        got: Box<str>,
    },
    /// The gRPC message is compressed in a way that cannot be read.
    #[error("compressed gRPC message: expected grpc-encoding identity, gzip or deflate, got another or none")]
    GrpcCompression,
    /// Both raw and typed contents in one message; the text is Triton's.
    #[error(
        "contents field must not be specified when using raw_input_contents for '{input}' for model '{model}'"
    )]
    RawAndTyped {
        /// The input with typed contents.
        input: Box<str>,
        /// The model.
        model: Box<str>,
    },
    /// Raw contents are not one per tensor.
    #[error("expected one raw_{kind}_contents entry for each of the {expected} tensors, got {got}")]
    RawCount {
        /// `input` or `output`.
        kind: &'static str,
        /// Tensors in the message.
        expected: usize,
        /// Raw contents in the message.
        got: usize,
    },

    // The model's signature.
    /// The model has no such input.
    #[error("model `{model}`: unexpected input `{got}`, expected {expected}")]
    UnexpectedInput {
        /// The model.
        model: Box<str>,
        /// The input that was given.
        got: Box<str>,
        /// The model's inputs.
        expected: Names,
    },
    /// Inputs of the model are not in the request.
    #[error("model `{model}`: expected {expected} inputs, got {got}, missing {missing}")]
    MissingInputs {
        /// The model.
        model: Box<str>,
        /// Inputs of the model.
        expected: usize,
        /// Inputs of the request.
        got: usize,
        /// Those that are missing.
        missing: Names,
    },
    /// An input or a requested output stands twice in the request.
    #[error("{tensor} is given twice, expected once")]
    DuplicateTensor {
        /// The tensor.
        tensor: TensorLabel,
    },
    /// The model has no such output.
    #[error("model `{model}`: unexpected output `{got}`, expected {expected}")]
    UnexpectedOutput {
        /// The model.
        model: Box<str>,
        /// The output that was asked for.
        got: Box<str>,
        /// The model's outputs.
        expected: Names,
    },
    /// The tensor's datatype is not the model's.
    #[error("model `{model}`: {tensor}: expected datatype {expected}, got {got}")]
    DatatypeMismatch {
        /// The model.
        model: Box<str>,
        /// The tensor.
        tensor: TensorLabel,
        /// The model's datatype.
        expected: Datatype,
        /// The request's datatype.
        got: Datatype,
    },
    /// The tensor's shape does not fit the model's.
    #[error("model `{model}`: {tensor}: expected shape {expected}, got {got}")]
    ShapeMismatch {
        /// The model.
        model: Box<str>,
        /// The tensor.
        tensor: TensorLabel,
        /// The model's shape, -1 where any size will do.
        expected: Box<Shape>,
        /// The request's shape.
        got: Box<Shape>,
    },
    /// Inputs of one request have different numbers of rows.
    #[error("model `{model}`: {tensor}: expected {expected} rows as in the first input, got {got}")]
    RowsMismatch {
        /// The model.
        model: Box<str>,
        /// The tensor.
        tensor: TensorLabel,
        /// Rows of the first input.
        expected: i64,
        /// Rows of this one.
        got: i64,
    },
    /// More rows than the model takes at once.
    #[error("model `{model}`: expected at most {limit} rows, got {got}")]
    TooManyRows {
        /// The model.
        model: Box<str>,
        /// Rows allowed.
        limit: usize,
        /// Rows of the request.
        got: usize,
    },
    /// A failure above, told with its model.
    #[error("model `{model}`: {error}")]
    InModel {
        /// The model.
        model: Box<str>,
        /// The failure.
        error: Box<ProtocolError>,
    },
    /// Anything else that the client can change.
    #[error("{reason}")]
    InvalidArgument {
        /// One sentence: what, expected, got.
        reason: Box<str>,
    },

    // The servers.
    /// No such model; the leading phrase is Triton's.
    #[error("Request for unknown model: '{model}' is not found")]
    UnknownModel {
        /// The model that was asked for.
        model: Box<str>,
    },
    /// No such version of a known model.
    #[error("Request for unknown model: '{model}' version {version} is not found")]
    UnknownVersion {
        /// The model.
        model: Box<str>,
        /// The version that was asked for.
        version: Box<str>,
    },
    /// The model is known, but cannot answer yet, or no longer.
    #[error("model `{model}` is not ready: {reason}")]
    ModelNotReady {
        /// The model.
        model: Box<str>,
        /// One phrase: loading, failed to load, …
        reason: Box<str>,
    },
    /// The process is not ready to answer.
    #[error("the server is not ready: {reason}")]
    NotReady {
        /// One phrase.
        reason: Box<str>,
    },
    /// The queue is full.
    #[error("model `{model}` is overloaded: {limit} requests already wait")]
    Overloaded {
        /// The model.
        model: Box<str>,
        /// Requests that may wait.
        limit: usize,
    },
    /// The process ends and accepts nothing more.
    #[error("the server is draining")]
    Draining,
    /// The request's time is over.
    #[error("deadline exceeded after {} ms", .after.as_millis())]
    DeadlineExceeded {
        /// The time that the request had.
        after: Duration,
    },
    /// The client went away.
    #[error("the request was cancelled")]
    Cancelled,
    /// The body is larger than allowed.
    #[error("the body is larger than the limit of {limit} bytes")]
    BodyTooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// The body did not arrive whole.
    #[error("the body ended early")]
    BodyIncomplete,
    /// The body did not arrive in the time that a body has.
    #[error("expected the whole body within {} ms, got a part of it", .after.as_millis())]
    BodyTimeout {
        /// The time that a body has.
        after: Duration,
    },
    /// The body has a content coding that is not read.
    #[error("expected a content encoding of gzip, deflate or identity, and one only, got `{got}`")]
    ContentEncoding {
        /// The header's value, shortened.
        got: Box<str>,
    },
    /// The body is not what its content coding says.
    #[error("malformed compressed body: expected {expected}, got other bytes")]
    Compressed {
        /// The coding.
        expected: &'static str,
    },
    /// No such path or RPC.
    #[error("Not Found")]
    NotFound,
    /// No such RPC of a known service; gRPC's answer to a path it does not know.
    #[error("unknown method {method}")]
    UnknownRpc {
        /// The path of the RPC.
        method: Box<str>,
    },
    /// The path exists, but not for this method.
    #[error("Method Not Allowed")]
    MethodNotAllowed {
        /// Value of the `Allow` header.
        allow: &'static str,
    },
    /// The protocol has it, this server does not.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was asked for.
        what: Box<str>,
    },
    /// A model could not be loaded or unloaded.
    #[error("failed to load model `{model}`: {reason}")]
    LoadFailed {
        /// The model.
        model: Box<str>,
        /// One sentence.
        reason: Box<str>,
    },
    /// The server behind this one could not be reached.
    #[error("the server behind `{model}` is unavailable")]
    UpstreamUnavailable {
        /// The model or route.
        model: Box<str>,
    },
    /// A failure of the server itself; the cause is in its log, not in the answer.
    #[error("internal error")]
    Internal,
}
