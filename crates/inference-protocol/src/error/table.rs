//! What a failure becomes on the wire.

use bytes::Bytes;
use http::StatusCode;

use super::ProtocolError;
use crate::GrpcCode;

/// A row of the error table: everything a reply needs besides the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorStatus {
    /// Status of an HTTP reply.
    pub http: StatusCode,
    /// Status of a gRPC reply.
    pub grpc: GrpcCode,
    /// Stable name for machines, the `code` member of an error body.
    pub code: &'static str,
}

const fn row(http: StatusCode, grpc: GrpcCode, code: &'static str) -> ErrorStatus {
    ErrorStatus { http, grpc, code }
}

const fn bad_request(code: &'static str) -> ErrorStatus {
    row(StatusCode::BAD_REQUEST, GrpcCode::InvalidArgument, code)
}

const fn unavailable(code: &'static str) -> ErrorStatus {
    row(StatusCode::SERVICE_UNAVAILABLE, GrpcCode::Unavailable, code)
}

impl ProtocolError {
    /// The error table: the only way from a failure to a wire status. No `_` arm: a new variant has to choose
    /// its row.
    pub fn status(&self) -> ErrorStatus {
        use ProtocolError as E;
        match self {
            E::Json { .. } => bad_request("malformed_json"),
            E::JsonDepth { .. } => bad_request("json_too_deep"),
            E::Field { .. } => bad_request("invalid_field"),
            E::MissingField { .. } => bad_request("missing_field"),
            E::DuplicateField { .. } => bad_request("duplicate_field"),
            E::V1Form { .. } => bad_request("invalid_v1_form"),
            E::UnknownDatatype { .. } => bad_request("unknown_datatype"),
            E::NotInJson { .. } | E::NotTyped { .. } => bad_request("datatype_needs_raw"),
            E::InvalidShape { .. } => bad_request("invalid_shape"),
            E::ElementCount { .. } => bad_request("element_count_mismatch"),
            E::Data { .. } => bad_request("invalid_data"),
            E::Ragged { .. } => bad_request("ragged_data"),
            E::Value { .. } | E::BoolByte { .. } => bad_request("invalid_value"),
            E::NoData { .. } => bad_request("missing_data"),
            E::NotFinite { .. } => row(
                StatusCode::INTERNAL_SERVER_ERROR,
                GrpcCode::Internal,
                "not_finite",
            ),
            E::HeaderLength { .. } | E::HeaderMissing { .. } => bad_request("invalid_header_length"),
            E::ByteSize { .. } => bad_request("byte_size_mismatch"),
            E::BinaryTooShort { .. } => bad_request("binary_data_too_short"),
            E::TrailingBytes { .. } => bad_request("unexpected_additional_data"),
            E::DataAndBinary { .. } => bad_request("data_and_binary"),
            E::BytesLengths { .. } => bad_request("invalid_bytes_lengths"),
            E::RawBinary { .. } | E::RawBinaryWithoutSignature => bad_request("invalid_raw_binary"),
            E::Protobuf { .. } => bad_request("malformed_protobuf"),
            E::GrpcFrame { .. } => bad_request("malformed_grpc_frame"),
            E::GrpcCompression => row(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                GrpcCode::Unimplemented,
                "grpc_compression",
            ),
            E::RawAndTyped { .. } => bad_request("raw_and_typed"),
            E::RawCount { .. } => bad_request("raw_count_mismatch"),
            E::UnexpectedInput { .. } => bad_request("unexpected_input"),
            E::MissingInputs { .. } => bad_request("missing_inputs"),
            E::DuplicateTensor { .. } => bad_request("duplicate_tensor"),
            E::UnexpectedOutput { .. } => bad_request("unexpected_output"),
            E::DatatypeMismatch { .. } => bad_request("datatype_mismatch"),
            E::ShapeMismatch { .. } => bad_request("shape_mismatch"),
            E::RowsMismatch { .. } => bad_request("rows_mismatch"),
            E::TooManyRows { .. } => bad_request("too_many_rows"),
            E::InModel { error, .. } => error.status(),
            E::InvalidArgument { .. } => bad_request("invalid_argument"),
            E::UnknownModel { .. } => row(StatusCode::NOT_FOUND, GrpcCode::NotFound, "unknown_model"),
            E::UnknownVersion { .. } => row(StatusCode::NOT_FOUND, GrpcCode::NotFound, "unknown_version"),
            E::ModelNotReady { .. } => unavailable("model_not_ready"),
            E::NotReady { .. } => unavailable("not_ready"),
            E::Overloaded { .. } => row(
                StatusCode::TOO_MANY_REQUESTS,
                GrpcCode::ResourceExhausted,
                "overloaded",
            ),
            E::Draining => unavailable("draining"),
            E::DeadlineExceeded { .. } => row(
                StatusCode::GATEWAY_TIMEOUT,
                GrpcCode::DeadlineExceeded,
                "deadline_exceeded",
            ),
            // Nobody reads this status: nginx's 499 is what access logs know it by.
            E::Cancelled => row(CLIENT_CLOSED_REQUEST, GrpcCode::Cancelled, "cancelled"),
            E::BodyTooLarge { .. } => row(
                StatusCode::PAYLOAD_TOO_LARGE,
                GrpcCode::ResourceExhausted,
                "body_too_large",
            ),
            E::BodyIncomplete => bad_request("body_incomplete"),
            E::BodyTimeout { .. } => row(
                StatusCode::REQUEST_TIMEOUT,
                GrpcCode::DeadlineExceeded,
                "body_timeout",
            ),
            E::ContentEncoding { .. } => row(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                GrpcCode::Unimplemented,
                "unsupported_content_encoding",
            ),
            E::Compressed { .. } => bad_request("malformed_compressed_body"),
            E::NotFound => row(StatusCode::NOT_FOUND, GrpcCode::NotFound, "not_found"),
            E::UnknownRpc { .. } => row(StatusCode::NOT_FOUND, GrpcCode::Unimplemented, "unknown_rpc"),
            E::MethodNotAllowed { .. } => row(
                StatusCode::METHOD_NOT_ALLOWED,
                GrpcCode::Unimplemented,
                "method_not_allowed",
            ),
            E::Unsupported { .. } => row(
                StatusCode::NOT_IMPLEMENTED,
                GrpcCode::Unimplemented,
                "unsupported",
            ),
            E::LoadFailed { .. } => bad_request("load_failed"),
            E::UpstreamUnavailable { .. } => row(
                StatusCode::BAD_GATEWAY,
                GrpcCode::Unavailable,
                "upstream_unavailable",
            ),
            E::Internal => row(StatusCode::INTERNAL_SERVER_ERROR, GrpcCode::Internal, "internal"),
        }
    }

