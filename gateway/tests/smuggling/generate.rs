//! What is sent: connections of several requests, most of them damaged in ways that have parted two readers before.
//!
//! A connection is derived from its number: the same seed and number give the same bytes.

use fastrand::Rng;

/// Requests of a connection before its last one.
const MOST_MESSAGES: usize = 5;

/// Indices of requests that are hidden in bodies.
const HIDDEN: usize = 100;

/// The bytes of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) bytes: Vec<u8>,
    /// Requests before the first damaged one: each of them has to be answered by the endpoint.
    pub(crate) sound: usize,
    /// What was done to the damaged ones.
    pub(crate) damages: Vec<&'static str>,
}

impl Connection {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let count = rng.usize(1..=MOST_MESSAGES);
        let mut connection = Self {
            bytes: Vec::new(),
            sound: 0,
            damages: Vec::new(),
        };
        for index in 0..count {
            let mut draft = Draft::new(number, index, &mut rng);
            let damages = [0, 1, 1, 2][rng.usize(..4)];
            for _ in 0..damages {
                let (name, damage) = DAMAGES[rng.usize(..DAMAGES.len())];
                damage(&mut draft, &mut rng);
                connection.damages.push(name);
            }
            if connection.damages.is_empty() && draft.reaches {
                connection.sound += 1;
            } else if connection.damages.is_empty() {
                connection.damages.push("unknown model");
            }
            draft.write(&mut connection.bytes);
        }
        // The last one ends the connection, so that nobody has to guess when the other side is done.
        let last = tag(number, count);
        let text =
            format!("GET /v2/models/churn?{last} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
        connection.bytes.extend_from_slice(text.as_bytes());
        if connection.damages.is_empty() {
            connection.sound += 1;
        }
        if is_answered_early(number) {
            // The connection may end with an answer that comes before the body's end.
            connection.sound = connection.sound.min(1);
        }
        connection
    }
}

/// Whether the endpoint answers the requests of this connection as soon as their heads are there.
pub(crate) fn is_answered_early(connection: u64) -> bool {
    connection.is_multiple_of(8)
}

/// Names one request of all.
pub(crate) fn tag(connection: u64, index: usize) -> String {
    format!("tag={connection}.{index}.")
}

/// The connection whose request this target names.
pub(crate) fn connection_of(target: &str) -> Option<u64> {
    target.split_once("tag=")?.1.split('.').next()?.parse().ok()
}

/// A request in pieces, each of which can be damaged.
struct Draft {
    connection: u64,
    index: usize,
    before: Vec<u8>,
    method: Vec<u8>,
    target: Vec<u8>,
    version: Vec<u8>,
    /// Between the three.
    space: Vec<u8>,
    /// Lines without their ends.
    fields: Vec<Vec<u8>>,
    line_end: &'static [u8],
    content: Content,
    chunked: bool,
    size: fn(usize) -> String,
    extension: Vec<u8>,
    chunk_end: &'static [u8],
    size_end: &'static [u8],
    last: Vec<u8>,
    trailers: Vec<Vec<u8>>,
    /// Damage to the finished bytes: where, as a share of the head or the body, and what.
    strokes: Vec<Stroke>,
    /// Whether the endpoint has to see it, undamaged.
    reaches: bool,
}

type Content = Vec<u8>;

struct Stroke {
    in_head: bool,
    at: f64,
    replace: bool,
    bytes: Vec<u8>,
}

