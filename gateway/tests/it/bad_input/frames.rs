//! HTTP/2 by the frame (RFC 9113), for what no client library sends.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::PATIENCE;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// Of `RST_STREAM` and GOAWAY.
    pub(super) fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block whose fields are written out (RFC 7541 §6.2.2), in this order.
pub(super) fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            bytes.push(u8::try_from(text.len()).expect("short"));
            assert!(text.len() < 127, "short");
            bytes.extend(*text);
        }
    }
    bytes
}

/// The head of a request for a prediction, and more fields.
pub(super) fn predict(more: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut fields: Vec<(&[u8], &[u8])> = vec![
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":authority", b"gateway"),
        (b":path", b"/v2/models/churn/infer"),
    ];
    fields.extend(more);
    block(&fields)
}

/// A connection whose preface has been sent.
pub(super) struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr, settings: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("an option of the socket");
        let hello = [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            &frame(SETTINGS, 0, 0, settings),
        ]
        .concat();
        stream.write_all(&hello).await.expect("sent");
        let bytes = Vec::new();
        Self { stream, bytes }
    }

    /// Sends what the other side takes; it may close before it has taken everything.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        let _closed = self.stream.write_all(bytes).await;
    }

    /// Sends while it takes what comes, until either is over.
    pub(super) async fn flood(self, bytes: &[u8]) -> Vec<Frame> {
        let (mut read, mut write) = self.stream.into_split();
        let reading = tokio::spawn(async move {
            let mut bytes = self.bytes;
            let _reset = read.read_to_end(&mut bytes).await;
            bytes
        });
        let sent = tokio::time::timeout(PATIENCE, write.write_all(bytes)).await;
        let _closed = sent.expect("the flood is taken or refused");
        let _closed = write.shutdown().await;
        let read = tokio::time::timeout(PATIENCE, reading).await;
        let mut bytes = read.expect("the connection ends").expect("the task ends");
        std::iter::from_fn(|| take(&mut bytes)).collect()
    }

    /// The next frame that is not about settings; nothing when the connection has ended.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            while let Some(frame) = take(&mut self.bytes) {
                if !matches!(frame.kind, SETTINGS | WINDOW_UPDATE) {
                    return Some(frame);
                }
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.bytes)).await;
            match read.expect("an answer or an end") {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }
}

fn take(bytes: &mut Vec<u8>) -> Option<Frame> {
    let head = bytes.get(..9)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (kind, flags) = (head[3], head[4]);
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let payload = bytes.get(9..9 + length)?.to_vec();
    bytes.drain(..9 + length);
    Some(Frame {
        kind,
        flags,
        stream,
        payload,
    })
}

/// The error that the other side ended the connection with.
pub(super) fn goaway(frames: &[Frame]) -> Option<u32> {
    let mut goaways = frames.iter().filter(|frame| frame.kind == GOAWAY);
    goaways.next_back().map(Frame::error)
}
