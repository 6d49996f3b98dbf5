//! The body of an answer that a part gives itself.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// One piece of data, then trailers for gRPC; either may be missing.
#[derive(Debug, Default)]
pub struct WholeBody {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl WholeBody {
    /// A body of `data`; no frame at all when it is empty.
    pub fn new(data: impl Into<Bytes>) -> Self {
        let data = Some(data.into()).filter(|data| !data.is_empty());
        Self { data, trailers: None }
    }

    /// The data that is still to be sent.
    pub fn data(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        self.data.as_ref().unwrap_or(&NONE)
    }

    /// The same, followed by trailers.
    pub fn with_trailers(data: impl Into<Bytes>, trailers: HeaderMap) -> Self {
        Self {
            trailers: Some(trailers),
            ..Self::new(data)
        }
    }
}

impl Body for WholeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, Bytes::len) as u64)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn data_comes_before_trailers() {
        let trailers = HeaderMap::from_iter([(http::header::TE, HeaderValue::from_static("x"))]);
        let body = WholeBody::with_trailers("abc", trailers.clone());
        assert_eq!(body.size_hint().exact(), Some(3));
        let collected = body.collect().await.expect("infallible");
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes(), "abc");
    }

    #[test]
    fn an_empty_body_has_ended() {
        assert!(WholeBody::new("").is_end_stream());
        assert!(WholeBody::default().is_end_stream());
    }
}