impl Draft {
    fn new(connection: u64, index: usize, rng: &mut Rng) -> Self {
        let tag = tag(connection, index);
        let (method, path) = match rng.u8(..10) {
            0 | 1 => ("GET", "/v2/models/churn"),
            2 => ("HEAD", "/v2/models/churn/ready"),
            3 => ("POST", "/v1/models/churn:predict"),
            4 => ("POST", "/v2/models/nope/infer"),
            _ => ("POST", "/v2/models/churn/infer"),
        };
        let posts = method == "POST";
        let content = if posts {
            content(connection, index, rng)
        } else {
            Vec::new()
        };
        let chunked = posts && rng.bool();
        let mut fields = vec![b"Host: gateway".to_vec()];
        if posts {
            fields.push(b"Content-Type: application/json".to_vec());
            fields.push(if chunked {
                b"Transfer-Encoding: chunked".to_vec()
            } else {
                format!("Content-Length: {}", content.len()).into_bytes()
            });
        }
        Self {
            connection,
            index,
            before: Vec::new(),
            method: method.into(),
            target: format!("{path}?{tag}").into_bytes(),
            version: b"HTTP/1.1".to_vec(),
            space: b" ".to_vec(),
            fields,
            line_end: b"\r\n",
            content,
            chunked,
            size: |size| format!("{size:x}"),
            extension: Vec::new(),
            chunk_end: b"\r\n",
            size_end: b"\r\n",
            last: b"0\r\n".to_vec(),
            trailers: Vec::new(),
            strokes: Vec::new(),
            reaches: !path.contains("nope"),
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let mut head = self.before.clone();
        for (piece, end) in [
            (&self.method, &self.space[..]),
            (&self.target, &self.space),
            (&self.version, self.line_end),
        ] {
            head.extend_from_slice(piece);
            head.extend_from_slice(end);
        }
        for field in &self.fields {
            head.extend_from_slice(field);
            head.extend_from_slice(self.line_end);
        }
        head.extend_from_slice(self.line_end);
        let mut body = Vec::new();
        if self.chunked {
            for chunk in self.content.chunks(1 + self.content.len() / 3) {
                body.extend_from_slice((self.size)(chunk.len()).as_bytes());
                body.extend_from_slice(&self.extension);
                body.extend_from_slice(self.size_end);
                body.extend_from_slice(chunk);
                body.extend_from_slice(self.chunk_end);
            }
            body.extend_from_slice(&self.last);
            for trailer in &self.trailers {
                body.extend_from_slice(trailer);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"\r\n");
        } else {
            body.extend_from_slice(&self.content);
        }
        for stroke in &self.strokes {
            let part = if stroke.in_head || body.is_empty() {
                &mut head
            } else {
                &mut body
            };
            let mut at = (part.len() as f64 * stroke.at) as usize;
            let mut end = if stroke.replace {
                part.len().min(at + stroke.bytes.len().max(1))
            } else {
                at
            };
            // Not its name: whoever sees it has to know which one it is.
            if let Some(name) = part.windows(4).position(|bytes| bytes == b"tag=") {
                let name = name..name + tag(self.connection, self.index).len();
                if name.contains(&at) {
                    (at, end) = (name.end, name.end);
                } else if at < name.start {
                    end = end.min(name.start);
                }
            }
            part.splice(at..end, stroke.bytes.iter().copied());
        }
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&body);
    }

    /// The field of this name, replaced or added.
    fn set(&mut self, name: &str, line: Vec<u8>) {
        let named = |field: &Vec<u8>| field.to_ascii_lowercase().starts_with(name.as_bytes());
        match self.fields.iter_mut().find(|field| named(field)) {
            Some(field) => *field = line,
            None => self.fields.push(line),
        }
    }

    fn insert(&mut self, line: Vec<u8>, rng: &mut Rng) {
        let at = rng.usize(..=self.fields.len());
        self.fields.insert(at, line);
    }
}

/// A body: of JSON, of nothing, of bytes, or one that looks like requests to a reader that is out of step.
fn content(connection: u64, index: usize, rng: &mut Rng) -> Vec<u8> {
    let hidden = hidden(connection, index);
    match rng.u8(..8) {
        0 => Vec::new(),
        1 => hidden,
        2 => [b"0\r\n\r\n".to_vec(), hidden].concat(),
        3 => [b"\r\n".to_vec(), hidden].concat(),
        4 => {
            let length = rng.usize(1..64);
            std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
        }
        5 => vec![b'x'; rng.usize(1_000..6_000)],
        _ => br#"{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}"#.to_vec(),
    }
}

fn hidden(connection: u64, index: usize) -> Vec<u8> {
    let tag = tag(connection, HIDDEN + index);
    format!("GET /v2/models/churn?{tag} HTTP/1.1\r\nHost: gateway\r\n\r\n").into_bytes()
}

fn any<'a, T: ?Sized>(rng: &mut Rng, of: &[&'a T]) -> &'a T {
    of[rng.usize(..of.len())]
}

/// Bytes that parsers have differed about.
const ODD: [&[u8]; 22] = [
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\r",
    b"\r\r\n",
    b" ",
    b"\t",
    b"\x0b",
    b"\x0c",
    b":",
    b";",
    b",",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\x1b",
    b"\"",
    b"\\",
    b"",
    b"0",
    b"\xc0\xae",
];

