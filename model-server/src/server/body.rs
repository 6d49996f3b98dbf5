//! Request bodies, read whole and bounded.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use plumbline_inference_protocol::ProtocolError;

/// Reads the body. One that arrives in one piece, as small ones do, is not copied.
///
/// # Errors
/// [`ProtocolError::BodyTooLarge`], before a byte is read where the length is announced;
/// [`ProtocolError::BodyIncomplete`] when the client leaves.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    limit: usize,
) -> Result<Bytes, ProtocolError> {
    let too_large = ProtocolError::BodyTooLarge { limit };
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large);
    }
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_client_left| ProtocolError::BodyIncomplete)?;
        let Ok(data) = frame.into_data() else { continue }; // trailers of a request mean nothing here
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        if data.len() > limit - so_far {
            return Err(too_large);
        }
        if so_far == 0 {
            first = data;
            continue;
        }
        let whole = rest.get_or_insert_with(|| {
            // What is announced is within the limit, but memory follows the bytes that have really come.
            let expected = body.size_hint().exact().unwrap_or(0).min(4 * so_far as u64) as usize;
            let mut whole = BytesMut::with_capacity(so_far + data.len() + expected);
            whole.extend_from_slice(&first);
            whole
        });
        whole.extend_from_slice(&data);
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}
