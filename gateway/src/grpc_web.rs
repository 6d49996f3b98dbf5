//! gRPC-Web: gRPC for clients that cannot read trailers. What comes in is made gRPC's before any layer sees it; answers
//! are made gRPC-Web's behind all of them, in `layers::speak_grpc_web`.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use plumbline_inference_protocol::grpc;

const BINARY: &str = "application/grpc-web";
/// Set by browsers' clients, for servers that tell them apart by it.
const X_GRPC_WEB: HeaderName = HeaderName::from_static("x-grpc-web");
/// Of a frame that holds trailers and no message.
const TRAILERS_FLAG: u8 = 0x80;

/// How bodies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Binary,
    /// All of it in base64.
    Text,
}

impl Form {
    /// Of a content type, with what follows: `+proto`, a parameter, or nothing.
    fn of(content_type: &[u8]) -> Option<(Self, &[u8])> {
        let rest = content_type.strip_prefix(BINARY.as_bytes())?;
        let (form, rest) = match rest.strip_prefix(b"-text") {
            Some(rest) => (Self::Text, rest),
            None => (Self::Binary, rest),
        };
        matches!(rest.first(), None | Some(b'+' | b';' | b' ')).then_some((form, rest))
    }

    /// Of an answer.
    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Binary => "application/grpc-web+proto",
            Self::Text => "application/grpc-web-text+proto",
        })
    }

    /// A piece of an answer's body.
    pub(crate) fn write(self, data: Bytes) -> Bytes {
        match self {
            Self::Binary => data,
            // Padded piece by piece, as the specification allows: nothing waits for two more bytes.
            Self::Text => STANDARD.encode(data).into(),
        }
    }
}

/// How a gRPC-Web client writes, and reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrpcWeb {
    pub(crate) request: Form,
    pub(crate) answer: Form,
}

impl GrpcWeb {
    /// Makes a head gRPC's; nothing for one that is not gRPC-Web's.
    pub(crate) fn translate(headers: &mut HeaderMap) -> Option<Self> {
        let form = |name| Form::of(headers.get(name).map(HeaderValue::as_bytes)?);
        let (request, rest) = form(CONTENT_TYPE)?;
        let accepted = form(ACCEPT).map(|(form, _)| form);
        let web = Self {
            request,
            answer: accepted.unwrap_or(request),
        };
        let content_type = HeaderValue::from_bytes(&[grpc::CONTENT_TYPE.as_bytes(), rest].concat());
        let content_type = content_type.expect("made of the bytes of a header value");
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.remove(X_GRPC_WEB);
        if accepted.is_some() {
            headers.remove(ACCEPT);
        }
        if request == Form::Text {
            // Of the text.
            headers.remove(CONTENT_LENGTH);
        }
        Some(web)
    }
}

/// The last frame of an answer, from its trailers.
pub(crate) fn trailers_frame(trailers: &HeaderMap) -> Bytes {
    let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let length: usize = trailers.iter().map(length).sum();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(TRAILERS_FLAG);
    frame.put_u32(u32::try_from(length).expect("trailers are bounded by HTTP/2's header list"));
    for (name, value) in trailers {
        frame.put_slice(name.as_str().as_bytes());
        frame.put_slice(b": ");
        frame.put_slice(value.as_bytes());
        frame.put_slice(b"\r\n");
    }
    frame.freeze()
}

/// Reads base64 as it comes: whole groups of four, of which any may be padded.
#[derive(Debug, Default)]
pub(crate) struct TextReader {
    /// Fewer than four characters.
    rest: Vec<u8>,
}

/// A body that is not base64.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotBase64;

