//! Every failure of the gateway, and the one table from a failure to what a client sees.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode, Version};
use plumbline_inference_protocol::{GrpcCode, ProtocolError, grpc, rest};
use plumbline_service::upstream::UpstreamError;

use plumbline_service::WholeBody;

use crate::access::{Refusal, Standing};

/// Why the gateway answers a request itself, with a failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    #[error("no such path")]
    NotFound,
    #[error("method not allowed; allowed: {allow}")]
    MethodNotAllowed { allow: &'static str },
    #[error("unknown RPC `{method}`")]
    UnknownRpc { method: Box<str> },
    #[error("{what} is not served by the gateway; ask the model server")]
    NotServedHere { what: &'static str },
    /// Stock clients look for the first words.
    #[error("Request for unknown model: '{model}' is not found")]
    UnknownModel { model: Box<str> },
    #[error("the health of service `{service}` is not known here")]
    UnknownService { service: Box<str> },
    #[error(
        "the request's first message does not name a model in its first {limit} bytes; name it in `x-plumbline-model`"
    )]
    UnreadableMessage { limit: usize },
    #[error(
        "the first message is compressed, and the gateway routes by its content; send it uncompressed or name the model in `x-plumbline-model`"
    )]
    CompressedMessage,
    #[error("the request is malformed: {reason}")]
    Malformed { reason: &'static str },
    #[error("the transfer coding is not supported; only chunked is")]
    TransferCoding,
    #[error("the request's target is longer than {limit} bytes")]
    TargetTooLong { limit: usize },
    #[error("the request's header fields are larger than {limit} bytes")]
    HeadTooLarge { limit: usize },
    #[error("the request has more than {limit} header fields")]
    TooManyHeaders { limit: usize },
    #[error("the request's body is larger than {limit} bytes")]
    BodyTooLarge { limit: u64 },
    #[error("the request's body ended early")]
    BodyIncomplete,
    #[error("{}", .refusal.message())]
    Unauthenticated { refusal: Refusal },
    #[error("tokens cannot be verified at present")]
    Unverifiable,
    #[error("not allowed: {verb} on model `{model}`")]
    Forbidden { model: Box<str>, verb: &'static str },
    #[error("too many requests; the next is allowed in {retry_after:?}")]
    RateLimited {
        retry_after: Duration,
        standing: Box<Standing>,
    },
    #[error("{limit} requests are in flight already")]
    Overloaded { limit: usize },
    #[error("model `{model}` has {limit} requests in flight, as many as it answers in time")]
    AtConcurrencyLimit { model: Box<str>, limit: usize },
    #[error("model `{model}` has no endpoint, and {limit} requests wait for one already")]
    HoldFull { model: Box<str>, limit: usize },
    #[error("the request's deadline of {after:?} has passed")]
    DeadlineExceeded { after: Duration },
    #[error("model `{model}` has no endpoint")]
    NoEndpoint { model: Box<str> },
    #[error("no endpoint of model `{model}` can be reached")]
    Unreachable {
        model: Box<str>,
        #[source]
        source: Box<UpstreamError>,
    },
    #[error("the endpoint of model `{model}` closed before it answered")]
    Closed {
        model: Box<str>,
        #[source]
        source: Box<UpstreamError>,
    },
    #[error("the endpoint of model `{model}` gave an invalid answer")]
    InvalidAnswer {
        model: Box<str>,
        #[source]
        source: Box<UpstreamError>,
    },
}

/// What a failure is called on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) http: StatusCode,
    pub(crate) grpc: GrpcCode,
    /// A stable word for programs.
    pub(crate) code: &'static str,
}

