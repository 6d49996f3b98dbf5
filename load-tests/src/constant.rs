//! Answers of constant bytes, over HTTP/1.1, HTTP/2 and gRPC.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// As long as the answer of a small classifier.
const JSON: &[u8] = br#"{"model_name":"constant","outputs":[{"name":"probability","datatype":"FP32","shape":[1,2],"data":[0.7310585975646973,0.2689414322376251]}],"id":"1234"}"#;

/// A framed `ModelInferResponse`: `model_name`, an output `{name: "p", datatype: "FP32", shape: [1, 2]}`, 8 bytes of it.
const GRPC: &[u8] = b"\x00\x00\x00\x00\x23\x0a\x08constant\x2a\x0d\x0a\x01p\x12\x04FP32\x1a\x02\x01\x02\x32\x08\x80\x3b\x3b\x3f\x00\x89\x89\x3e";

/// Reads the request's body and answers with a prediction, in gRPC's form if that is asked for.
///
/// # Errors
/// None.
pub async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    // A client that goes away within its body gets no answer either way.
    let _body = request.into_body().collect().await;
    let (bytes, content_type) = if is_grpc {
        (GRPC, "application/grpc")
    } else {
        (JSON, "application/json")
    };
    let mut response = Response::new(Answer {
        bytes: Some(Bytes::from_static(bytes)),
        trailers: is_grpc,
    });
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

/// One piece of data, then gRPC's trailers if it is gRPC's; the default is empty.
#[derive(Debug, Default)]
pub struct Answer {
    bytes: Option<Bytes>,
    trailers: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if std::mem::take(&mut self.trailers) {
            let trailers = HeaderMap::from_iter([(
                header::HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("0"),
            )]);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && !self.trailers
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
