//! Messages in a gRPC body: one byte "compressed", four bytes of length, the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::ProtocolError;

/// Bytes before each message.
pub const FRAME_PREFIX: usize = 5;

/// A message with its prefix: the whole body of a unary call.
///
/// # Panics
/// If the message is 4 GiB or longer; a server bounds its replies far below.
pub fn encode_frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(FRAME_PREFIX + len);
    out.put_u8(0);
    out.put_u32(u32::try_from(len).expect("a gRPC message is shorter than 4 GiB"));
    message.encode(&mut out).expect("the buffer grows");
    out.freeze()
}

/// The one message of a complete body. `bytes` fields of the message stay slices of the body.
///
/// # Errors
/// [`ProtocolError::GrpcFrame`] unless the body is exactly one message, [`ProtocolError::GrpcCompression`],
/// [`ProtocolError::Protobuf`].
pub fn decode_frame<M: Message + Default>(body: &Bytes) -> Result<M, ProtocolError> {
    decode_message(message_of(body.clone())?)
}

/// The bytes of the one message of a complete body.
///
/// # Errors
/// [`ProtocolError::GrpcFrame`] unless the body is exactly one message, [`ProtocolError::GrpcCompression`].
pub fn message_of(mut body: Bytes) -> Result<Bytes, ProtocolError> {
    let message = match split(&mut body, usize::MAX)? {
        Some(message) => message,
        None if body.is_empty() => return Err(frame("one message", "none")),
        None => return Err(frame("a whole message", format!("{} bytes of one", body.len()))),
    };
    if !body.is_empty() {
        return Err(frame("one message", format!("{} more bytes", body.len())));
    }
    Ok(message)
}

/// A message without its prefix. Its `bytes` fields stay slices of `message`.
///
/// # Errors
/// [`ProtocolError::Protobuf`].
pub fn decode_message<M: Message + Default>(message: Bytes) -> Result<M, ProtocolError> {
    M::decode(message).map_err(|error| ProtocolError::Protobuf {
        reason: error.to_string().into(),
    })
}

fn frame(expected: &'static str, got: impl Into<Box<str>>) -> ProtocolError {
    ProtocolError::GrpcFrame {
        expected,
        got: got.into(),
    }
}

/// Takes the first message off `body`, if all of it is there.
fn split(body: &mut Bytes, max_message_bytes: usize) -> Result<Option<Bytes>, ProtocolError> {
    let Some((prefix, rest)) = body.split_first_chunk::<FRAME_PREFIX>() else {
        return Ok(None);
    };
    let len = prefix_len(*prefix, max_message_bytes)?;
    if rest.len() < len {
        return Ok(None);
    }
    body.advance(FRAME_PREFIX);
    Ok(Some(body.split_to(len)))
}

fn prefix_len(
    [compressed, len @ ..]: [u8; FRAME_PREFIX],
    max_message_bytes: usize,
) -> Result<usize, ProtocolError> {
    match compressed {
        0 => {}
        1 => return Err(ProtocolError::GrpcCompression),
        other => return Err(frame("0 or 1 as the first byte", other.to_string())),
    }
    let len = u32::from_be_bytes(len) as usize;
    if len > max_message_bytes {
        return Err(ProtocolError::BodyTooLarge {
            limit: max_message_bytes,
        });
    }
    Ok(len)
}

/// Cuts a stream of body chunks into messages, however the chunks fall.
///
/// A message within one chunk is a slice of it; one across chunks is gathered. Holds at most one message and one
/// chunk.
#[derive(Debug)]
pub struct FrameParser {
    max_message_bytes: usize,
    /// Received, not yet cut.
    chunk: Bytes,
    /// The beginning of a message that continues in the next chunk; `chunk` is empty while this is not.
    partial: BytesMut,
}

impl FrameParser {
    /// A parser that refuses longer messages when it reads their prefix.
    pub fn new(max_message_bytes: usize) -> FrameParser {
        FrameParser {
            max_message_bytes,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
        }
    }

    /// Adds what was received.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() && self.partial.is_empty() {
            self.chunk = chunk;
        } else {
            let before = std::mem::take(&mut self.chunk);
            self.partial.extend_from_slice(&before);
            self.partial.extend_from_slice(&chunk);
        }
    }

    /// The next message; `None` if more must be received first.
    ///
    /// # Errors
    /// [`ProtocolError::GrpcFrame`], [`ProtocolError::GrpcCompression`], [`ProtocolError::BodyTooLarge`]. The rest of
    /// the stream cannot be read then.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, ProtocolError> {
        if !self.partial.is_empty() {
            let Some(prefix) = self.partial.first_chunk::<FRAME_PREFIX>() else {
                return Ok(None);
            };
            let len = FRAME_PREFIX + prefix_len(*prefix, self.max_message_bytes)?;
            if self.partial.len() < len {
                self.partial.reserve(len - self.partial.len());
                return Ok(None);
            }
            self.chunk = std::mem::take(&mut self.partial).freeze();
        }
        split(&mut self.chunk, self.max_message_bytes)
    }

    /// Whether the stream may end here: between two messages.
    pub fn is_idle(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty()
    }
}
