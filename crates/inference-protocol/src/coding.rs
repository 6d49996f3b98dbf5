//! Content codings of bodies and gRPC messages: gzip and deflate, with a bound on what they expand to.

mod accept;

use std::io::{Read, Write as _};

use bytes::Bytes;
use flate2::{Compression, bufread, write};

pub use self::accept::Accepted;
use crate::{ProtocolError, error::shown};

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950 (zlib). Raw RFC 1951 data is read, too: some clients take the name by its word.
    Deflate,
}

/// Nine tenths of the best ratio at half its time, on JSON of numbers.
const LEVEL: Compression = Compression::new(2);

/// Bytes that are expanded at a time.
const STEP: usize = 16 << 10;

impl Coding {
    /// Every coding, best first.
    pub const ALL: [Coding; 2] = [Coding::Gzip, Coding::Deflate];

    /// Value of `Accept-Encoding` in a refusal.
    pub const ACCEPTED: &str = "gzip, deflate, identity";

    /// Value of `grpc-accept-encoding`.
    pub const GRPC_ACCEPTED: &str = "identity,gzip,deflate";

    /// The name in headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    /// The coding of this name, in any case.
    pub fn parse(name: &[u8]) -> Option<Coding> {
        if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") {
            Some(Coding::Gzip)
        } else if name.eq_ignore_ascii_case(b"deflate") {
            Some(Coding::Deflate)
        } else {
            None
        }
    }

    /// The coding that `Content-Encoding` headers tell; nothing for none and for `identity`.
    ///
    /// # Errors
    /// [`ProtocolError::ContentEncoding`] for any other and for several.
    pub fn of_content<'a>(
        values: impl IntoIterator<Item = &'a http::HeaderValue>,
    ) -> Result<Option<Coding>, ProtocolError> {
        let mut found = None;
        for value in values {
            for name in value.as_bytes().split(|&byte| byte == b',') {
                let name = name.trim_ascii();
                if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
                    continue;
                }
                let coding = Coding::parse(name).filter(|_| found.is_none());
                found = Some(coding.ok_or_else(|| ProtocolError::ContentEncoding {
                    got: shown(&String::from_utf8_lossy(value.as_bytes())),
                })?);
            }
        }
        Ok(found)
    }

    /// The bytes as they were before compression. Memory follows what has been expanded so far, up to `limit`.
    ///
    /// # Errors
    /// [`ProtocolError::BodyTooLarge`] beyond `limit`, [`ProtocolError::Compressed`] for bytes that are not of this
    /// coding, end early, or are followed by others.
    pub fn decompress(self, bytes: &[u8], limit: usize) -> Result<Bytes, ProtocolError> {
        let mut rest = bytes;
        match self {
            // A file of several members is one, says RFC 1952.
            Coding::Gzip => self.expand(bufread::MultiGzDecoder::new(&mut rest), bytes.len(), limit),
            Coding::Deflate => {
                let whole = if is_zlib(bytes) {
                    self.expand(bufread::ZlibDecoder::new(&mut rest), bytes.len(), limit)
                } else {
                    self.expand(bufread::DeflateDecoder::new(&mut rest), bytes.len(), limit)
                };
                if whole.is_ok() && !rest.is_empty() {
                    return Err(self.malformed());
                }
                whole
            }
        }
    }

    /// The bytes, compressed.
    ///
    /// # Panics
    /// Never: writing to memory does not fail.
    pub fn compress(self, bytes: &[u8]) -> Bytes {
        let out = Vec::with_capacity(bytes.len() / 2);
        let written = match self {
            Coding::Gzip => {
                let mut writer = write::GzEncoder::new(out, LEVEL);
                writer.write_all(bytes).and_then(|()| writer.finish())
            }
            Coding::Deflate => {
                let mut writer = write::ZlibEncoder::new(out, LEVEL);
                writer.write_all(bytes).and_then(|()| writer.finish())
            }
        };
        written.expect("writing to memory does not fail").into()
    }

    fn expand(self, mut from: impl Read, compressed: usize, limit: usize) -> Result<Bytes, ProtocolError> {
        // JSON of numbers compresses to a half or a third; a bomb gets no more than that in advance.
        let mut out = Vec::with_capacity(compressed.saturating_mul(3).min(limit));
        let mut step = [0; STEP];
        loop {
            let read = from
                .read(&mut step)
                .map_err(|_not_this_coding| self.malformed())?;
            if read == 0 {
                return Ok(out.into());
            }
            if read > limit - out.len() {
                return Err(ProtocolError::BodyTooLarge { limit });
            }
            out.extend_from_slice(&step[..read]);
        }
    }

    fn malformed(self) -> ProtocolError {
        ProtocolError::Compressed {
            expected: self.as_str(),
        }
    }
}

/// Whether the bytes start as zlib's do: method 8, and a check that 31 divides.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [first, second, ..]
        if first & 0x0f == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31))
}

#[cfg(test)]
mod tests;
