//! HTTP/1.1 that two readers could read in two ways (RFC 9112; request smuggling), for every part that reads it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Values of `content-length` that are no single number.
pub const LENGTHS: [&str; 8] = ["+5", "-5", "0x5", "5 5", "5,6", "", "18446744073709551616", "5_0"];

/// Values of `transfer-encoding` other than a single `chunked`.
pub const TRANSFER_CODINGS: [&str; 7] = [
    "chunked\r\nTransfer-Encoding: chunked",
    "gzip, chunked",
    "chunked, chunked",
    "xchunked",
    "chunked;q=0",
    "identity",
    "\x0bchunked",
];

/// Lines of a head that are no header field.
pub const FIELDS: [&str; 7] = [
    "Content-Length : 5",
    "no colon",
    ": empty",
    "a: b\r\n folded",
    "a: \0",
    "a\x7f: b",
    "(x): y",
];

/// Beginnings of a chunked body that are no chunk.
pub const CHUNKS: [&str; 6] = [
    "0x5\r\nhello\r\n0\r\n\r\n",
    "-1\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "5_0\r\n",
    "11111111111111111\r\n",
    "5\r\nhelloXX0\r\n\r\n",
];

/// Bytes in, bytes out, until the other side closes. It may do so with a reset before it took everything, which is as good
/// an end.
pub async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let mut answer = Vec::new();
    let _written = stream.write_all(request).await;
    let _end = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends bytes and expects one answer with one of these statuses, then a close.
pub async fn refused(address: SocketAddr, request: &str, statuses: &[&str]) {
    let answer = raw(address, request.as_bytes()).await;
    let status = answer.split(' ').nth(1).unwrap_or("none");
    assert!(statuses.contains(&status), "{request:?}\n{answer}");
    assert_eq!(
        answer.matches("HTTP/1.1 ").count(),
        1,
        "one answer, then a close: {request:?}\n{answer}"
    );
}
