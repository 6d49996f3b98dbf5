//! Messages in a gRPC body: one byte "compressed", four bytes of length, the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::{ProtocolError, coding::Coding};

/// Bytes before each message.
pub const FRAME_PREFIX: usize = 5;

/// A message with its prefix: the whole body of a unary call.
///
/// # Panics
/// If the message is 4 GiB or longer; a server bounds its replies far below.
pub fn encode_frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(FRAME_PREFIX + len);
    put_prefix(&mut out, 0, len);
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
        Some((_, true)) => return Err(ProtocolError::GrpcCompression),
        Some((message, false)) => message,
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

/// The coding that the value of `grpc-encoding` names; nothing for `identity` and without the header.
///
/// # Errors
/// [`ProtocolError::GrpcCompression`] for any other.
pub fn message_coding(header: Option<&[u8]>) -> Result<Option<Coding>, ProtocolError> {
    match header {
        None | Some(b"identity") => Ok(None),
        Some(name) => Coding::parse(name)
            .map(Some)
            .ok_or(ProtocolError::GrpcCompression),
    }
}

/// Whether the first message of a body is compressed.
pub fn is_compressed(body: &[u8]) -> bool {
    body.first() == Some(&1)
}

/// The complete body of one message, with the message as it was before compression; a plain body as it is.
///
/// # Errors
/// [`ProtocolError::GrpcFrame`] unless the body is exactly one message, [`ProtocolError::GrpcCompression`] without a
/// coding, and as [`Coding::decompress`]: `limit` bounds the message.
pub fn expand_frame(body: Bytes, coding: Option<Coding>, limit: usize) -> Result<Bytes, ProtocolError> {
    let Some((&[1, a, b, c, d], message)) = body.split_first_chunk::<FRAME_PREFIX>() else {
        return Ok(body);
    };
    let coding = coding.ok_or(ProtocolError::GrpcCompression)?;
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if message.len() != len {
        return Err(frame(
            "one whole message",
            format!("{} bytes for a length of {len}", message.len()),
        ));
    }
    let message = coding.decompress(message, limit.min(u32::MAX as usize))?;
    let mut out = BytesMut::with_capacity(FRAME_PREFIX + message.len());
    put_prefix(&mut out, 0, message.len());
    out.extend_from_slice(&message);
    Ok(out.freeze())
}

/// The same body with its one plain message compressed.
///
/// # Panics
/// As [`encode_frame`].
pub fn compress_frame(body: &[u8], coding: Coding) -> Bytes {
    let message = coding.compress(body.get(FRAME_PREFIX..).unwrap_or_default());
    let mut out = BytesMut::with_capacity(FRAME_PREFIX + message.len());
    put_prefix(&mut out, 1, message.len());
    out.extend_from_slice(&message);
    out.freeze()
}

fn put_prefix(out: &mut BytesMut, compressed: u8, len: usize) {
    out.put_u8(compressed);
    out.put_u32(u32::try_from(len).expect("a gRPC message is shorter than 4 GiB"));
}

fn frame(expected: &'static str, got: impl Into<Box<str>>) -> ProtocolError {
    ProtocolError::GrpcFrame {
        expected,
        got: got.into(),
    }
}

/// Takes the first message off `body`, if all of it is there, and tells whether it is compressed.
fn split(body: &mut Bytes, max_message_bytes: usize) -> Result<Option<(Bytes, bool)>, ProtocolError> {
    let Some((prefix, rest)) = body.split_first_chunk::<FRAME_PREFIX>() else {
        return Ok(None);
    };
    let (len, compressed) = read_prefix(*prefix, max_message_bytes)?;
    if rest.len() < len {
        return Ok(None);
    }
    body.advance(FRAME_PREFIX);
    Ok(Some((body.split_to(len), compressed)))
}

fn read_prefix(
    [compressed, len @ ..]: [u8; FRAME_PREFIX],
    max_message_bytes: usize,
) -> Result<(usize, bool), ProtocolError> {
    if compressed > 1 {
        return Err(frame("0 or 1 as the first byte", compressed.to_string()));
    }
    let len = u32::from_be_bytes(len) as usize;
    if len > max_message_bytes {
        return Err(ProtocolError::BodyTooLarge {
            limit: max_message_bytes,
        });
    }
    Ok((len, compressed == 1))
}

/// Cuts a stream of body chunks into messages, however the chunks fall.
///
/// A message within one chunk is a slice of it; one across chunks is gathered. Holds at most one message and one
/// chunk.
#[derive(Debug)]
pub struct FrameParser {
    max_message_bytes: usize,
    /// Of compressed messages.
    coding: Option<Coding>,
    /// Received, not yet cut.
    chunk: Bytes,
    /// The beginning of a message that continues in the next chunk; `chunk` is empty while this is not.
    partial: BytesMut,
}

impl FrameParser {
    /// A parser that refuses longer messages when it reads their prefix.
    pub fn new(max_message_bytes: usize) -> FrameParser {
        FrameParser::with_coding(max_message_bytes, None)
    }

    /// The same, which also expands messages of this coding ([`message_coding`]); the limit holds before and after.
    pub fn with_coding(max_message_bytes: usize, coding: Option<Coding>) -> FrameParser {
        FrameParser {
            max_message_bytes,
            coding,
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
    /// [`ProtocolError::GrpcFrame`], [`ProtocolError::GrpcCompression`], [`ProtocolError::BodyTooLarge`],
    /// [`ProtocolError::Compressed`]. The rest of the stream cannot be read then.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, ProtocolError> {
        if !self.partial.is_empty() {
            let Some(prefix) = self.partial.first_chunk::<FRAME_PREFIX>() else {
                return Ok(None);
            };
            let len = FRAME_PREFIX + read_prefix(*prefix, self.max_message_bytes)?.0;
            if self.partial.len() < len {
                self.partial.reserve(len - self.partial.len());
                return Ok(None);
            }
            self.chunk = std::mem::take(&mut self.partial).freeze();
        }
        match split(&mut self.chunk, self.max_message_bytes)? {
            Some((message, true)) => {
                let coding = self.coding.ok_or(ProtocolError::GrpcCompression)?;
                coding.decompress(&message, self.max_message_bytes).map(Some)
            }
            Some((message, false)) => Ok(Some(message)),
            None => Ok(None),
        }
    }

    /// Whether the stream may end here: between two messages.
    pub fn is_idle(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty()
    }
}
