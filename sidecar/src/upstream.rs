//! The one server behind the sidecar: what is sent to it, for how long, and whether it is ready.

mod deadline;
mod probe;

use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, Version};
use http_body::Body as _;
use plumbline_service::ClientTls;
use plumbline_service::upstream::{
    ConnectionMetrics, Options, Protocol, SendError, Target, Upstream as Pool, UpstreamError,
};

use deadline::Timers;
pub(crate) use probe::watch_readiness;
use tokio::sync::Notify;

use crate::config::Config;
use crate::metrics::UpstreamMetrics;
use crate::tee::RequestBody;

/// The body of an answer as it comes in.
pub(crate) type UpstreamBody = plumbline_service::upstream::UpstreamBody<RequestBody>;

/// Why an exchange with the model server came to no answer; the text is for the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot connect to the model server")]
    Connect(#[source] UpstreamError),
    #[error("the model server did not answer within {after:?}")]
    Timeout { after: Duration },
    #[error("the connection to the model server broke")]
    Broken(#[source] UpstreamError),
    #[error("the request's body ended early")]
    Client(#[source] UpstreamError),
}

impl Failure {
    /// The kind, for a span.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Connect(_) => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::Broken(_) => "closed",
            Self::Client(_) => "request_body",
        }
    }
}

/// An answer whose head is complete.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<UpstreamBody>,
    pub(crate) times: AnswerTimes,
}

/// Between these, an exchange was with the model server and its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerTimes {
    /// The request was handed to the connections.
    pub(crate) sent: Instant,
    /// The head of the answer was there.
    pub(crate) received: Instant,
}

/// The model server, through its connections.
#[derive(Debug)]
pub(crate) struct Upstream {
    pool: Pool<RequestBody>,
    answer_timeout: Duration,
    timers: Timers,
    metrics: UpstreamMetrics,
    /// Between probes while it is ready.
    probe_interval: Duration,
    /// A connection could not be opened.
    connect_failed: Notify,
}

impl Upstream {
    /// `tls` is for a target under TLS.
    pub(crate) fn new(config: &Config, tls: Option<ClientTls>, metrics: UpstreamMetrics) -> Self {
        let options = Options {
            tls,
            connect_timeout: config.upstream_connect_timeout,
            idle_timeout: config.upstream_idle_timeout,
            metrics: ConnectionMetrics {
                opened: metrics.connections.clone(),
                ..ConnectionMetrics::default()
            },
            ..Options::default()
        };
        Self {
            pool: Pool::new(config.upstream.clone(), options),
            answer_timeout: config.upstream_timeout,
            timers: Timers::default(),
            metrics,
            probe_interval: config.upstream_probe,
            connect_failed: Notify::new(),
        }
    }

    /// Where it is.
    pub(crate) fn target(&self) -> &Target {
        self.pool.target()
    }

    /// Resolves when a connection cannot be opened, or could not since this was last asked.
    async fn connect_failed(&self) {
        self.connect_failed.notified().await;
    }

    /// What is counted between the sidecar and the model server.
    pub(crate) fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// Sends `request` in the HTTP version that it came in.
    ///
    /// The time for the answer's head is counted from the last progress of the request's body, so that neither a slow
    /// upload nor a stream that is open in both directions runs into it. Dropping the future cancels the exchange.
    pub(crate) async fn send(&self, request: Request<RequestBody>) -> Result<Answer, Failure> {
        let progress = request.body().progress();
        let sent = Instant::now();
        let mut exchange = std::pin::pin!(self.exchange(request));
        let mut timer = self.timers.take();
        let mut deadline = tokio::time::Instant::from_std(sent) + self.answer_timeout;
        let mut frames = progress.frames();
        let outcome = std::future::poll_fn(|context| {
            if let Poll::Ready(outcome) = exchange.as_mut().poll(context) {
                return Poll::Ready(outcome.map_err(Failure::from));
            }
            loop {
                ready!(timer.poll_until(deadline, context));
                let before = std::mem::replace(&mut frames, progress.frames());
                if progress.is_ended() && frames == before {
                    return Poll::Ready(Err(Failure::Timeout {
                        after: self.answer_timeout,
                    }));
                }
                deadline = tokio::time::Instant::now() + self.answer_timeout;
            }
        });
        let response = outcome.await.inspect_err(|failure| {
            if let Failure::Connect(_) = failure {
                self.connect_failed.notify_one();
            }
        })?;
        let times = AnswerTimes {
            sent,
            received: Instant::now(),
        };
        Ok(Answer { response, times })
    }

    /// A kept connection may have been closed by the other side a moment ago. The connections send again what they had
    /// not begun to send; here a request follows that may have been sent but is safe to repeat (RFC 9110 §9.2.2) and
    /// has no body. Anything else may have been processed and is not sent twice.
    async fn exchange(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, SendError<RequestBody>> {
        let protocol = if request.version() == Version::HTTP_2 {
            Protocol::Http2
        } else {
            Protocol::Http1
        };
        let repeat = repeatable(&request);
        match (self.pool.send(protocol, request).await, repeat) {
            (
                Err(SendError {
                    error: UpstreamError::Closed { reused: true, .. },
                    ..
                }),
                Some(again),
            ) => {
                self.metrics.retries.inc();
                self.pool.send(protocol, again).await
            }
            (outcome, _) => outcome,
        }
    }
}

/// A copy to send again, when the request is idempotent and has no body.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let idempotent = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !idempotent || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    copy.headers_mut().clone_from(request.headers());
    Some(copy)
}

impl From<SendError<RequestBody>> for Failure {
    fn from(failed: SendError<RequestBody>) -> Self {
        match failed.error {
            error if error.is_connect() => Self::Connect(error),
            error @ UpstreamError::RequestBody { .. } => Self::Client(error),
            error => Self::Broken(error),
        }
    }
}
