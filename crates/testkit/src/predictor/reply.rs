//! What a fake predictor answers.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::Received;

/// Where an answer breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The connection closes (HTTP/2: the stream is reset) without an answer.
    BeforeHead,
    /// The head arrives, then the connection closes.
    AfterHead,
    /// The head and the first half of the body arrive, then the connection closes.
    MidBody,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) chunks: Vec<Bytes>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) cut: Option<Cut>,
    pub(super) delay: Duration,
}

impl Reply {
    /// An empty body.
    pub fn status(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            chunks: Vec::new(),
            trailers: None,
            cut: None,
            delay: Duration::ZERO,
        }
    }

    /// 200 with a JSON body.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::status(StatusCode::OK)
            .header("content-type", "application/json")
            .chunk(body)
    }

    /// The request's body, content type and trailers.
    pub fn echo(request: &Received) -> Self {
        let mut reply = Self::status(StatusCode::OK).chunk(request.body.clone());
        if let Some(value) = request.headers.get(CONTENT_TYPE) {
            reply.headers.insert(CONTENT_TYPE, value.clone());
        }
        if !request.trailers.is_empty() {
            reply.trailers = Some(request.trailers.clone());
        }
        reply
    }

    /// A unary gRPC answer: `message` framed, `grpc-status: 0` in the trailers.
    pub fn grpc(message: &[u8]) -> Self {
        Self::status(StatusCode::OK)
            .header("content-type", "application/grpc")
            .chunk(grpc_message(message))
            .trailer("grpc-status", "0")
    }

    /// `answer` over gRPC, otherwise [`Self::echo`].
    pub fn grpc_or_echo(request: &Received) -> Self {
        if request.header("content-type") == "application/grpc" {
            Self::grpc(b"answer")
        } else {
            Self::echo(request)
        }
    }

    /// A trailers-only gRPC failure.
    pub fn grpc_error(code: u16, message: &'static str) -> Self {
        Self::status(StatusCode::OK)
            .header("content-type", "application/grpc")
            .header("grpc-status", &code.to_string())
            .header("grpc-message", message)
    }

    /// Another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// One more header.
    ///
    /// # Panics
    /// When the name or value is malformed: a mistake in the test.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header value");
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// One more piece of the body, sent as a frame of its own.
    #[must_use]
    pub fn chunk(mut self, chunk: impl Into<Bytes>) -> Self {
        self.chunks.push(chunk.into());
        self
    }

    /// One more trailer. Over HTTP/1.1 it needs `trailer`, which is set here.
    ///
    /// # Panics
    /// When the name or value is malformed: a mistake in the test.
    #[must_use]
    pub fn trailer(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header value");
        let trailers = self.trailers.get_or_insert_default();
        trailers.append(HeaderName::from_static(name), value);
        self
    }

    /// Sent this much later: what the request asked for is done by then.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Breaks off there.
    #[must_use]
    pub fn cut(mut self, cut: Cut) -> Self {
        self.cut = Some(cut);
        self
    }

    /// Whether its status is 200.
    pub(crate) fn is_ok(&self) -> bool {
        self.status == StatusCode::OK
    }

    /// The body, whole.
    pub(crate) fn body(&self) -> Bytes {
        self.chunks.concat().into()
    }

    /// The head; trailers are announced, since HTTP/1.1 sends none that are not.
    pub(super) fn head(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        response.headers_mut().clone_from(&self.headers);
        if let Some(trailers) = &self.trailers {
            for name in trailers.keys() {
                response
                    .headers_mut()
                    .append("trailer", HeaderValue::from_name(name.clone()));
            }
        }
        response
    }
}

/// `message` in gRPC's frame: not compressed, length, bytes.
///
/// # Panics
/// When the message is 4 GiB or longer.
pub fn grpc_message(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a message below 4 GiB");
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(length);
    frame.put_slice(message);
    frame.freeze()
}
