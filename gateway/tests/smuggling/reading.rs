//! What bytes of a connection mean by RFC 9112, and nothing else: written apart from the parsers that it judges.

use std::ops::Range;

/// A place where RFC 9112 lets a server go on although the sender broke a rule, because there is one reading only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Liberty {
    /// An empty line before a request (§2.2).
    EmptyLineBefore,
    /// A line of the head or of the trailers ends with LF alone (§2.2).
    BareLf,
    /// The same length twice, in one field or two (§6.3).
    RepeatedLength,
    /// A length beside `chunked`, which overrides it; the connection ends with the answer (§6.3).
    LengthBesideChunked,
    /// White space behind a chunk's size, where only an extension may have some (§7.1.1).
    SpaceAfterSize,
    /// A fragment, which no target has (RFC 9110 §7.1); left out.
    Fragment,
}

impl Liberty {
    pub(crate) const ALL: [Self; 6] = [
        Self::EmptyLineBefore,
        Self::BareLf,
        Self::RepeatedLength,
        Self::LengthBesideChunked,
        Self::SpaceAfterSize,
        Self::Fragment,
    ];
}

/// A field's name in lower case, and its value.
pub(crate) type Field = (String, Vec<u8>);

/// One request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) method: String,
    /// In origin form, if it came in absolute form.
    pub(crate) target: String,
    /// Of an absolute target, else of the field.
    pub(crate) host: Option<String>,
    pub(crate) fields: Vec<Field>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<Field>,
    pub(crate) liberties: Vec<Liberty>,
    pub(crate) chunked: bool,
    /// Nothing after it is read.
    pub(crate) closes: bool,
}

impl Message {
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.fields.iter().filter(move |field| field.0 == name);
        named.map(|field| field.1.as_slice())
    }
}

/// How the bytes of a connection end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the last message.
    Complete,
    /// The last message ends the connection; the rest means nothing.
    Closed,
    /// In the middle of a message, whose body may have begun.
    Partial(Option<Box<Message>>),
    /// What follows is no request; its head, and the beginning of its body, may have been one.
    Invalid {
        reason: &'static str,
        begun: Option<Box<Message>>,
    },
}

/// All that a connection says.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) messages: Vec<Message>,
    pub(crate) end: End,
}

impl Reading {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut cursor = Cursor { bytes, at: 0 };
        let mut messages = Vec::new();
        let end = loop {
            if cursor.at == bytes.len() {
                break End::Complete;
            }
            match cursor.message() {
                Ok(message) => {
                    let closes = message.closes;
                    messages.push(message);
                    if closes {
                        break End::Closed;
                    }
                }
                Err(Stop { why: None, begun }) => break End::Partial(begun),
                Err(Stop {
                    why: Some(reason),
                    begun,
                }) => break End::Invalid { reason, begun },
            }
        };
        Self { messages, end }
    }
}

/// The first message in `bytes`, and where it ends; nothing when it is not there whole.
///
/// # Errors
/// Why it is none. Here nobody may take a liberty.
pub(crate) fn strict(bytes: &[u8]) -> Result<Option<(Message, usize)>, String> {
    let mut cursor = Cursor { bytes, at: 0 };
    match cursor.message() {
        Ok(message) if message.liberties.is_empty() => Ok(Some((message, cursor.at))),
        Ok(message) => Err(format!("{:?}", message.liberties)),
        Err(Stop { why: None, .. }) => Ok(None),
        Err(Stop {
            why: Some(reason), ..
        }) => Err(reason.to_owned()),
    }
}

/// The message that `bytes` begin, as far as it is there.
pub(crate) fn begun(bytes: &[u8]) -> Option<Message> {
    match (Cursor { bytes, at: 0 }).message() {
        Ok(message) => Some(message),
        Err(stop) => stop.begun.map(|message| *message),
    }
}

/// Why no message was read: its reason, or nothing when bytes are missing.
struct Stop {
    why: Option<&'static str>,
    begun: Option<Box<Message>>,
}

const MISSING: Stop = Stop {
    why: None,
    begun: None,
};