/// The only way from a failure to a wire status. No `_` arm: a new variant has to choose its row.
pub(crate) const fn status(error: &GatewayError) -> Status {
    let (http, grpc, code) = match error {
        GatewayError::NotFound => (StatusCode::NOT_FOUND, GrpcCode::Unimplemented, "not_found"),
        GatewayError::MethodNotAllowed { .. } => (
            StatusCode::METHOD_NOT_ALLOWED,
            GrpcCode::Unimplemented,
            "method_not_allowed",
        ),
        GatewayError::UnknownRpc { .. } => (StatusCode::NOT_FOUND, GrpcCode::Unimplemented, "unknown_rpc"),
        GatewayError::NotServedHere { .. }
        | GatewayError::TransferCoding
        | GatewayError::CompressedMessage => (
            StatusCode::NOT_IMPLEMENTED,
            GrpcCode::Unimplemented,
            "unsupported",
        ),
        GatewayError::UnknownModel { .. } => (StatusCode::NOT_FOUND, GrpcCode::NotFound, "unknown_model"),
        GatewayError::UnknownService { .. } => (StatusCode::NOT_FOUND, GrpcCode::NotFound, "not_found"),
        GatewayError::UnreadableMessage { .. } | GatewayError::Malformed { .. } => (
            StatusCode::BAD_REQUEST,
            GrpcCode::InvalidArgument,
            "invalid_argument",
        ),
        GatewayError::TargetTooLong { .. } => (
            StatusCode::URI_TOO_LONG,
            GrpcCode::InvalidArgument,
            "target_too_long",
        ),
        GatewayError::HeadTooLarge { .. } | GatewayError::TooManyHeaders { .. } => (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            GrpcCode::ResourceExhausted,
            "head_too_large",
        ),
        GatewayError::BodyTooLarge { .. } => (
            StatusCode::PAYLOAD_TOO_LARGE,
            GrpcCode::ResourceExhausted,
            "body_too_large",
        ),
        GatewayError::BodyIncomplete => (
            StatusCode::BAD_REQUEST,
            GrpcCode::InvalidArgument,
            "body_incomplete",
        ),
        GatewayError::Unauthenticated { .. } => (
            StatusCode::UNAUTHORIZED,
            GrpcCode::Unauthenticated,
            "unauthenticated",
        ),
        GatewayError::Unverifiable => (
            StatusCode::SERVICE_UNAVAILABLE,
            GrpcCode::Unavailable,
            "unverifiable",
        ),
        GatewayError::Forbidden { .. } => (StatusCode::FORBIDDEN, GrpcCode::PermissionDenied, "forbidden"),
        GatewayError::RateLimited { .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            GrpcCode::ResourceExhausted,
            "rate_limited",
        ),
        GatewayError::Overloaded { .. }
        | GatewayError::AtConcurrencyLimit { .. }
        | GatewayError::HoldFull { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            GrpcCode::Unavailable,
            "overloaded",
        ),
        GatewayError::NoEndpoint { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            GrpcCode::Unavailable,
            "no_endpoint",
        ),
        GatewayError::DeadlineExceeded { .. } => (
            StatusCode::GATEWAY_TIMEOUT,
            GrpcCode::DeadlineExceeded,
            "deadline_exceeded",
        ),
        GatewayError::Unreachable { .. }
        | GatewayError::Closed { .. }
        | GatewayError::InvalidAnswer { .. } => (
            StatusCode::BAD_GATEWAY,
            GrpcCode::Unavailable,
            "upstream_unavailable",
        ),
    };
    Status { http, grpc, code }
}

impl GatewayError {
    /// A path or method that the protocol does not have.
    pub(crate) fn from_protocol(error: ProtocolError) -> Self {
        match error {
            ProtocolError::MethodNotAllowed { allow } => Self::MethodNotAllowed { allow },
            ProtocolError::UnknownRpc { method } => Self::UnknownRpc { method },
            _ => Self::NotFound,
        }
    }

