//! Replies: bodies that are whole from the start, with trailers for gRPC.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use plumbline_inference_protocol::coding::Coding;
use plumbline_inference_protocol::rest::{HEADER_LENGTH, JSON, RestBody};
use plumbline_inference_protocol::{GrpcCode, ProtocolError, grpc};
use plumbline_service::WholeBody;

use super::reply_body::{Messages, ReplyBody};

/// A reply that is whole from the start.
pub(super) type WholeReply = Response<WholeBody>;

/// [`HEADER_LENGTH`] as a name that is made once: a text would be parsed for each lookup.
pub(super) const HEADER_LENGTH_NAME: HeaderName = HeaderName::from_static(HEADER_LENGTH);
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Time after which a refused request is worth another try: a queue is a few runs deep, a second empties it.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");
const RETRY_AFTER_MS: HeaderValue = HeaderValue::from_static("1000");

/// A JSON reply. The content type is exact: KServe's client compares it whole.
pub(super) fn json(status: StatusCode, body: Bytes) -> WholeReply {
    of_type(status, JSON, body)
}

fn of_type(status: StatusCode, content_type: &'static str, body: Bytes) -> WholeReply {
    let mut reply = Response::new(WholeBody::new(body));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// What is not ready, with the time after which it is worth asking again.
pub(super) fn unready(status: StatusCode, body: Bytes) -> Response<WholeBody> {
    let mut reply = json(status, body);
    reply.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    reply
}

/// A V2 inference reply: JSON, or JSON followed by binary tensors.
pub(super) fn infer(body: RestBody) -> WholeReply {
    let content_type = body.content_type();
    let mut reply = of_type(StatusCode::OK, content_type, body.body);
    if let Some(length) = body.json_len {
        reply
            .headers_mut()
            .insert(HEADER_LENGTH_NAME, HeaderValue::from(length));
    }
    reply
}

/// `{"error": …}` with the status of the table, and what the client can do about it in headers.
pub(super) fn rest_error(error: &ProtocolError) -> WholeReply {
    let mut reply = json(error.http_status(), error.to_json());
    let headers = reply.headers_mut();
    if error.is_temporary() {
        headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if let ProtocolError::MethodNotAllowed { allow } = error {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if matches!(error, ProtocolError::ContentEncoding { .. }) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(Coding::ACCEPTED));
    }
    reply
}

/// A gRPC reply of one message.
pub(super) fn message(frame: Bytes) -> WholeReply {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static(GrpcCode::Ok.as_str()));
    let mut reply = Response::new(WholeBody::with_trailers(frame, trailers));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    headers.insert(
        GRPC_ACCEPT_ENCODING,
        HeaderValue::from_static(Coding::GRPC_ACCEPTED),
    );
    reply
}

/// A gRPC error: status and text in the head, no body ("trailers only").
pub(super) fn grpc_error(error: &ProtocolError) -> WholeReply {
    let mut reply = Response::new(WholeBody::default());
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    put_status(headers, Some(error));
    if matches!(error, ProtocolError::GrpcCompression) {
        headers.insert(
            GRPC_ACCEPT_ENCODING,
            HeaderValue::from_static(Coding::GRPC_ACCEPTED),
        );
    }
    reply
}

/// The status of a call: in the trailers, or in the head of a reply that has none.
pub(super) fn put_status(headers: &mut HeaderMap, error: Option<&ProtocolError>) {
    let code = error.map_or(GrpcCode::Ok, ProtocolError::grpc_code);
    headers.insert(GRPC_STATUS, HeaderValue::from_static(code.as_str()));
    let Some(error) = error else { return };
    let text = error.to_string();
    if let Ok(text) = HeaderValue::from_str(&grpc::encode_status_message(&text)) {
        headers.insert(GRPC_MESSAGE, text);
    }
    if error.is_temporary() {
        headers.insert(GRPC_RETRY_PUSHBACK, RETRY_AFTER_MS);
    }
}

/// A reply of the messages of a stream.
pub(super) fn stream(messages: Messages) -> Response<ReplyBody> {
    let mut reply = Response::new(ReplyBody::Stream(messages));
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    reply
}

/// The same head without the body, as `HEAD` asks for.
pub(super) fn head_only(mut reply: WholeReply) -> WholeReply {
    let length = reply.body().size_hint().lower();
    reply
        .headers_mut()
        .insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    *reply.body_mut() = WholeBody::default();
    reply
}
