//! A strict pull reader over RFC 8259.

use std::{borrow::Cow, str};

use super::is_plain;
use crate::{ProtocolError, error::shown};

/// Levels of nesting allowed, as in Triton.
pub(crate) const DEPTH_LIMIT: u32 = 100;

/// Whose text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A request to be answered: JSON and nothing else.
    Strict,
    /// What any server answered, or was asked: `null`, `NaN`, `Infinity` and `-Infinity` stand for floats, and
    /// parameters of unknown form are passed over.
    Lenient,
}

/// Why a value cannot be read. Small, because it is on the path of every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The text is not JSON at this offset.
    Syntax { at: usize, expected: &'static str },
    /// Too deep.
    Depth { at: usize },
    /// JSON, but not what is wanted here.
    Unwanted { at: usize, expected: &'static str },
}

/// A string in the text: its bytes between the quotes, and whether escapes are among them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    pub(crate) raw: &'a str,
    /// Offset of `raw` in the reader's text.
    pub(crate) at: usize,
    pub(crate) escaped: bool,
}

impl<'a> Text<'a> {
    /// The string itself.
    pub(crate) fn unescape(self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut out = String::with_capacity(self.raw.len());
        unescape_into(self.raw, &mut out);
        Cow::Owned(out)
    }
}

/// An array or object that is being read.
#[derive(Debug)]
pub(crate) struct Container {
    started: bool,
}

/// A cursor over JSON text.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    pub(crate) at: usize,
    depth: u32,
    pub(crate) mode: Mode,
}

