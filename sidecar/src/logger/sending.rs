//! Sends payload events to the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use plumbline_service::config::ParseSetting as _;
use plumbline_service::upstream::{Options, Protocol, Target, Upstream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::event::{Event, Source};
use super::queue::Queue;
use crate::metrics::LoggerMetrics;

/// Events that are sent at a time.
const SENDERS: usize = 4;
/// A sink that needs longer for one event has not taken it.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often an event is tried; then it is dropped, as later ones wait behind it.
const ATTEMPTS: u32 = 3;
/// The second attempt comes within this time, the third within twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// At the end of the process, what waits gets this long.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest answer of the sink that is read, so that its connection can be used again.
const ANSWER_LIMIT: usize = 64 << 10;

/// The task that sends.
#[derive(Debug)]
pub(crate) struct Sending {
    sink: Upstream<Full<Bytes>>,
    path: Uri,
    source: Source,
    queue: Arc<Queue>,
    metrics: LoggerMetrics,
    /// The last event was not taken; told when it begins and when it ends.
    failing: AtomicBool,
}

/// What became of one attempt.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Sent,
    /// The sink will never take it.
    Refused,
    /// Not now.
    Failed,
}

impl Sending {
    pub(super) fn new(
        url: &Uri,
        source: Source,
        queue: Arc<Queue>,
        metrics: LoggerMetrics,
    ) -> Result<Self, String> {
        let scheme = url.scheme_str().unwrap_or("http");
        let authority = url.authority().map_or("", |authority| authority.as_str());
        let target = Target::parse_setting(&format!("{scheme}://{authority}"))?;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            sink: Upstream::new(target, Options::default()),
            path: path.parse().map_err(|_| "expected a path".to_owned())?,
            source,
            queue,
            metrics,
            failing: AtomicBool::new(false),
        })
    }

    /// Sends until `stop`, then what is left, for a moment.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            let this = Arc::clone(&this);
            senders.spawn(async move { this.send_all().await });
        }
        stop.cancelled().await;
        this.queue.close();
        let all_sent = async { while senders.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, all_sent).await.is_err() {
            senders.shutdown().await;
            let left = this.queue.clear();
            tracing::warn!(events = left, "payload events were not sent before the end");
        }
    }

    async fn send_all(&self) {
        while let Some(taken) = self.queue.next().await {
            let outcome = self.send(&taken.event).await;
            self.tell(&outcome);
            taken.settle(match outcome {
                Attempt::Sent => &self.metrics.sent,
                Attempt::Refused => &self.metrics.refused,
                Attempt::Failed => &self.metrics.failed,
            });
        }
    }

    fn tell(&self, outcome: &Attempt) {
        let failing = *outcome != Attempt::Sent;
        if self.failing.swap(failing, Ordering::Relaxed) == failing {
            return;
        }
        let sink = self.sink.target();
        if failing {
            tracing::warn!(%sink, ?outcome, "the payload log's sink does not take events; they are dropped and counted");
        } else {
            tracing::info!(%sink, "the payload log's sink takes events again");
        }
    }

    async fn send(&self, event: &Event) -> Attempt {
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS {
            match self.attempt(event).await {
                Attempt::Failed => {}
                settled => return settled,
            }
            // Full jitter: replicas that lost the same sink do not return together.
            tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
            pause *= 2;
        }
        self.attempt(event).await
    }

    async fn attempt(&self, event: &Event) -> Attempt {
        let request = event.request(&self.path, &self.source);
        let asked = async {
            let response = self.sink.send(Protocol::Http1, request).await.ok()?;
            let status = response.status();
            let _body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
            Some(status)
        };
        match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Some(status)) => judge(status),
            Ok(None) | Err(_) => Attempt::Failed,
        }
    }
}

fn judge(status: StatusCode) -> Attempt {
    match status {
        taken if taken.is_success() => Attempt::Sent,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Attempt::Failed,
        refused if refused.is_client_error() => Attempt::Refused,
        _ => Attempt::Failed,
    }
}
