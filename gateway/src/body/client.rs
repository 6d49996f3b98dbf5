//! What a client sends, as the layers are to see it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::grpc_web::{NotBase64, TextReader};

/// A body as it comes, or out of base64.
#[derive(Debug)]
pub(crate) struct ClientBody {
    incoming: Incoming,
    text: Option<Box<TextReader>>,
}

/// Why a body cannot be read on.
#[derive(Debug)]
pub(crate) enum ClientBodyError {
    Broken(hyper::Error),
    NotBase64,
}

impl From<Incoming> for ClientBody {
    fn from(incoming: Incoming) -> Self {
        let text = None;
        Self { incoming, text }
    }
}

impl ClientBody {
    /// Of a body that is base64.
    pub(crate) fn from_text(incoming: Incoming) -> Self {
        let text = Some(Box::default());
        Self { incoming, text }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let Self { incoming, text } = self.get_mut();
        loop {
            let frame = ready!(Pin::new(&mut *incoming).poll_frame(context));
            let frame = frame.transpose().map_err(ClientBodyError::Broken)?;
            let Some(text) = text else {
                return Poll::Ready(frame.map(Ok));
            };
            // Nobody asks for more once this is true.
            let ended = frame.is_none() || incoming.is_end_stream();
            let data = frame.as_ref().and_then(Frame::data_ref);
            let data = data.map(|data| text.read(data)).transpose();
            let data = data.map_err(|NotBase64| ClientBodyError::NotBase64)?;
            if ended && !text.is_whole() {
                return Poll::Ready(Some(Err(ClientBodyError::NotBase64)));
            }
            match data {
                Some(data) if data.is_empty() && !ended => {}
                // Trailers of a request that is text are not gRPC-Web's.
                data => return Poll::Ready(data.map(|data| Ok(Frame::data(data)))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.text {
            None => self.incoming.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}
