//! One HTTP/1.1 connection without pipelining: prepared bytes out, one whole answer in.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::Answer;
use crate::tally::Fault;

/// Read at once. A read that fills less than this spares the kernel a second one that would find nothing.
const READ_SIZE: usize = 64 << 10;

/// An open connection and the answer that it last read.
#[derive(Debug)]
pub(super) struct Http1<S> {
    pub(super) stream: S,
    /// The last answer: its head and what followed.
    buffer: Vec<u8>,
    /// The last body, if it came in chunks.
    joined: Vec<u8>,
}

/// What the head of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// Its bytes.
    length: usize,
    status: u16,
    body: Framing,
    closes: bool,
    retry_after: bool,
    json_length: Option<usize>,
}

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    /// At the end of the connection.
    Open,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http1<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::with_capacity(READ_SIZE),
            joined: Vec::new(),
        }
    }

    /// Sends a whole message and reads the whole answer; `true` beside it when the connection is of no further use.
    pub(super) async fn call(&mut self, message: &[u8]) -> Result<(Answer<'_>, bool), Fault> {
        self.buffer.clear();
        self.stream.write_all(message).await.map_err(|_| Fault::Lost)?;
        let head = loop {
            self.read().await?;
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
        };
        match head.body {
            Framing::Length(length) => {
                while self.buffer.len() < head.length + length {
                    self.read().await?;
                }
            }
            Framing::Chunked => {
                while !join_chunks(&self.buffer[head.length..], &mut self.joined)? {
                    self.read().await?;
                }
            }
            Framing::Open => while self.read().await.is_ok() {},
        }
        let body = match head.body {
            Framing::Length(length) => &self.buffer[head.length..head.length + length],
            Framing::Chunked => &self.joined,
            Framing::Open => &self.buffer[head.length..],
        };
        let answer = Answer {
            status: head.status,
            grpc_status: None,
            retry_after: head.retry_after,
            json_length: head.json_length,
            body,
        };
        Ok((answer, head.closes || head.body == Framing::Open))
    }

    async fn read(&mut self) -> Result<(), Fault> {
        self.buffer.reserve(READ_SIZE);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => Err(Fault::Lost),
            Ok(_) => Ok(()),
        }
    }
}

impl Head {
    /// The head at the start of `bytes`, `None` while it is incomplete.
    fn parse(bytes: &[u8]) -> Result<Option<Head>, Fault> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Fault::Malformed),
        };
        let mut head = Head {
            length,
            status: response.code.ok_or(Fault::Malformed)?,
            body: Framing::Open,
            closes: response.version == Some(0),
            retry_after: false,
            json_length: None,
        };
        for header in response.headers.iter() {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                head.body = Framing::Length(number(header.value)?);
            } else if is("transfer-encoding") {
                head.body = Framing::Chunked;
            } else if is("connection") {
                head.closes |= header.value.eq_ignore_ascii_case(b"close");
            } else if is("retry-after") {
                head.retry_after = true;
            } else if is("inference-header-content-length") {
                head.json_length = Some(number(header.value)?);
            }
        }
        if head.status == 204 || head.status == 304 {
            head.body = Framing::Length(0);
        }
        Ok(Some(head))
    }
}

fn number(value: &[u8]) -> Result<usize, Fault> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or(Fault::Malformed)
}

/// Whether all chunks are there; their bytes without the framing are then in `joined`.
fn join_chunks(mut bytes: &[u8], joined: &mut Vec<u8>) -> Result<bool, Fault> {
    joined.clear();
    loop {
        let (start, size) = match httparse::parse_chunk_size(bytes) {
            Ok(httparse::Status::Complete((start, size))) => (start, size as usize),
            Ok(httparse::Status::Partial) => return Ok(false),
            Err(_) => return Err(Fault::Malformed),
        };
        // Trailers are not expected of an answer over HTTP/1.1.
        let Some(chunk) = bytes.get(start..start + size + 2) else {
            return Ok(false);
        };
        if !chunk.ends_with(b"\r\n") {
            return Err(Fault::Malformed);
        }
        if size == 0 {
            return Ok(true);
        }
        joined.extend_from_slice(&chunk[..size]);
        bytes = &bytes[start + size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// A connection whose other end gives `pieces`, one write each, after the request.
    fn answering(pieces: &'static [&'static str]) -> Http1<DuplexStream> {
        let (near, mut far) = duplex(1 << 16);
        tokio::spawn(async move {
            let mut request = [0; 1_024];
            let _request = far.read(&mut request).await;
            for piece in pieces {
                let _client_gone = far.write_all(piece.as_bytes()).await;
                tokio::task::yield_now().await;
            }
        });
        Http1::new(near)
    }

    #[tokio::test]
    async fn an_answer_may_come_in_pieces() {
        let mut client = answering(&[
            "HTTP/1.1 429 x\r\nRetry-After: 1\r\nContent-",
            "Length: 5\r\n\r\nhe",
            "llo",
        ]);
        let (answer, closes) = client.call(b"GET /").await.expect("an answer");
        assert_eq!(
            (answer.status, answer.body, answer.retry_after),
            (429, &b"hello"[..], true)
        );
        assert!(!closes);
    }

    #[tokio::test]
    async fn chunks_are_joined() {
        let mut client = answering(&[
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\nabc",
            "\r\n2\r\nde\r\n0\r\n\r\n",
        ]);
        let (answer, closes) = client.call(b"GET /").await.expect("an answer");
        assert_eq!(answer.body, b"abcde");
        assert!(closes);
    }

    #[tokio::test]
    async fn a_connection_that_ends_early_is_lost() {
        let mut client = answering(&["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"]);
        assert_eq!(client.call(b"GET /").await.expect_err("it ends"), Fault::Lost);
        let mut client = answering(&["SSH-2.0\r\n\r\n"]);
        assert_eq!(
            client.call(b"GET /").await.expect_err("no HTTP"),
            Fault::Malformed
        );
    }
}