impl TextReader {
    /// What these characters end; what they begin is kept.
    pub(crate) fn read(&mut self, text: &[u8]) -> Result<Bytes, NotBase64> {
        let text = [&std::mem::take(&mut self.rest), text].concat();
        let (mut whole, rest) = text.split_at(text.len() / 4 * 4);
        self.rest.extend_from_slice(rest);
        let mut data = Vec::with_capacity(whole.len() / 4 * 3);
        while !whole.is_empty() {
            let padded = whole.iter().position(|character| *character == b'=');
            let end = padded.map_or(whole.len(), |first| first / 4 * 4 + 4);
            let (part, later) = whole.split_at(end);
            STANDARD.decode_vec(part, &mut data).map_err(|_| NotBase64)?;
            whole = later;
        }
        Ok(data.into())
    }

    /// Whether nothing is begun.
    pub(crate) fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn translated(fields: &[(&'static str, &'static str)]) -> (Option<GrpcWeb>, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        (GrpcWeb::translate(&mut headers), headers)
    }

    #[test]
    fn a_head_becomes_that_of_grpc() {
        use Form::{Binary, Text};
        for (content_type, accept, expected, becomes) in [
            (
                "application/grpc-web",
                "*/*",
                Some((Binary, Binary)),
                "application/grpc",
            ),
            (
                "application/grpc-web+proto",
                "",
                Some((Binary, Binary)),
                "application/grpc+proto",
            ),
            (
                "application/grpc-web-text",
                "application/grpc-web-text",
                Some((Text, Text)),
                "application/grpc",
            ),
            (
                "application/grpc-web-text+proto",
                "",
                Some((Text, Text)),
                "application/grpc+proto",
            ),
            (
                "application/grpc-web+proto",
                "application/grpc-web-text",
                Some((Binary, Text)),
                "application/grpc+proto",
            ),
            ("application/grpc", "", None, "application/grpc"),
            ("application/grpc-webby", "", None, "application/grpc-webby"),
            (
                "application/json",
                "application/grpc-web",
                None,
                "application/json",
            ),
        ] {
            let fields = [
                ("content-type", content_type),
                ("accept", accept),
                ("content-length", "8"),
            ];
            let (web, headers) = translated(&fields);
            let expected = expected.map(|(request, answer)| GrpcWeb { request, answer });
            assert_eq!(web, expected, "{content_type}, {accept}");
            assert_eq!(headers["content-type"], becomes);
            assert_eq!(headers.contains_key("te"), web.is_some());
            let text = web.is_some_and(|web| web.request == Text);
            assert_eq!(headers.contains_key("content-length"), !text, "{content_type}");
        }
    }

    #[test]
    fn trailers_are_a_frame_of_lines() {
        let trailers = HeaderMap::from_iter([
            (
                HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("5"),
            ),
            (
                HeaderName::from_static("grpc-message"),
                HeaderValue::from_static("no"),
            ),
        ]);
        let frame = trailers_frame(&trailers);
        assert_eq!(
            frame,
            &b"\x80\0\0\0\x22grpc-status: 5\r\ngrpc-message: no\r\n"[..]
        );
    }

    #[test]
    fn what_is_no_base64_is_told() {
        for bad in ["AAA!", "=AAA", "A===", "AA=A", "AAAA====", "AB=="] {
            assert_eq!(
                TextReader::default().read(bad.as_bytes()),
                Err(NotBase64),
                "{bad}"
            );
        }
        let mut reader = TextReader::default();
        assert_eq!(reader.read(b"AAAAB"), Ok(Bytes::from_static(&[0; 3])));
        assert!(!reader.is_whole());
    }

    proptest! {
        #[test]
        fn text_is_read_whatever_its_pieces(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            piece in 1_usize..20,
        ) {
            // Each message is padded on its own, as clients that flush do.
            let text: String = messages.iter().map(|message| STANDARD.encode(message)).collect();
            let mut reader = TextReader::default();
            let mut data = Vec::new();
            for piece in text.as_bytes().chunks(piece) {
                data.extend_from_slice(&reader.read(piece).expect("base64"));
            }
            prop_assert!(reader.is_whole());
            prop_assert_eq!(data, messages.concat());
        }
    }
}
