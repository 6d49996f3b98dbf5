//! Compressed bodies and replies. Long ones are worked on by a thread of their own, so that the network thread goes on.

use std::pin::Pin;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use plumbline_inference_protocol::coding::{Accepted, Coding};
use plumbline_inference_protocol::{ProtocolError, grpc};
use plumbline_service::WholeBody;
use tokio::sync::Semaphore;

use super::reply::{self, WholeReply as Reply};

pub(super) const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Compressed bytes that are expanded in place: at a factor of 1,000, which is deflate's best, a few milliseconds.
const EXPANDED_IN_PLACE: usize = 4 << 10;

/// Bytes that are compressed in place: about a millisecond.
const COMPRESSED_IN_PLACE: usize = 32 << 10;

/// What `Content-Encoding` says about a request's body.
///
/// # Errors
/// [`ProtocolError::ContentEncoding`].
pub(super) fn of_request(headers: &HeaderMap) -> Result<Option<Coding>, ProtocolError> {
    Coding::of_content(headers.get_all(CONTENT_ENCODING))
}

/// The body of a request before compression; `limit` bounds that, too.
///
/// # Errors
/// [`ProtocolError::BodyTooLarge`], [`ProtocolError::Compressed`].
pub(super) async fn expand(
    coding: Option<Coding>,
    body: Bytes,
    limit: usize,
) -> Result<Bytes, ProtocolError> {
    let Some(coding) = coding else { return Ok(body) };
    if body.len() <= EXPANDED_IN_PLACE {
        return coding.decompress(&body, limit);
    }
    aside(move || coding.decompress(&body, limit)).await?
}

/// What the client wants its reply in.
pub(super) fn accepted(headers: &HeaderMap) -> Option<Accepted> {
    if headers.contains_key(ACCEPT_ENCODING) {
        Accepted::parse(headers.get_all(ACCEPT_ENCODING))
    } else {
        None
    }
}

/// The reply as the client wants it, if it is worth it: from `min_bytes` on.
pub(super) async fn rest_reply(accepted: Accepted, mut reply: Reply, min_bytes: usize) -> Reply {
    let Accepted { coding, always } = accepted;
    let body = reply.body().data().clone();
    if body.is_empty() || (body.len() < min_bytes && !always) {
        return reply;
    }
    let Ok(compressed) = compress(body, move |body| coding.compress(body)).await else {
        return reply::rest_error(&ProtocolError::Internal);
    };
    *reply.body_mut() = WholeBody::new(compressed);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    headers.insert(VARY, HeaderValue::from_static(ACCEPT_ENCODING.as_str()));
    reply
}

/// The coding of a call's messages.
///
/// # Errors
/// [`ProtocolError::GrpcCompression`].
pub(super) fn of_call(headers: &HeaderMap) -> Result<Option<Coding>, ProtocolError> {
    grpc::message_coding(headers.get(GRPC_ENCODING).map(HeaderValue::as_bytes))
}

/// The whole of a call's one message, before compression.
///
/// # Errors
/// As [`grpc::expand_frame`].
pub(super) async fn expand_frame(
    coding: Option<Coding>,
    body: Bytes,
    limit: usize,
) -> Result<Bytes, ProtocolError> {
    if !grpc::is_compressed(&body) || body.len() <= EXPANDED_IN_PLACE {
        return grpc::expand_frame(body, coding, limit);
    }
    aside(move || grpc::expand_frame(body, coding, limit)).await?
}

/// The coding that a client accepts and uses itself: a reply to it may be compressed the same way.
pub(super) fn accepted_by_call(headers: &HeaderMap) -> Option<Coding> {
    let coding = of_call(headers).ok().flatten()?;
    let accepted = headers.get(GRPC_ACCEPT_ENCODING)?.as_bytes();
    let mut names = accepted.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    names
        .any(|name| Coding::parse(name) == Some(coding))
        .then_some(coding)
}

/// The same reply with its message compressed, from `min_bytes` on.
pub(super) async fn grpc_reply(
    coding: Coding,
    frame: Bytes,
    min_bytes: usize,
) -> Result<Reply, ProtocolError> {
    if frame.len() < min_bytes {
        return Ok(reply::message(frame));
    }
    let frame = compress(frame, move |frame| grpc::compress_frame(frame, coding)).await?;
    let mut reply = reply::message(frame);
    let encoding = HeaderValue::from_static(coding.as_str());
    reply.headers_mut().insert(GRPC_ENCODING, encoding);
    Ok(reply)
}

async fn compress(
    bytes: Bytes,
    with: impl FnOnce(&[u8]) -> Bytes + Send + 'static,
) -> Result<Bytes, ProtocolError> {
    if bytes.len() <= COMPRESSED_IN_PLACE {
        return Ok(with(&bytes));
    }
    aside(move || with(&bytes)).await
}

/// Threads that compress and expand at once: more would only take CPU from each other and from the models.
static ASIDE: Semaphore = Semaphore::const_new(2);

/// Boxed, because it is seldom needed and would make the future of every request larger, which is moved about.
fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Pin<Box<dyn Future<Output = Result<T, ProtocolError>> + Send>> {
    Box::pin(async {
        // The semaphore is never closed.
        let _permit = ASIDE.acquire().await;
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_panicked_or_shut_down| ProtocolError::Internal)
    })
}