fn invalid(reason: &'static str) -> Stop {
    Stop {
        why: Some(reason),
        begun: None,
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn message(&mut self) -> Result<Message, Stop> {
        let mut message = Message::default();
        while let Some(length) = empty_line(&self.bytes[self.at..]) {
            self.at += length;
            note(&mut message, Liberty::EmptyLineBefore);
            if length == 1 {
                note(&mut message, Liberty::BareLf);
            }
        }
        let line = self.line(&mut message)?;
        let is_new = self.request_line(line, &mut message)?;
        message.fields = self.fields(&mut message)?;
        let length = frame(&mut message, is_new)?;
        let read = match length {
            Length::Chunked => self.chunks(&mut message),
            Length::Bytes(length) => self.sized(length, &mut message),
        };
        match read {
            Ok(()) => Ok(message),
            Err(stop) => Err(Stop {
                begun: Some(Box::new(message)),
                ..stop
            }),
        }
    }

    /// The next line of a head, without its end.
    fn line(&mut self, message: &mut Message) -> Result<Range<usize>, Stop> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n');
        let content = end.map_or(rest, |end| &rest[..end]);
        let content = match content.strip_suffix(b"\r") {
            Some(content) => content,
            None if end.is_none() => content,
            None => {
                note(message, Liberty::BareLf);
                content
            }
        };
        if content.contains(&b'\r') {
            return Err(invalid("CR inside a line"));
        }
        let Some(end) = end else { return Err(MISSING) };
        let line = self.at..self.at + content.len();
        self.at += end + 1;
        Ok(line)
    }

    /// Whether it is HTTP/1.1.
    fn request_line(&self, line: Range<usize>, message: &mut Message) -> Result<bool, Stop> {
        let line = &self.bytes[line];
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("no three words in the first line"));
        };
        if !is_token(method) {
            return Err(invalid("no method"));
        }
        if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
            return Err(invalid("no target"));
        }
        let is_new = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return Err(invalid("no version that is served")),
        };
        message.closes = !is_new;
        message.method = text(method);
        let whole = text(target);
        let target = match whole.split_once('#') {
            Some((target, _fragment)) => {
                note(message, Liberty::Fragment);
                target
            }
            None => &whole,
        };
        let scheme = target
            .split_once("://")
            .map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
        match scheme {
            _ if target.starts_with('/') || target == "*" || method == b"CONNECT" => {
                target.clone_into(&mut message.target);
            }
            Some((scheme, rest)) if scheme == "http" || scheme == "https" => {
                let path = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, path) = rest.split_at(path);
                if !is_host(authority.as_bytes()) {
                    return Err(invalid("an absolute target without a host"));
                }
                message.host = Some(authority.to_owned());
                message.target = if path.starts_with('/') {
                    path.to_owned()
                } else {
                    format!("/{path}")
                };
            }
            _ => return Err(invalid("a target of no known form")),
        }
        Ok(is_new)
    }

    fn fields(&mut self, message: &mut Message) -> Result<Vec<Field>, Stop> {
        let mut fields = Vec::new();
        loop {
            let line = self.line(message)?;
            let line = &self.bytes[line];
            if line.is_empty() {
                return Ok(fields);
            }
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                return Err(invalid("a field without a colon"));
            };
            let (name, value) = (&line[..colon], without_space(&line[colon + 1..]));
            if !is_token(name) {
                return Err(invalid("no field name"));
            }
            if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
                return Err(invalid("a control character in a field's value"));
            }
            fields.push((text(name).to_ascii_lowercase(), value.to_vec()));
        }
    }

    fn sized(&mut self, length: usize, message: &mut Message) -> Result<(), Stop> {
        let rest = &self.bytes[self.at..];
        let here = rest.len().min(length);
        message.body.extend_from_slice(&rest[..here]);
        self.at += here;
        if here < length { Err(MISSING) } else { Ok(()) }
    }

    fn chunks(&mut self, message: &mut Message) -> Result<(), Stop> {
        loop {
            let size = self.chunk_size(message)?;
            if size == 0 {
                message.trailers = self.fields(message)?;
                return Ok(());
            }
            self.sized(size, message)?;
            for expected in *b"\r\n" {
                match self.next() {
                    None => return Err(MISSING),
                    Some(byte) if byte == expected => {}
                    Some(_) => return Err(invalid("no line end behind a chunk")),
                }
            }
        }
    }

    fn chunk_size(&mut self, message: &mut Message) -> Result<usize, Stop> {
        let (mut size, mut digits) = (0_usize, 0);
        let mut byte = loop {
            let byte = self.next().ok_or(MISSING)?;
            let Some(digit) = char::from(byte).to_digit(16) else {
                break byte;
            };
            digits += 1;
            let Some(larger) = size.checked_mul(16) else {
                return Err(invalid("a chunk's size beyond 64 bits"));
            };
            size = larger + digit as usize;
        };
        if digits == 0 {
            return Err(invalid("no chunk size"));
        }
        let spaced = byte == b' ' || byte == b'\t';
        while byte == b' ' || byte == b'\t' {
            byte = self.next().ok_or(MISSING)?;
        }
        if byte == b';' {
            while byte != b'\r' {
                byte = self.next().ok_or(MISSING)?;
                if byte == b'\n' {
                    return Err(invalid("LF in a chunk extension"));
                }
            }
        } else if spaced {
            note(message, Liberty::SpaceAfterSize);
        }
        if byte != b'\r' {
            return Err(invalid("no chunk size alone on its line"));
        }
        match self.next() {
            None => Err(MISSING),
            Some(b'\n') => Ok(size),
            Some(_) => Err(invalid("CR without LF behind a chunk's size")),
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }
}

