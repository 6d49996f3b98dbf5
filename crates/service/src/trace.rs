//! Request ids and W3C trace context.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// `x-request-id`: made where missing, forwarded, and returned to the client.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// `traceparent` of W3C Trace Context, level 1.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What vendors keep beside it; passed on as it is.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest id that is taken over from a client; longer ones are replaced.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Identity of one request, for logs, feedback and support.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's id where it is usable, otherwise a new one; set on `headers` either way.
    ///
    /// Usable means visible ASCII of at most 128 bytes, so that an id can be logged and echoed as it is.
    pub fn ensure(headers: &mut HeaderMap) -> Self {
        if let Some(id) = Self::of(headers) {
            return id;
        }
        let id = Self::random();
        headers.insert(REQUEST_ID, id.0.clone());
        id
    }

    /// The client's id where it is usable, for a part that forwards nothing.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let id = headers.get(&REQUEST_ID).filter(|id| is_usable(id))?;
        Some(Self(id.clone()))
    }

    /// A new id: 128 random bits as 32 hexadecimal digits.
    pub fn random() -> Self {
        let mut text = [0; 32];
        write_hex(&mut text, &fastrand::u128(..).to_be_bytes());
        Self(HeaderValue::from_bytes(&text).expect("hexadecimal digits are a header value"))
    }

    /// The header's value.
    pub fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }

    /// The same, when the id itself is needed no more.
    pub fn into_header_value(self) -> HeaderValue {
        self.0
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0
            .to_str()
            .expect("checked to be visible ASCII, or made of digits")
    }
}

fn is_usable(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    !bytes.is_empty() && bytes.len() <= MAX_REQUEST_ID_BYTES && bytes.iter().all(u8::is_ascii_graphic)
}

/// Position of a request in a distributed trace: `version-traceid-parentid-flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes, not zero.
    pub trace_id: u128,
    /// 8 bytes, not zero: the span that sends.
    pub span_id: u64,
    /// Whether the caller records this trace.
    pub sampled: bool,
}

impl TraceContext {
    /// The caller's context; nothing when the header is missing or malformed, and a new trace is to begin (as the
    /// specification asks).
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(&TRACEPARENT)?.as_bytes())
    }

    /// The first of a new trace.
    pub fn random(sampled: bool) -> Self {
        Self {
            trace_id: fastrand::u128(1..),
            span_id: fastrand::u64(1..),
            sampled,
        }
    }

    /// The same trace with a span of our own as the parent of what is called next.
    #[must_use]
    pub fn child(self) -> Self {
        Self {
            span_id: fastrand::u64(1..),
            ..self
        }
    }

    /// The header's value.
    pub fn header_value(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.trace_id.to_be_bytes());
        write_hex(&mut text[36..52], &self.span_id.to_be_bytes());
        write_hex(&mut text[53..], &[u8::from(self.sampled)]);
        HeaderValue::from_bytes(&text).expect("hexadecimal digits and dashes are a header value")
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut fields = text.split('-');
        let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        // Version 00 has exactly four fields; a later version may add more, ff is invalid.
        let well_formed = version.len() == 2
            && version != "ff"
            && trace.len() == 32
            && span.len() == 16
            && flags.len() == 2
            && (version != "00" || fields.next().is_none())
            && [version, trace, span, flags]
                .iter()
                .all(|field| field.bytes().all(is_lower_hex));
        if !well_formed {
            return None;
        }
        let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self {
            trace_id,
            span_id,
            sampled: flags & 1 == 1,
        })
    }
}

/// Two digits of `text` for each byte. On the path of every request: `format!` takes five times as long.
fn write_hex(text: &mut [u8], bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (digits, byte) in text.chunks_exact_mut(2).zip(bytes) {
        digits[0] = HEX[usize::from(byte >> 4)];
        digits[1] = HEX[usize::from(byte & 15)];
    }
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traceparent(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_str(value).expect("a header value"))])
    }

    #[test]
    fn a_caller_keeps_its_trace_and_gets_a_new_parent() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = TraceContext::of(&traceparent(header)).expect("well-formed");
        assert_eq!(context.header_value(), header);
        let child = context.child();
        assert_eq!((child.trace_id, child.sampled), (context.trace_id, true));
        assert_ne!(child.span_id, context.span_id);
    }

    #[test]
    fn malformed_contexts_are_none() {
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::of(&traceparent(bad)), None, "{bad}");
        }
    }

    #[test]
    fn a_usable_request_id_is_kept_and_others_are_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("order-17"));
        assert_eq!(RequestId::ensure(&mut headers).as_str(), "order-17");
        for bad in ["", "two words", &"x".repeat(129)] {
            headers.insert(REQUEST_ID, HeaderValue::from_str(bad).expect("a header value"));
            let id = RequestId::ensure(&mut headers);
            assert_eq!(id.as_str().len(), 32, "{bad:?}");
            assert_eq!(headers[&REQUEST_ID], id.as_str());
        }
    }
}