    /// Why nobody is let in.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::KeysUnavailable => Self::Unverifiable,
            refusal => Self::Unauthenticated { refusal },
        }
    }

    /// What a client of either kind can do about it.
    fn advise(&self, headers: &mut HeaderMap) {
        match self {
            Self::Unauthenticated { refusal } => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(refusal.challenge()));
            }
            Self::RateLimited { standing, .. } => standing.write(headers),
            _ => {}
        }
    }

    /// The connection must not carry another request when what follows on it may not be what it seems.
    fn end_connection(&self, headers: &mut HeaderMap, version: Version) {
        let ends = matches!(
            self,
            Self::Malformed { .. }
                | Self::TransferCoding
                | Self::BodyTooLarge { .. }
                | Self::BodyIncomplete
                | Self::HeadTooLarge { .. }
                | Self::TooManyHeaders { .. }
                | Self::TargetTooLong { .. }
        );
        if ends && version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// The answer for a REST client: `{"error", "code"}`.
    pub(crate) fn to_rest(&self, version: Version) -> Response<WholeBody> {
        let status = status(self);
        let body = serde_json::json!({"error": self.to_string(), "code": status.code}).to_string();
        let mut response = Response::new(WholeBody::new(body));
        *response.status_mut() = status.http;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(rest::JSON));
        if let Self::MethodNotAllowed { allow } = self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if status.http == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Self::RateLimited { retry_after, .. } = self {
            // Rounded up: a client that comes a little early is refused again.
            let seconds = retry_after.as_millis().div_ceil(1_000).max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds as u64));
        }
        self.advise(headers);
        self.end_connection(headers, version);
        response
    }

    /// The answer for a gRPC client: status in the headers, no body.
    pub(crate) fn to_grpc(&self, version: Version) -> Response<WholeBody> {
        let mut response = Response::new(WholeBody::new(Bytes::new()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
        write_grpc_status(headers, status(self).grpc, &self.to_string());
        if let Self::RateLimited { retry_after, .. } = self {
            let milliseconds = retry_after.as_micros().div_ceil(1_000).max(1);
            headers.insert(GRPC_PUSHBACK, HeaderValue::from(milliseconds as u64));
        }
        self.advise(headers);
        self.end_connection(headers, version);
        response
    }
}

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// When a client may try again (gRFC A6); not named among the trailers of a successful call.
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Writes a gRPC status into headers or trailers.
pub(crate) fn write_grpc_status(headers: &mut HeaderMap, code: GrpcCode, message: &str) {
    headers.insert(GRPC_STATUS, HeaderValue::from_static(code.as_str()));
    if let Ok(message) = HeaderValue::from_str(&grpc::encode_status_message(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn rest_clients_get_an_error_object_and_what_to_do() {
        let response = GatewayError::Overloaded { limit: 8 }.to_rest(Version::HTTP_11);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = response
            .into_body()
            .collect()
            .await
            .expect("a full body")
            .to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["error"], "8 requests are in flight already");
        assert_eq!(body["code"], "overloaded");
        let response = GatewayError::MethodNotAllowed { allow: "POST" }.to_rest(Version::HTTP_11);
        assert_eq!(response.headers()["allow"], "POST");
    }

    #[test]
    fn grpc_clients_get_a_status_in_the_headers() {
        let model = "nö\n".into();
        let response = GatewayError::UnknownModel { model }.to_grpc(Version::HTTP_2);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "5");
        let message = response.headers()["grpc-message"].to_str().expect("ASCII");
        assert!(
            message.starts_with("Request for unknown model: 'n%C3%B6%0A'"),
            "{message}"
        );
    }

    #[test]
    fn a_malformed_request_ends_its_http1_connection() {
        let error = GatewayError::Malformed { reason: "two hosts" };
        assert_eq!(error.to_rest(Version::HTTP_11).headers()["connection"], "close");
        assert!(
            !error
                .to_rest(Version::HTTP_2)
                .headers()
                .contains_key("connection")
        );
        assert!(
            !GatewayError::NotFound
                .to_rest(Version::HTTP_11)
                .headers()
                .contains_key("connection")
        );
    }
}