enum Length {
    Chunked,
    Bytes(usize),
}

/// How long the body is (RFC 9112 §6.3), whether the connection goes on (§9.3), and for whom the request is (§3.2).
fn frame(message: &mut Message, is_new: bool) -> Result<Length, Stop> {
    let hosts: Vec<Vec<u8>> = message.values("host").map(<[u8]>::to_vec).collect();
    match &hosts[..] {
        [] if is_new => return Err(invalid("no host")),
        [] => {}
        [host] if is_host(host) => {
            message.host.get_or_insert_with(|| text(host));
        }
        _ => return Err(invalid("no single host")),
    }
    let connection: Vec<String> = message
        .values("connection")
        // No option has others; nothing in such a value is one.
        .filter(|value| value.is_ascii())
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|option| text(without_space(option)).to_ascii_lowercase())
        .collect();
    let has = |option: &str| connection.iter().any(|it| it == option);
    message.closes = has("close") || (!is_new && !has("keep-alive"));

    let codings: Vec<Vec<u8>> = message.values("transfer-encoding").map(<[u8]>::to_vec).collect();
    let lengths: Vec<Vec<u8>> = message
        .values("content-length")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|length| without_space(length).to_vec())
        .collect();
    match &codings[..] {
        [] => {}
        [coding] if is_new && coding.eq_ignore_ascii_case(b"chunked") => {
            message.chunked = true;
            if !lengths.is_empty() {
                note(message, Liberty::LengthBesideChunked);
                message.closes = true;
            }
            return Ok(Length::Chunked);
        }
        _ => return Err(invalid("a transfer coding other than chunked")),
    }
    let [first, others @ ..] = &lengths[..] else {
        return Ok(Length::Bytes(0));
    };
    let number = number(first)?;
    for other in others {
        if self::number(other)? != number {
            return Err(invalid("two lengths"));
        }
    }
    if !others.is_empty() {
        note(message, Liberty::RepeatedLength);
    }
    Ok(Length::Bytes(number))
}

fn number(length: &[u8]) -> Result<usize, Stop> {
    std::str::from_utf8(length)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid("a length that is no number"))
}

fn note(message: &mut Message, liberty: Liberty) {
    if !message.liberties.contains(&liberty) {
        message.liberties.push(liberty);
    }
}

fn empty_line(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\r', b'\n', ..] => Some(2),
        [b'\n', ..] => Some(1),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Without the optional white space around it: blanks and tabs, and no others.
fn without_space(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

fn is_token(bytes: &[u8]) -> bool {
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(valid)
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2); HTTP has no use for an empty one (§4.2.1).
fn is_host(bytes: &[u8]) -> bool {
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(byte);
    !bytes.is_empty() && bytes.iter().all(valid)
}