impl<'a> Reader<'a> {
    /// A reader over a body; the body must be UTF-8.
    pub(crate) fn new(body: &'a [u8], mode: Mode) -> Result<Reader<'a>, ProtocolError> {
        match str::from_utf8(body) {
            Ok(text) => Ok(Reader::over(text, mode)),
            Err(error) => Err(ProtocolError::Json {
                offset: error.valid_up_to(),
                expected: "UTF-8",
                got: "other bytes".into(),
            }),
        }
    }

    pub(crate) fn over(text: &'a str, mode: Mode) -> Reader<'a> {
        Reader {
            text,
            at: 0,
            depth: 0,
            mode,
        }
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    pub(crate) fn slice(&self, start: usize, end: usize) -> &'a str {
        &self.text[start..end]
    }

    /// Bytes not read yet.
    pub(crate) fn left(&self) -> usize {
        self.text.len() - self.at
    }

    pub(crate) fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    /// The first byte of the next token.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.byte()
    }

    /// How many arrays open before the next value that is none.
    pub(crate) fn arrays_ahead(&self) -> usize {
        let ahead = self.text.as_bytes()[self.at..].iter();
        ahead
            .filter(|byte| !matches!(byte, b' ' | b'\n' | b'\t' | b'\r'))
            .take_while(|&&byte| byte == b'[')
            .take(DEPTH_LIMIT as usize)
            .count()
    }

    pub(crate) fn syntax<T>(&self, expected: &'static str) -> Result<T, Fault> {
        Err(Fault::Syntax {
            at: self.at,
            expected,
        })
    }

    /// Steps back to where an array or object of the outermost object began.
    pub(crate) fn restart(&mut self, at: usize) {
        self.at = at;
        self.depth = 1;
    }

    /// Nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.syntax("the end of the JSON text"),
        }
    }

    fn enter(&mut self, open: u8, expected: &'static str) -> Result<Container, Fault> {
        if self.peek() != Some(open) {
            return self.unwanted(expected);
        }
        if self.depth == DEPTH_LIMIT {
            return Err(Fault::Depth { at: self.at });
        }
        self.depth += 1;
        self.at += 1;
        Ok(Container { started: false })
    }

    /// Steps into an array; then [`Reader::next_element`] until it is false.
    pub(crate) fn enter_array(&mut self) -> Result<Container, Fault> {
        self.enter(b'[', "an array")
    }

    /// Steps into an object; then [`Reader::next_key`] until there is none.
    pub(crate) fn enter_object(&mut self) -> Result<Container, Fault> {
        self.enter(b'{', "an object")
    }

    /// Whether a value follows; steps out of the array if not.
    #[inline]
    pub(crate) fn next_element(&mut self, array: &mut Container) -> Result<bool, Fault> {
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            Some(b',') if array.started => {
                self.at += 1;
                if self.peek() == Some(b']') {
                    self.syntax("a value after the comma")
                } else {
                    Ok(true)
                }
            }
            Some(_) if !array.started => {
                array.started = true;
                Ok(true)
            }
            Some(_) | None => self.syntax("`,` or `]`"),
        }
    }

    /// The next key, its colon read; steps out of the object if there is none.
    pub(crate) fn next_key(&mut self, object: &mut Container) -> Result<Option<Cow<'a, str>>, Fault> {
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                self.depth -= 1;
                return Ok(None);
            }
            Some(b',') if object.started => self.at += 1,
            Some(_) if !object.started => object.started = true,
            Some(_) | None => return self.syntax("`,` or `}`"),
        }
        if self.peek() != Some(b'"') {
            return self.syntax("a string as key");
        }
        let key = self.text()?;
        if self.peek() != Some(b':') {
            return self.syntax("`:` after the key");
        }
        self.at += 1;
        Ok(Some(key.unescape()))
    }

    /// A string, not yet unescaped but checked.
    pub(crate) fn text(&mut self) -> Result<Text<'a>, Fault> {
        if self.peek() != Some(b'"') {
            return self.unwanted("a string");
        }
        let (start, bytes) = (self.at + 1, self.text.as_bytes());
        let mut at = start;
        let mut escaped = false;
        loop {
            at += bytes[at..].iter().take_while(|&&byte| is_plain(byte)).count();
            self.at = at;
            match bytes.get(at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Text {
                        raw: &self.text[start..at],
                        at: start,
                        escaped,
                    });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                    at = self.at;
                }
                Some(_) => return self.syntax("no control character in a string"),
                None => return self.syntax("`\"` at the end of a string"),
            }
        }
    }

    /// Checks one escape; surrogates must come in pairs.
    fn escape(&mut self) -> Result<(), Fault> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let valid = match hex4(bytes, self.at + 2) {
                    Some(0xd800..=0xdbff) => {
                        let pair = bytes.get(self.at + 6..self.at + 8) == Some(b"\\u");
                        (pair && matches!(hex4(bytes, self.at + 8), Some(0xdc00..=0xdfff))).then_some(12)
                    }
                    Some(0xdc00..=0xdfff) | None => None,
                    Some(_) => Some(6),
                };
                match valid {
                    Some(len) => {
                        self.at += len;
                        Ok(())
                    }
                    None => self.syntax("four hexadecimal digits of a character"),
                }
            }
            Some(_) | None => self.syntax("an escape sequence"),
        }
    }

    /// A string.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.text().map(Text::unescape)
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self) -> Result<bool, Fault> {
        self.skip_space();
        if self.literal("true") {
            Ok(true)
        } else if self.literal("false") {
            Ok(false)
        } else {
            self.unwanted("true or false")
        }
    }

    /// Steps over this exact word, if it stands here.
    pub(crate) fn literal(&mut self, word: &str) -> bool {
        let here = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        if here {
            self.at += word.len();
        }
        here
    }

    /// Steps over any value; what it covers, without white space around.
    pub(crate) fn skip(&mut self) -> Result<&'a str, Fault> {
        self.skip_space();
        let start = self.at;
        self.skip_value()?;
        Ok(&self.text[start..self.at])
    }

    /// Steps over a value that is read later: of an array, only brackets and strings are looked at now.
    pub(crate) fn pass(&mut self) -> Result<(), Fault> {
        if self.peek() != Some(b'[') {
            return self.skip_value();
        }
        let bytes = self.text.as_bytes();
        let mut open = 0_usize;
        while let Some(at) = memchr::memchr3(b'[', b']', b'"', &bytes[self.at..]) {
            self.at += at;
            match bytes[self.at] {
                b'"' => {
                    self.text()?;
                    continue;
                }
                b'[' => open += 1,
                _ => open -= 1,
            }
            self.at += 1;
            if open == 0 {
                return Ok(());
            }
        }
        self.at = bytes.len();
        self.syntax("`,` or `]`")
    }

    /// Must not ask for a particular kind where another may stand: [`Reader::fault`] comes back here.
    fn skip_value(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'{') => {
                let mut object = self.enter_object()?;
                while self.next_key(&mut object)?.is_some() {
                    self.skip_value()?;
                }
                Ok(())
            }
            Some(b'[') => {
                let mut array = self.enter_array()?;
                while self.next_element(&mut array)? {
                    self.skip_value()?;
                }
                Ok(())
            }
            Some(b'"') => self.text().map(|_| ()),
            Some(b't') if self.literal("true") => Ok(()),
            Some(b'f') if self.literal("false") => Ok(()),
            Some(b'n') if self.literal("null") => Ok(()),
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            Some(b'N' | b'I') if self.mode == Mode::Lenient => self.skip_number(),
            Some(_) | None => self.syntax("a value"),
        }
    }

    /// The value here is not what is wanted, if it is a value at all.
    pub(crate) fn unwanted<T>(&mut self, expected: &'static str) -> Result<T, Fault> {
        Err(self.fault(expected))
    }

    /// The fault of [`Reader::unwanted`].
    pub(crate) fn fault(&mut self, expected: &'static str) -> Fault {
        self.skip_space();
        let at = self.at;
        let mut probe = Reader {
            text: self.text,
            at,
            depth: self.depth,
            mode: self.mode,
        };
        // A syntax error is the better message, even where something else was wanted.
        match self.byte() {
            None | Some(b',' | b':' | b']' | b'}') => Fault::Syntax { at, expected },
            Some(_) => match probe.skip_value() {
                Err(fault @ Fault::Syntax { .. }) => fault,
                Ok(()) | Err(Fault::Depth { .. } | Fault::Unwanted { .. }) => {
                    Fault::Unwanted { at, expected }
                }
            },
        }
    }

    /// What stands at `at`, shortened for an error's text.
    pub(crate) fn excerpt(&self, at: usize) -> Box<str> {
        const LONGEST: usize = 32;
        let rest = &self.text[at.min(self.text.len())..];
        if rest.is_empty() {
            return "the end of the text".into();
        }
        let mut probe = Reader {
            text: self.text,
            at,
            depth: 0,
            mode: self.mode,
        };
        let value = match probe.skip() {
            Ok(value) => value,
            Err(_) => rest,
        };
        let shown = value
            .char_indices()
            .nth(LONGEST)
            .map_or(value, |(end, _)| &value[..end]);
        let more = if shown.len() < value.len() { "…" } else { "" };
        // Control characters would leave the error on several lines.
        format!("`{}{more}`", shown.replace(char::is_control, " ")).into()
    }

    /// The error for a fault outside of tensor data.
    pub(crate) fn error(&self, fault: Fault, field: impl FnOnce() -> String) -> ProtocolError {
        match fault {
            Fault::Syntax { at, expected } => ProtocolError::Json {
                offset: at,
                expected,
                got: self.excerpt(at),
            },
            Fault::Depth { at } => ProtocolError::JsonDepth {
                offset: at,
                limit: DEPTH_LIMIT,
            },
            Fault::Unwanted { at, expected } => ProtocolError::Field {
                field: shown(&field()),
                expected,
                got: self.excerpt(at),
            },
        }
    }
}