const LENGTHS: [&str; 20] = [
    "+5",
    "-5",
    "-0",
    "0x5",
    "5 5",
    "5,6",
    "5,5",
    "5, 5",
    ",5",
    "5,",
    "",
    "18446744073709551616",
    "18446744073709551615",
    "5_0",
    "05",
    "0",
    "5.0",
    "\u{ff15}",
    "\"5\"",
    "5;",
];

const CODINGS: [&str; 24] = [
    "chunked",
    "Chunked",
    "CHUNKED",
    " chunked",
    "\tchunked",
    "chunked ",
    "chunked\t",
    "xchunked",
    "chunkedx",
    "chunked, identity",
    "identity, chunked",
    "chunked, chunked",
    "gzip, chunked",
    ", chunked",
    "chunked,",
    "chunked;q=0",
    "identity",
    "\x0bchunked",
    "chunked\x0b",
    "\"chunked\"",
    "chunked\0",
    "",
    "chu\r\n nked",
    "\r\n chunked",
];

const CODING_NAMES: [&str; 9] = [
    "Transfer-Encoding",
    "transfer-encoding",
    "TRANSFER-ENCODING",
    "Transfer_Encoding",
    "Transfer-Encoding ",
    " Transfer-Encoding",
    "Transfer-Encoding\t",
    "X: y\rTransfer-Encoding",
    "X: y\nTransfer-Encoding",
];

const SIZES: [fn(usize) -> String; 13] = [
    |size| format!("0x{size:x}"),
    |size| format!("+{size:x}"),
    |size| format!("-{size:x}"),
    |size| format!("{size:X}"),
    |size| format!("00000{size:x}"),
    |size| format!("{size:017x}"),
    |size| format!("1{size:016x}"),
    |size| format!("{size:x} "),
    |size| format!(" {size:x}"),
    |size| format!("{size:x}_"),
    |size| format!("{:x}", size + 1),
    |size| format!("{:x}", size.saturating_sub(1)),
    |size| format!("{size}"),
];

type Damage = fn(&mut Draft, &mut Rng);

