//! The payload log: requests and answers as CloudEvents, in the form of KServe's logger.
//!
//! A share of the exchanges is [begun](Logger::begin); when one has ended, what was kept of its two bodies goes into a
//! [`queue`] with a byte budget of its own, and tasks [send](sending) it. A sink that is slow or away costs events, which
//! are counted, and never memory or time of an answer. Streams of messages are not logged.

mod event;
mod queue;
mod sending;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{request, response};
use plumbline_inference_protocol::GrpcCode;
use plumbline_service::RequestId;

pub(crate) use event::Source;
pub(crate) use sending::Sending;

use crate::metrics::LoggerMetrics;
use event::{Event, Kind, Part};
use queue::Queue;

/// A longer `ce-id` is not taken over.
const MAX_ID_BYTES: usize = 128;

/// Which sides of an exchange are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogMode {
    /// Requests and answers.
    All,
    /// Requests only.
    Request,
    /// Answers only.
    Response,
}

impl plumbline_service::config::ParseSetting for LogMode {
    fn parse_setting(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "request" => Ok(Self::Request),
            "response" => Ok(Self::Response),
            _ => Err("expected all, request or response".to_owned()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Logger {
    mode: LogMode,
    /// Share of the exchanges, in `[0, 1]`.
    sample: f64,
    queue: Arc<Queue>,
    metrics: LoggerMetrics,
}

/// An exchange under way that will be logged.
#[derive(Debug)]
pub(crate) struct Logged {
    id: HeaderValue,
    request: Part,
    response: Option<Part>,
}

impl Logger {
    /// A log of a share of `sample`, of which `max_bytes` wait at most.
    pub(crate) fn new(mode: LogMode, sample: f64, max_bytes: usize, metrics: LoggerMetrics) -> Self {
        Self {
            mode,
            sample,
            queue: Arc::new(Queue::new(max_bytes, metrics.clone())),
            metrics,
        }
    }

    /// The task that sends what is offered.
    pub(crate) fn sending(&self, sink: &http::Uri, source: Source) -> Result<Sending, String> {
        Sending::new(sink, source, Arc::clone(&self.queue), self.metrics.clone())
    }

    /// Decides whether the exchange that begins with `head` is logged.
    pub(crate) fn begin(&self, head: &request::Parts) -> Option<Box<Logged>> {
        if self.sample < 1.0 && fastrand::f64() >= self.sample {
            return None;
        }
        Some(Box::new(Logged {
            id: id_of(&head.headers),
            request: Part::of(&head.headers, None),
            response: None,
        }))
    }

    /// Takes an exchange of `model` that has ended, with its request as far as it was kept.
    pub(crate) fn offer(&self, logged: Logged, model: &str, request: Option<Bytes>, answer: Answer) {
        let Logged {
            id,
            request: asked,
            response: answered,
        } = logged;
        let model: Arc<str> = model.into();
        if self.mode != LogMode::Response {
            self.put(request, |body| Event {
                id: id.clone(),
                kind: Kind::Request,
                model: Arc::clone(&model),
                part: asked,
                body,
                grpc_status: None,
            });
        }
        let Some(part) = answered.filter(|_| self.mode != LogMode::Request) else {
            return;
        };
        let Answer::Whole { body, grpc_status } = answer else {
            self.metrics.offered.inc();
            self.metrics.incomplete.inc();
            return;
        };
        self.put(body, |body| Event {
            id,
            kind: Kind::Response,
            model,
            part,
            body,
            grpc_status,
        });
    }

    fn put(&self, body: Option<Bytes>, event: impl FnOnce(Bytes) -> Event) {
        self.metrics.offered.inc();
        match body {
            Some(body) => self.queue.put(event(body)),
            None => self.metrics.not_kept.inc(),
        }
    }
}

/// What the model server answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Nothing, or it broke off, or the client left before its end.
    Incomplete,
    /// All of it; its body as far as it was kept.
    Whole {
        body: Option<Bytes>,
        /// The outcome of a gRPC call.
        grpc_status: Option<GrpcCode>,
    },
}

impl Logged {
    /// The answer's head has come.
    pub(crate) fn response_head(&mut self, head: &response::Parts) {
        self.response = Some(Part::of(&head.headers, Some(head.status)));
    }
}

/// `ce-id` as KServe's logger takes it, else `x-request-id`, else a new one: the same for both events of an exchange.
fn id_of(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get("ce-id").map(HeaderValue::as_bytes);
    // Copied, as a value may be a slice of the connection's whole read buffer.
    let usable = |id: &[u8]| {
        HeaderValue::from_bytes(id)
            .ok()
            .filter(|_| (1..=MAX_ID_BYTES).contains(&id.len()))
    };
    given.and_then(usable).unwrap_or_else(|| {
        let id = RequestId::of(headers).map(RequestId::into_header_value);
        let copied = id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok());
        copied.unwrap_or_else(|| RequestId::random().into_header_value())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(headers: &[(&'static str, &'static str)]) -> HeaderValue {
        let headers = headers.iter().map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        id_of(&headers.collect())
    }

    #[test]
    fn an_exchange_keeps_the_id_that_the_client_gave() {
        assert_eq!(id(&[("ce-id", "17"), ("x-request-id", "18")]), "17");
        assert_eq!(id(&[("x-request-id", "18")]), "18");
        assert_eq!(id(&[("ce-id", ""), ("x-request-id", "18")]), "18");
        assert_eq!(id(&[]).len(), 32);
        assert_ne!(id(&[]), id(&[]));
    }
}