    /// Status of an HTTP reply.
    pub fn http_status(&self) -> StatusCode {
        self.status().http
    }

    /// Status of a gRPC reply.
    pub fn grpc_code(&self) -> GrpcCode {
        self.status().grpc
    }

    /// Stable name for machines.
    pub fn code(&self) -> &'static str {
        self.status().code
    }

    /// Whether the same request may succeed a little later, so that the reply should carry `Retry-After`.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.status().http,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        )
    }

    /// The same failure, told with the model it is about. Errors that already name one stay as they are.
    #[must_use]
    pub fn in_model(self, model: &str) -> ProtocolError {
        use ProtocolError as E;
        match self {
            E::Json { .. }
            | E::JsonDepth { .. }
            | E::Field { .. }
            | E::MissingField { .. }
            | E::DuplicateField { .. }
            | E::V1Form { .. }
            | E::UnknownDatatype { .. }
            | E::NotInJson { .. }
            | E::NotTyped { .. }
            | E::InvalidShape { .. }
            | E::ElementCount { .. }
            | E::Data { .. }
            | E::Ragged { .. }
            | E::Value { .. }
            | E::NoData { .. }
            | E::NotFinite { .. }
            | E::HeaderLength { .. }
            | E::HeaderMissing { .. }
            | E::ByteSize { .. }
            | E::BinaryTooShort { .. }
            | E::TrailingBytes { .. }
            | E::DataAndBinary { .. }
            | E::BytesLengths { .. }
            | E::BoolByte { .. }
            | E::RawCount { .. }
            | E::DuplicateTensor { .. } => E::InModel {
                model: super::shown(model),
                error: Box::new(self),
            },
            other => other,
        }
    }

    /// Body of a REST reply: `{"error": text, "code": name}`.
    pub fn to_json(&self) -> Bytes {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(b"{\"error\":");
        crate::json::write_str(&mut out, &self.to_string());
        out.extend_from_slice(b",\"code\":");
        crate::json::write_str(&mut out, self.code());
        out.push(b'}');
        out.into()
    }
}

const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => panic!("499 is a valid status"),
};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn server_failures_have_the_statuses_that_clients_retry_by() {
        let model = || Box::<str>::from("churn");
        let table = [
            (
                ProtocolError::UnknownModel { model: model() },
                404,
                GrpcCode::NotFound,
                false,
            ),
            (
                ProtocolError::Overloaded {
                    model: model(),
                    limit: 1,
                },
                429,
                GrpcCode::ResourceExhausted,
                true,
            ),
            (ProtocolError::Draining, 503, GrpcCode::Unavailable, true),
            (
                ProtocolError::DeadlineExceeded {
                    after: Duration::ZERO,
                },
                504,
                GrpcCode::DeadlineExceeded,
                false,
            ),
            (
                ProtocolError::BodyTooLarge { limit: 1 },
                413,
                GrpcCode::ResourceExhausted,
                false,
            ),
            (ProtocolError::Cancelled, 499, GrpcCode::Cancelled, false),
            (
                ProtocolError::Unsupported { what: "x".into() },
                501,
                GrpcCode::Unimplemented,
                false,
            ),
            (ProtocolError::Internal, 500, GrpcCode::Internal, false),
        ];
        for (error, http, grpc, temporary) in table {
            let told = (
                error.http_status().as_u16(),
                error.grpc_code(),
                error.is_temporary(),
            );
            assert_eq!(told, (http, grpc, temporary), "{error}");
        }
    }

    #[test]
    fn bodies_have_the_text_and_a_code() {
        let unknown = ProtocolError::UnknownModel { model: "a\"b".into() };
        let body: serde_json::Value = serde_json::from_slice(&unknown.to_json()).unwrap();
        assert_eq!(body["error"], "Request for unknown model: 'a\"b' is not found");
        assert_eq!(body["code"], "unknown_model");
        assert_eq!(body.as_object().unwrap().len(), 2);
    }

    #[test]
    fn a_wrapped_failure_keeps_its_row_and_is_wrapped_once() {
        let inner = ProtocolError::MissingField {
            field: "inputs".into(),
        };
        let outer = inner.clone().in_model("churn").in_model("churn");
        assert_eq!(outer.status(), inner.status());
        assert_eq!(outer.to_string(), "model `churn`: field `inputs` is missing");
        assert_eq!(ProtocolError::Draining.in_model("churn"), ProtocolError::Draining);
    }
}
