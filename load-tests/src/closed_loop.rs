//! A closed loop over HTTP/1.1: each connection sends its next request when the last answer is complete.
//!
//! It shares the machine with what it measures, so it is lean: one thread, prepared bytes, no header map. A closed
//! loop slows down with the server and therefore hides queueing; it gives throughput and CPU per request, not tails.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Latencies are recorded from 1 µs to one minute with three significant digits.
const MAX_LATENCY_MICROS: u64 = 60_000_000;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Answers with status 200.
    pub ok: u64,
    /// Answers with another status.
    pub failed: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Request to complete answer, microseconds.
    pub latency_micros: Histogram<u64>,
}

impl Summary {
    /// Complete answers per second.
    pub fn requests_per_second(&self) -> f64 {
        (self.ok + self.failed) as f64 / self.elapsed.as_secs_f64()
    }
}

/// Sends `request` (a whole HTTP/1.1 message) over `connections` connections for `duration`.
///
/// # Errors
/// When a connection cannot be made, breaks, or answers with something that is not HTTP with a content length.
pub fn run(
    address: SocketAddr,
    request: &[u8],
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Summary> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let started = Instant::now();
        let until = started + duration;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let request = request.to_vec();
            tasks.spawn(async move { connection(address, &request, until).await });
        }
        let histogram = Histogram::new_with_max(MAX_LATENCY_MICROS, 3)?;
        let mut summary = Summary {
            ok: 0,
            failed: 0,
            elapsed: Duration::ZERO,
            latency_micros: histogram,
        };
        while let Some(outcome) = tasks.join_next().await {
            let part = outcome.context("a connection's task panicked")??;
            summary.ok += part.ok;
            summary.failed += part.failed;
            summary.latency_micros.add(&part.latency_micros)?;
        }
        summary.elapsed = started.elapsed();
        Ok(summary)
    })
}

async fn connection(address: SocketAddr, request: &[u8], until: Instant) -> anyhow::Result<Summary> {
    let mut stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(64 * 1024);
    let latency_micros = Histogram::new_with_max(MAX_LATENCY_MICROS, 3)?;
    let mut summary = Summary {
        ok: 0,
        failed: 0,
        elapsed: Duration::ZERO,
        latency_micros,
    };
    while Instant::now() < until {
        let sent = Instant::now();
        stream.write_all(request).await?;
        let status = read_answer(&mut stream, &mut buffer).await?;
        let micros = u64::try_from(sent.elapsed().as_micros()).unwrap_or(MAX_LATENCY_MICROS);
        summary.latency_micros.saturating_record(micros.max(1));
        if status == 200 {
            summary.ok += 1;
        } else {
            summary.failed += 1;
        }
    }
    Ok(summary)
}

/// Reads one whole answer and returns its status; the connection has no pipelining, so nothing is left over.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<u16> {
    buffer.clear();
    loop {
        let read = stream.read_buf(buffer).await?;
        ensure!(read > 0, "the server closed the connection");
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(buffer)? else {
            continue;
        };
        let status = response.code.context("a complete head has a status")?;
        let length = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let Some(length) = length else {
            bail!("status {status} without a content length")
        };
        let length: usize = std::str::from_utf8(length.value)?.trim().parse()?;
        while buffer.len() < head + length {
            let read = stream.read_buf(buffer).await?;
            ensure!(read > 0, "the server closed the connection within a body");
        }
        return Ok(status);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers every request on one connection with `answer`, in two pieces, until the client goes.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            while stream.read(&mut request).is_ok_and(|read| read > 0) {
                let (first, second) = answer.as_bytes().split_at(answer.len() - 2);
                if stream
                    .write_all(first)
                    .and_then(|()| stream.write_all(second))
                    .is_err()
                {
                    break;
                }
            }
        });
        address
    }

    #[test]
    fn answers_are_counted_by_status() {
        let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let address = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
        let summary = run(address, request, 1, Duration::from_millis(30)).expect("answers");
        assert!(summary.ok > 0 && summary.failed == 0);
        assert_eq!(summary.latency_micros.len(), summary.ok);
        let address = server("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno");
        let summary = run(address, request, 1, Duration::from_millis(30)).expect("answers");
        assert!(summary.failed > 0 && summary.ok == 0);
    }

    #[test]
    fn a_server_that_is_not_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        assert!(run(address, b"GET / HTTP/1.1\r\n\r\n", 1, Duration::from_millis(10)).is_err());
    }
}