/// Whether the object at the cursor is `{"b64": …}`.
pub(crate) fn is_base64(reader: &mut Reader<'_>) -> bool {
    reader.peek();
    let mut probe = Reader {
        text: reader.text,
        at: reader.at,
        depth: 0,
        mode: reader.mode,
    };
    let Ok(mut object) = probe.enter_object() else {
        return false;
    };
    matches!(probe.next_key(&mut object), Ok(Some(key)) if key == "b64")
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |value, &digit| {
        Some(value << 4 | char::from(digit).to_digit(16)?)
    })
}

/// `raw` was checked by [`Reader::text`].
fn unescape_into(raw: &str, out: &mut String) {
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest.as_bytes()[at..];
        let (character, len) = match escape[1] {
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            b'u' => {
                let first = hex4(escape, 2).expect("`Reader::escape` saw four digits");
                if let 0xd800..=0xdbff = first {
                    let second = hex4(escape, 8).expect("`Reader::escape` saw the pair's second half");
                    let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                    (char::from_u32(code).expect("a surrogate pair is a character"), 12)
                } else {
                    (
                        char::from_u32(first).expect("`Reader::escape` refuses lone surrogates"),
                        6,
                    )
                }
            }
            other => (char::from(other), 2),
        };
        out.push(character);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests;
