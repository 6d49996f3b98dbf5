//! Receives events and webhooks over HTTP, and lets a test refuse, hold or count them.
//!
//! ```no_run
//! # async fn example() {
//! use plumbline_testkit::event_sink::EventSink;
//! let sink = EventSink::refusing(3, 503).await;
//! // … have something sent to `sink.url()` …
//! let events = sink.accepted(1).await; // an event, not a delay
//! assert_eq!(events[0].header("content-type"), "application/cloudevents+json");
//! assert_eq!(sink.attempts_so_far(), 4);
//! # }
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use tokio::sync::watch;

use crate::predictor::{FakePredictor, Received, Reply};

/// A sink on loopback, port 0. It answers 202 to what it accepts, and ends when dropped.
#[derive(Debug)]
pub struct EventSink {
    server: FakePredictor,
    accepted: watch::Sender<Vec<Received>>,
}

impl EventSink {
    /// Accepts everything at once.
    pub async fn accepting() -> Self {
        Self::refusing(0, 500).await
    }

    /// Refuses the first `times` requests with `status`, then accepts.
    ///
    /// # Panics
    /// When `status` is none: a mistake in the test.
    pub async fn refusing(times: usize, status: u16) -> Self {
        let accepted = watch::Sender::default();
        let server = FakePredictor::answering(script(accepted.clone(), times, status)).await;
        Self { server, accepted }
    }

    /// Takes requests and answers none until [`Self::release`], then accepts.
    pub async fn holding() -> Self {
        let accepted = watch::Sender::default();
        let server = FakePredictor::holding(script(accepted.clone(), 0, 500)).await;
        Self { server, accepted }
    }

    /// As [`Self::accepting`], on an address that another sink had before.
    pub fn accepting_on(address: SocketAddr) -> Self {
        let accepted = watch::Sender::default();
        let server = FakePredictor::answering_on(address, script(accepted.clone(), 0, 500));
        Self { server, accepted }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Refuses the next `times` requests with `status`, whatever was said before.
    ///
    /// # Panics
    /// When `status` is none: a mistake in the test.
    pub fn refuse(&self, times: usize, status: u16) {
        self.server.script(script(self.accepted.clone(), times, status));
    }

    /// Answers what is held, and later requests at once.
    pub fn release(&self) {
        self.server.release();
    }

    /// Waits until `count` requests have been accepted, and returns all that have.
    pub async fn accepted(&self, count: usize) -> Vec<Received> {
        let mut accepted = self.accepted.subscribe();
        let reached = accepted.wait_for(|accepted| accepted.len() >= count).await;
        reached.expect("the sender lives as long as self").clone()
    }

    /// How many have been accepted so far.
    pub fn accepted_so_far(&self) -> usize {
        self.accepted.borrow().len()
    }

    /// Waits until `count` requests have arrived, accepted or not.
    pub async fn attempts(&self, count: usize) -> Vec<Received> {
        self.server.received(count).await
    }

    /// How many have arrived so far.
    pub fn attempts_so_far(&self) -> usize {
        self.server.received_so_far()
    }

    /// Stops listening; the port refuses from then on.
    pub async fn stop(self) -> SocketAddr {
        self.server.stop().await
    }
}

fn script(
    accepted: watch::Sender<Vec<Received>>,
    times: usize,
    status: u16,
) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    let status = StatusCode::from_u16(status).expect("a status");
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(times));
    move |request| {
        let order = std::sync::atomic::Ordering::Relaxed;
        let refused = left
            .fetch_update(order, order, |left| left.checked_sub(1))
            .is_ok();
        if refused {
            return Reply::status(status);
        }
        accepted.send_modify(|accepted| accepted.push(request.clone()));
        Reply::status(StatusCode::ACCEPTED)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Request;
    use http_body_util::Full;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpStream;

    use super::*;

    async fn post(url: String, body: &'static str) -> StatusCode {
        let address: SocketAddr = url
            .strip_prefix("http://")
            .expect("a URL")
            .parse()
            .expect("an address");
        let stream = TcpStream::connect(address).await.expect("connected");
        let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("handshake");
        tokio::spawn(connection);
        let request = Request::post("/")
            .header("host", "sink")
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        client.send_request(request).await.expect("an answer").status()
    }

    #[tokio::test]
    async fn refusals_are_attempts_but_not_accepted() {
        let sink = EventSink::refusing(2, 503).await;
        for expected in [503, 503, 202] {
            assert_eq!(post(sink.url(), "event").await.as_u16(), expected);
        }
        assert_eq!(
            (sink.attempts(3).await.len(), sink.accepted(1).await.len()),
            (3, 1)
        );
        sink.refuse(1, 400);
        assert_eq!(post(sink.url(), "event").await.as_u16(), 400);
        assert_eq!(sink.accepted_so_far(), 1);
    }

    #[tokio::test]
    async fn a_held_event_is_an_attempt_until_it_is_released() {
        let sink = EventSink::holding().await;
        let answer = tokio::spawn(post(sink.url(), "event"));
        assert_eq!(&sink.attempts(1).await[0].body[..], b"event");
        assert_eq!(sink.accepted_so_far(), 0);
        sink.release();
        assert_eq!(answer.await.expect("the task ends"), StatusCode::ACCEPTED);
        assert_eq!(sink.accepted(1).await.len(), 1);
        let address = sink.stop().await;
        assert_eq!(EventSink::accepting_on(address).accepted_so_far(), 0);
    }
}