const DAMAGES: [(&str, Damage); 32] = [
    ("length", |draft, rng| {
        let value = any(rng, &LENGTHS);
        draft.set("content-length", format!("Content-Length: {value}").into_bytes());
    }),
    ("wrong length", |draft, rng| {
        let length = draft.content.len() as i64 + [-7, -1, 1, 40][rng.usize(..4)];
        draft.set(
            "content-length",
            format!("Content-Length: {}", length.max(0)).into_bytes(),
        );
    }),
    ("second length", |draft, rng| {
        let length = draft.content.len() + [0, 0, 1, 100][rng.usize(..4)];
        draft.insert(format!("Content-Length: {length}").into_bytes(), rng);
    }),
    ("length beside chunked", |draft, rng| {
        let length = [0, 4, draft.content.len()][rng.usize(..3)];
        draft.insert(format!("Content-Length: {length}").into_bytes(), rng);
        draft.insert(b"Transfer-Encoding: chunked".to_vec(), rng);
    }),
    ("coding", |draft, rng| {
        let (name, value) = (any(rng, &CODING_NAMES), any(rng, &CODINGS));
        draft.set("transfer-encoding", format!("{name}: {value}").into_bytes());
        draft.chunked |= rng.bool();
    }),
    ("second coding", |draft, rng| {
        let (name, value) = (any(rng, &CODING_NAMES), any(rng, &CODINGS));
        draft.insert(format!("{name}: {value}").into_bytes(), rng);
    }),
    ("coding of a hidden request", |draft, rng| {
        // CL.TE and TE.CL: the chunks end before, or behind, what the length says.
        let hidden = hidden(draft.connection, draft.index);
        draft.content = [b"0\r\n\r\n".to_vec(), hidden].concat();
        draft.chunked = false;
        draft.set(
            "content-length",
            format!("Content-Length: {}", draft.content.len()).into_bytes(),
        );
        let (name, value) = (any(rng, &CODING_NAMES), any(rng, &CODINGS));
        draft.insert(format!("{name}: {value}").into_bytes(), rng);
    }),
    ("chunk size", |draft, rng| {
        draft.size = SIZES[rng.usize(..SIZES.len())];
    }),
    ("line end of a chunk", |draft, rng| {
        draft.chunk_end = any(
            rng,
            &[&b"\n"[..], b"\r", b"", b"XX", b"\rX", b"\r\n\r\n", b"\n\r"],
        );
    }),
    ("line end of a size", |draft, rng| {
        draft.size_end = any(
            rng,
            &[&b"\n"[..], b"\r", b"", b"\r\r\n", b" \r\n", b"\t\r\n", b"\rX"],
        );
    }),
    ("extension", |draft, rng| {
        draft.extension = match rng.u8(..6) {
            0 => b";a=b".to_vec(),
            1 => b" ; a=\"b;c\"".to_vec(),
            2 => b";\n".to_vec(),
            3 => [b";a=\n".to_vec(), hidden(draft.connection, draft.index)].concat(),
            4 => [b";".to_vec(), vec![b'x'; rng.usize(1..9_000)]].concat(),
            _ => b";a=\"\r\n".to_vec(),
        };
    }),
    ("last chunk", |draft, rng| {
        draft.last = any(
            rng,
            &[
                &b"0\n"[..],
                b"00\r\n",
                b"0;a\r\n",
                b"0 \r\n",
                b"",
                b"-0\r\n",
                b"0\r",
                b"0\r\n0\r\n",
                b"0x0\r\n",
            ],
        )
        .to_vec();
    }),
    ("trailers", |draft, rng| {
        let trailer = match rng.u8(..8) {
            0 => b"Content-Length: 50".to_vec(),
            1 => b"Transfer-Encoding: chunked".to_vec(),
            2 => b"Host: other".to_vec(),
            3 => b"X-A: b".to_vec(),
            4 => b"Authorization: Bearer t".to_vec(),
            5 => b"no colon".to_vec(),
            6 => b"X: a\nY: b".to_vec(),
            _ => hidden(draft.connection, draft.index),
        };
        draft.trailers.push(trailer);
    }),
    ("announced trailers", |draft, rng| {
        let name = any(
            rng,
            &[
                "X-A",
                "Content-Length",
                "Transfer-Encoding",
                "Host",
                "Grpc-Status",
            ],
        );
        draft.insert(format!("Trailer: {name}").into_bytes(), rng);
        draft.trailers.push(format!("{name}: 7").into_bytes());
    }),
    ("line ends", |draft, rng| {
        draft.line_end = any(rng, &[&b"\n"[..], b"\r", b"\n\r", b"\r\r\n"]);
    }),
    ("folded", |draft, rng| {
        let fold = any(
            rng,
            &[
                "X-A: b\r\n c",
                "X-A:\r\n\tb",
                "X-A: b\r\n Content-Length: 9",
                "X-A: b\n Transfer-Encoding: chunked",
            ],
        );
        draft.insert(fold.as_bytes().to_vec(), rng);
    }),
    ("space before a colon", |draft, rng| {
        let space = any(rng, &[" ", "\t", "\x0b"]);
        if draft.fields.is_empty() {
            return; // its host has been taken away
        }
        let at = rng.usize(..draft.fields.len());
        let field = String::from_utf8_lossy(&draft.fields[at]).replacen(':', &format!("{space}:"), 1);
        draft.fields[at] = field.into_bytes();
    }),
    ("no field", |draft, rng| {
        let line = any(
            rng,
            &[
                "no colon", ": empty", "(x): y", "a b: c", "@: x", "\"a\": b", " : x",
            ],
        );
        draft.insert(line.as_bytes().to_vec(), rng);
    }),
    ("underscores", |draft, rng| {
        let line = any(
            rng,
            &[
                "Content_Length: 3",
                "Content-Length_: 3",
                "Transfer_Encoding: chunked",
                "content.length: 3",
            ],
        );
        draft.insert(line.as_bytes().to_vec(), rng);
    }),
    ("host", |draft, rng| {
        match any(
            rng,
            &[
                "",
                "other",
                "user@gateway",
                "gateway other",
                "gateway,other",
                "gateway:80",
                "gateway:x",
                "gateway/",
                "[::1]",
                "gateway\t",
                "ga\x01teway",
            ],
        ) {
            "" if rng.bool() => draft.fields.retain(|field| !field.starts_with(b"Host")),
            host => draft.set("host", format!("Host: {host}").into_bytes()),
        }
    }),
    ("second host", |draft, rng| {
        let host = any(rng, &["gateway", "other", ""]);
        draft.insert(format!("Host: {host}").into_bytes(), rng);
    }),
    ("absolute target", |draft, rng| {
        let before = any(
            rng,
            &[
                "http://gateway",
                "http://other",
                "https://gateway",
                "HTTP://gateway",
                "http://user@gateway",
                "http://",
                "gateway",
                "//gateway",
                "http:/",
                "ftp://gateway",
            ],
        );
        draft.target.splice(0..0, before.bytes());
    }),
    ("target", |draft, rng| {
        let behind = any(
            rng,
            &[
                "#fragment",
                " ",
                "%0d%0aX:%20y",
                "%00",
                "\u{e9}",
                "\t",
                "/../..",
                "\\",
                "\"",
                "{}",
                "|",
                "<>",
                "^`",
                "?",
                "%2f",
                "%",
                "%zz",
            ],
        );
        draft.target.extend_from_slice(behind.as_bytes());
    }),
    ("first line", |draft, rng| match rng.u8(..4) {
        0 => draft.space = any(rng, &[&b"  "[..], b"\t", b"\x0b", b"", b" \t"]).to_vec(),
        1 => {
            draft.version = any(
                rng,
                &[
                    &b"HTTP/1.0"[..],
                    b"HTTP/0.9",
                    b"HTTP/2.0",
                    b"HTTP/1.2",
                    b"http/1.1",
                    b"HTTP/1.1 ",
                    b"",
                    b"HTTP/1.10",
                ],
            )
            .to_vec();
        }
        2 => {
            draft.method = any(
                rng,
                &[
                    &b"get"[..],
                    b"CONNECT",
                    b"TRACE",
                    b"OPTIONS",
                    b"G@T",
                    b"GE T",
                    b"",
                    b"DELETE",
                    b"PRI",
                ],
            )
            .to_vec();
        }
        _ => {
            draft.before = any(
                rng,
                &[
                    &b"\r\n"[..],
                    b"\n",
                    b"\r\n\r\n",
                    b" ",
                    b"\r",
                    b"\0",
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                ],
            )
            .to_vec();
        }
    }),
    ("HTTP/1.0", |draft, rng| {
        draft.version = b"HTTP/1.0".to_vec();
        if rng.bool() {
            draft.insert(b"Connection: keep-alive".to_vec(), rng);
        }
    }),
    ("connection", |draft, rng| {
        let options = any(
            rng,
            &[
                "close",
                "keep-alive",
                "close, keep-alive",
                "content-length",
                "transfer-encoding",
                "host",
                "x-request-id, authorization",
                "te",
                "Close ",
                "",
            ],
        );
        draft.insert(format!("Connection: {options}").into_bytes(), rng);
    }),
    ("upgrade", |draft, rng| {
        let (upgrade, more) = [
            ("h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
            ("websocket", "Sec-WebSocket-Version: 13"),
            ("x", "X: y"),
        ][rng.usize(..3)];
        draft.insert(format!("Upgrade: {upgrade}").into_bytes(), rng);
        draft.insert(b"Connection: Upgrade, HTTP2-Settings".to_vec(), rng);
        draft.insert(more.as_bytes().to_vec(), rng);
    }),
    ("expectation", |draft, rng| {
        let value = any(
            rng,
            &[
                "100-continue",
                "100-Continue",
                "200-ok",
                "",
                "100-continue, 100-continue",
            ],
        );
        draft.insert(format!("Expect: {value}").into_bytes(), rng);
    }),
    ("body of a read", |draft, rng| {
        draft.method = any(rng, &[&b"GET"[..], b"HEAD"]).to_vec();
        draft.target = format!("/v2/models/churn?{}", tag(draft.connection, draft.index)).into_bytes();
        draft.content = content(draft.connection, draft.index, rng);
        if !draft.chunked {
            draft.set(
                "content-length",
                format!("Content-Length: {}", draft.content.len()).into_bytes(),
            );
        }
    }),
    ("byte of the head", |draft, rng| {
        draft.strokes.push(stroke(true, rng));
    }),
    ("byte of the body", |draft, rng| {
        draft.strokes.push(stroke(false, rng));
    }),
    ("control character in a value", |draft, rng| {
        let odd = any(rng, &ODD);
        draft.insert([b"X-A: b", odd, b"c"].concat(), rng);
    }),
];

fn stroke(in_head: bool, rng: &mut Rng) -> Stroke {
    Stroke {
        in_head,
        at: rng.f64(),
        replace: rng.bool(),
        bytes: any(rng, &ODD).to_vec(),
    }
}
