//! Request bodies, read whole, bounded in size and time.

use std::pin::pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::Body;
use http_body_util::BodyExt as _;
use plumbline_inference_protocol::ProtocolError;

use super::Limits;

/// Reads the body. One that arrives in one piece, as small ones do, is not copied.
///
/// # Errors
/// [`ProtocolError::BodyTooLarge`], before a byte is read where the length is announced (a client that expects
/// `100 Continue` keeps its body then); [`ProtocolError::BodyIncomplete`] when the client leaves;
/// [`ProtocolError::BodyTimeout`] when it dawdles.
pub(super) async fn read(
    headers: &HeaderMap,
    body: impl Body<Data = Bytes>,
    limits: &Limits,
) -> Result<Bytes, ProtocolError> {
    let limit = limits.max_body_bytes;
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(ProtocolError::BodyTooLarge { limit });
    }
    let mut reading = pin!(whole(body, limit));
    // A body that came with its head needs no timer.
    let at_once = std::future::poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await;
    if let Poll::Ready(read) = at_once {
        return read;
    }
    let after = limits.body_timeout;
    Box::pin(tokio::time::timeout(after, reading))
        .await
        .unwrap_or(Err(ProtocolError::BodyTimeout { after }))
}

async fn whole(body: impl Body<Data = Bytes>, limit: usize) -> Result<Bytes, ProtocolError> {
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_client_left| ProtocolError::BodyIncomplete)?;
        let Ok(data) = frame.into_data() else { continue }; // trailers of a request mean nothing here
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        if data.len() > limit - so_far {
            return Err(ProtocolError::BodyTooLarge { limit });
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use http_body::Frame;
    use http_body_util::{Channel, Full};
    use plumbline_inference_protocol::NanPolicy;

    use super::*;

    const LIMITS: Limits = Limits {
        max_body_bytes: 8,
        body_timeout: Duration::from_mins(1),
        compress_min_bytes: 0,
        nan_policy: NanPolicy::Null,
    };

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_ends_at_the_timeout_however_many_bytes_came() {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
        let started = tokio::time::Instant::now();
        let client = tokio::spawn(async move {
            // Each byte in time for a timeout between two of them.
            while sender.send(Frame::data(Bytes::from_static(b"x"))).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        });
        let after = LIMITS.body_timeout;
        let read = read(&HeaderMap::new(), body, &LIMITS).await;
        assert_eq!(read, Err(ProtocolError::BodyTimeout { after }));
        assert_eq!(started.elapsed(), after);
        client.await.expect("the client sees that nobody reads");
    }

    #[tokio::test]
    async fn the_limit_holds_for_announced_and_for_received_bytes() {
        let too_large = Err(ProtocolError::BodyTooLarge { limit: 8 });
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, "9".parse().unwrap())]);
        let unread = Full::new(Bytes::new());
        assert_eq!(read(&headers, unread, &LIMITS).await, too_large);
        for (chunks, expected) in [
            (&["12345678"][..], Ok("12345678".into())),
            (&["1234", "5678"], Ok("12345678".into())),
            (&["123456789"], too_large.clone()),
            (&["1234", "5678", "9"], too_large.clone()),
        ] {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(4);
            for chunk in chunks {
                sender
                    .send_data(Bytes::from_static(chunk.as_bytes()))
                    .await
                    .unwrap();
            }
            drop(sender);
            assert_eq!(
                read(&HeaderMap::new(), body, &LIMITS).await,
                expected,
                "{chunks:?}"
            );
        }
    }
}
