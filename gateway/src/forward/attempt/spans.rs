//! What the span of an attempt tells, where its request is recorded.

use bytes::Bytes;
use http::HeaderMap;
use http::response::Parts;
use http_body::Frame;
use plumbline_inference_protocol::GrpcCode;
use plumbline_service::traces::{Answered, Span};
use plumbline_service::upstream::UpstreamError;

use crate::call::{Family, Ledger};
use crate::endpoint::Endpoint;
use crate::error::GRPC_STATUS;
use crate::route::Revision;

/// The last attempt's revision and endpoint are also told of the request.
pub(super) fn begin(ledger: &Ledger, revision: &Revision, endpoint: &Endpoint) -> Option<Box<Span>> {
    let request = ledger.span.get()?;
    let attempt = request.attempt();
    for span in [&attempt, &**request] {
        span.set("predictor.revision", revision.name.to_string());
        span.set("predictor.endpoint", endpoint.target().to_string());
    }
    let authority = endpoint.target().authority();
    attempt.set("server.address", authority.host().to_owned());
    if let Some(port) = authority.port_u16() {
        attempt.set("server.port", i64::from(port));
    }
    Some(Box::new(attempt))
}

pub(super) fn answered(span: &Span, family: Family, head: &Parts, is_end: bool) {
    match family {
        // A gRPC answer without a status is one that its server did not finish.
        Family::Grpc => span.answered(grpc(&head.headers)),
        Family::V1 | Family::V2 | Family::Other => span.answered(Answered::Http(head.status)),
    }
    if is_end {
        span.end();
    }
}

pub(super) fn frame(
    span: &Span,
    family: Family,
    frame: Option<&Result<Frame<Bytes>, hyper::Error>>,
    is_end: bool,
) {
    match frame {
        Some(Err(_)) => return span.fail("aborted"),
        Some(Ok(frame)) => {
            if let (Family::Grpc, Some(trailers)) = (family, frame.trailers_ref()) {
                span.answered(grpc(trailers));
            }
            if !is_end && !frame.is_trailers() {
                return;
            }
        }
        None => {}
    }
    span.end();
}

fn grpc(headers: &HeaderMap) -> Answered {
    let code = headers.get(GRPC_STATUS);
    let code = code.map_or(GrpcCode::Unknown, |code| GrpcCode::from_trailer(code.as_bytes()));
    Answered::Grpc(code as u8)
}

pub(super) const fn failure(error: &UpstreamError) -> &'static str {
    match error {
        UpstreamError::Connect { .. } | UpstreamError::Handshake { .. } => "unreachable",
        UpstreamError::ConnectTimeout { .. } => "connect_timeout",
        UpstreamError::Closed { .. } => "closed",
        UpstreamError::InvalidAnswer { .. } => "invalid_answer",
        UpstreamError::RequestBody { .. } => "request_body",
    }
}
