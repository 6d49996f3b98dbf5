//! Answers that the sidecar gives itself, because the model server gave none.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use plumbline_inference_protocol::{GrpcCode, grpc, rest};

use crate::feedback::Reply;
use crate::observation::GRPC_STATUS;
use crate::tee::ResponseBody;
use crate::upstream::{Failure, Upstream};

/// Whether the client speaks gRPC and must be answered in it.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| grpc::is_grpc(value.as_bytes()))
}

/// The sidecar stands before one server and opens no tunnels.
pub(super) fn no_tunnel() -> Response<ResponseBody> {
    let mut response = json(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not served here");
    response.headers_mut().insert(
        ALLOW,
        HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS"),
    );
    response
}

/// The answer to a request that is for the sidecar itself.
pub(super) fn reply(reply: Reply) -> Response<ResponseBody> {
    let mut response = whole(reply.status, reply.body);
    if let Some(allow) = reply.allow {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// A body that is coded in a way that would be lost on the way; what follows it on the connection is not read.
pub(super) fn unknown_transfer_coding() -> Response<ResponseBody> {
    let mut response = json(
        StatusCode::NOT_IMPLEMENTED,
        "the transfer coding is not supported; only chunked is",
    );
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Tells a failure: as trailers-only gRPC when `grpc_status` is there, as JSON otherwise.
pub(super) fn failure(
    failure: &Failure,
    status: StatusCode,
    grpc_status: Option<GrpcCode>,
) -> Response<ResponseBody> {
    let text = failure.to_string();
    let Some(code) = grpc_status else {
        let mut response = json(status, &text);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        return response;
    };
    let mut response = Response::new(ResponseBody::own(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    headers.insert(GRPC_STATUS, HeaderValue::from_static(code.as_str()));
    if let Ok(message) = HeaderValue::from_str(&grpc::encode_status_message(&text)) {
        headers.insert("grpc-message", message);
    }
    response
}

fn json(status: StatusCode, error: &str) -> Response<ResponseBody> {
    whole(status, serde_json::json!({ "error": error }).to_string())
}

fn whole(status: StatusCode, body: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::own(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(rest::JSON));
    response
}

impl Upstream {
    /// The statuses of a failure, which is counted and told to the log here.
    pub(super) fn classify(&self, failure: &Failure) -> (StatusCode, GrpcCode) {
        tracing::debug!(error = failure as &dyn std::error::Error, "not forwarded");
        let metrics = self.metrics();
        match failure {
            Failure::Connect(_) => {
                metrics.cannot_connect.inc();
                (StatusCode::SERVICE_UNAVAILABLE, GrpcCode::Unavailable)
            }
            Failure::Timeout { .. } => {
                metrics.timeout.inc();
                (StatusCode::GATEWAY_TIMEOUT, GrpcCode::DeadlineExceeded)
            }
            Failure::Client(_) => {
                metrics.client.inc();
                (StatusCode::BAD_REQUEST, GrpcCode::Cancelled)
            }
            Failure::Broken(_) => {
                metrics.broken.inc();
                (StatusCode::BAD_GATEWAY, GrpcCode::Unavailable)
            }
        }
    }
}
