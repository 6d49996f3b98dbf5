//! Values of `BYTES` tensors.

use std::str::{self, Utf8Error};

use bytes::Bytes;

/// Values of a `BYTES` tensor: spans of one buffer, which is the received body where no escape had to be undone.
#[derive(Clone, Default)]
pub struct StringData {
    buffer: Bytes,
    spans: Vec<Span>,
}

/// Offset and length in the buffer, which is shorter than 4 GiB.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl StringData {
    /// `spans` lie within `buffer`.
    pub(crate) fn from_spans(buffer: Bytes, spans: Vec<Span>) -> StringData {
        StringData { buffer, spans }
    }

    pub(super) fn buffer(&self) -> &Bytes {
        &self.buffer
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Reads the wire's raw form: a 4-byte little-endian length before each element. Nothing is copied.
    /// `None` if the lengths do not end exactly at the end of `raw`, or `raw` is 4 GiB or longer.
    pub fn from_length_prefixed(raw: Bytes) -> Option<StringData> {
        let end = u32::try_from(raw.len()).ok()?;
        let mut spans = Vec::new();
        let mut at = 0_u32;
        while at < end {
            let start = at.checked_add(4)?;
            let prefix = raw.get(at as usize..start as usize)?;
            let len = u32::from_le_bytes(prefix.try_into().ok()?);
            at = start.checked_add(len)?;
            spans.push(Span { start, len });
        }
        (at == end).then_some(StringData { buffer: raw, spans })
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The value at `index`.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.spans.get(index).map(|span| self.at(*span))
    }

    /// The value at `index`, if there is one and it is UTF-8.
    pub fn str_at(&self, index: usize) -> Option<&str> {
        str::from_utf8(self.get(index)?).ok()
    }

    /// The values in order.
    pub fn iter(&self) -> StringIter<'_> {
        StringIter {
            data: self,
            spans: self.spans.iter(),
        }
    }

    /// The values in order, as text.
    pub fn iter_str(&self) -> impl ExactSizeIterator<Item = Result<&str, Utf8Error>> {
        self.iter().map(str::from_utf8)
    }

    /// Length of the raw form, prefixes included.
    pub fn length_prefixed_len(&self) -> usize {
        self.spans.iter().map(|span| 4 + span.len as usize).sum()
    }

    /// Appends the raw form: a 4-byte little-endian length before each element.
    pub fn write_length_prefixed(&self, out: &mut Vec<u8>) {
        out.reserve(self.length_prefixed_len());
        for span in &self.spans {
            out.extend_from_slice(&span.len.to_le_bytes());
            out.extend_from_slice(self.at(*span));
        }
    }

    fn at(&self, span: Span) -> &[u8] {
        &self.buffer[span.start as usize..][..span.len as usize]
    }
}

impl std::fmt::Debug for StringData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|value| value.escape_ascii().to_string()))
            .finish()
    }
}

impl PartialEq for StringData {
    fn eq(&self, other: &StringData) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a> IntoIterator for &'a StringData {
    type Item = &'a [u8];
    type IntoIter = StringIter<'a>;

    fn into_iter(self) -> StringIter<'a> {
        self.iter()
    }
}

/// The strings in order, copied into one buffer.
///
/// # Panics
/// At 4 GiB of text.
impl<S: AsRef<[u8]>> FromIterator<S> for StringData {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> StringData {
        let mut builder = StringDataBuilder::default();
        for string in strings {
            assert!(
                builder.push(string.as_ref()),
                "a tensor of strings is shorter than 4 GiB"
            );
        }
        builder.finish()
    }
}

/// The values of a [`StringData`] in order.
#[derive(Clone)]
pub struct StringIter<'a> {
    data: &'a StringData,
    spans: std::slice::Iter<'a, Span>,
}

impl<'a> Iterator for StringIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.spans.next().map(|span| self.data.at(*span))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }

    fn nth(&mut self, n: usize) -> Option<&'a [u8]> {
        self.spans.nth(n).map(|span| self.data.at(*span))
    }
}

impl ExactSizeIterator for StringIter<'_> {}

/// Gathers strings into one buffer.
#[derive(Default)]
pub struct StringDataBuilder {
    buffer: Vec<u8>,
    spans: Vec<Span>,
}

impl StringDataBuilder {
    /// A builder with room for `values` strings of `bytes` bytes in all.
    pub fn with_capacity(values: usize, bytes: usize) -> StringDataBuilder {
        StringDataBuilder {
            buffer: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(values),
        }
    }

    /// Adds a value; `false` if the buffer would reach 4 GiB.
    #[must_use]
    pub fn push(&mut self, value: &[u8]) -> bool {
        let start = self.buffer.len();
        let Ok(_end) = u32::try_from(start + value.len()) else {
            return false;
        };
        self.buffer.extend_from_slice(value);
        self.spans.push(Span {
            start: start as u32,
            len: value.len() as u32,
        });
        true
    }

    /// Number of values so far.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are no values yet.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The values.
    pub fn finish(self) -> StringData {
        StringData {
            buffer: self.buffer.into(),
            spans: self.spans,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_raw_form_reads_back() {
        let strings: StringData = ["ab", "", "\u{e9}"].into_iter().collect();
        let mut raw = Vec::new();
        strings.write_length_prefixed(&mut raw);
        assert_eq!(raw, b"\x02\0\0\0ab\0\0\0\0\x02\0\0\0\xc3\xa9");
        assert_eq!(raw.len(), strings.length_prefixed_len());
        let back = StringData::from_length_prefixed(raw.into()).unwrap();
        assert_eq!(back, strings);
        assert_eq!(
            back.iter_str().collect::<Result<Vec<_>, _>>().unwrap(),
            ["ab", "", "\u{e9}"]
        );
    }

    #[test]
    fn lengths_that_miss_the_end_are_refused() {
        for raw in [
            &b"\x02\0\0\0a"[..],
            b"\x02\0\0",
            b"\0\0\0\0\x01",
            b"\xff\xff\xff\xffab",
        ] {
            assert!(StringData::from_length_prefixed(Bytes::from_static(raw)).is_none());
        }
    }
}
