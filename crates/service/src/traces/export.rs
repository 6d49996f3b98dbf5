//! From ended spans to a collector.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use prometheus::IntCounter;
use prost::Message as _;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::message::{ExportTraceServiceResponse, Resource, Scope, request};
use super::span::Record;
use super::{TraceError, TraceExport};
use crate::metrics::Metrics;
use crate::upstream::{Options, Protocol, Upstream};
use crate::{ClientTls, Part, error_chain};

/// A collector that does not take a batch is asked this often; meanwhile the queue fills.
const MAX_TRIES: u32 = 5;
/// The first retry comes within this time, each further one within twice the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// As long as a collector may ask to be left alone.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);
/// Time for what is left when the process ends.
const FLUSH: Duration = Duration::from_secs(5);
/// What an answer may have to say.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The queue of ended spans. Cloned freely.
#[derive(Clone, Debug)]
pub(super) struct Exporter(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    spans: mpsc::Sender<Box<Record>>,
    refused: IntCounter,
    finishing: watch::Sender<bool>,
    /// Closed when the thread has ended.
    finished: watch::Receiver<()>,
}

impl Exporter {
    pub(super) fn start(settings: &TraceExport, part: Part, metrics: &Metrics) -> Result<Self, TraceError> {
        let tls = settings.tls.clone().map(ClientTls::load).transpose()?;
        let exported = metrics.counter(
            "plumbline_trace_spans_exported_total",
            "Spans that the collector took.",
        );
        let dropped = metrics.counter_vec(
            "plumbline_trace_spans_dropped_total",
            "Spans that the collector never got or did not take, by reason.",
            &["reason"],
        );
        let dropped = |reason| dropped.with_label_values(&[reason]);
        let (spans, queued) = mpsc::channel(settings.max_queue);
        let (finishing, is_finishing) = watch::channel(false);
        let (finished_when_dropped, finished) = watch::channel(());
        let queue_full = dropped("queue_full");
        let sending = Sending {
            queued,
            settings: settings.clone(),
            resource: resource(settings, part),
            scope: Scope::of(part),
            finishing: is_finishing,
            exported,
            unreachable: dropped("unreachable"),
            rejected: dropped("rejected"),
            end: None,
            failing: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name(format!("{}-traces", part.name))
            .spawn(move || {
                runtime.block_on(sending.run(tls));
                drop(finished_when_dropped);
            })?;
        Ok(Self(Arc::new(Queue {
            spans,
            refused: queue_full,
            finishing,
            finished,
        })))
    }

    /// Never waits.
    pub(super) fn offer(&self, record: Box<Record>) {
        match self.0.spans.try_send(record) {
            Ok(()) => {}
            // Closed: the process ends, and has waited for its spans.
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => self.0.refused.inc(),
        }
    }

    pub(super) async fn finish(&self) {
        self.0.finishing.send_replace(true);
        let mut finished = self.0.finished.clone();
        // A little more than the thread takes itself, so that it can say what is lost.
        if timeout(FLUSH + Duration::from_secs(1), finished.changed())
            .await
            .is_err()
        {
            tracing::warn!("spans still unsent at the end");
        }
    }
}

fn resource(settings: &TraceExport, part: Part) -> Resource {
    let (mut name, mut attributes) = (settings.service_name.clone(), Vec::new());
    for (key, value) in &settings.resource {
        match key.as_str() {
            "service.name" => drop(name.get_or_insert_with(|| value.clone())),
            _ => attributes.push((key.clone(), value.clone())),
        }
    }
    let name = name.unwrap_or_else(|| format!("plumbline-{}", part.name));
    attributes.push(("service.name".to_owned(), name));
    if !settings.resource.iter().any(|(key, _)| key == "service.version") {
        attributes.push(("service.version".to_owned(), part.version.to_owned()));
    }
    Resource::of(attributes)
}

/// The thread's side.
struct Sending {
    queued: mpsc::Receiver<Box<Record>>,
    settings: TraceExport,
    resource: Resource,
    scope: Scope,
    finishing: watch::Receiver<bool>,
    exported: IntCounter,
    unreachable: IntCounter,
    rejected: IntCounter,
    /// When to give up, once `finishing` is seen.
    end: Option<Instant>,
    /// Told once, until it works again.
    failing: bool,
}

/// What became of one export.
enum Sent {
    /// All but so many of them.
    Taken(u64),
    Refused(String),
    /// Not now, why, and when if it says.
    Later(String, Option<Duration>),
}

impl Sending {
    async fn run(mut self, tls: Option<ClientTls>) {
        let options = Options {
            tls,
            ..Options::default()
        };
        let collector = Upstream::new(self.settings.target.clone(), options);
        loop {
            let batch = self.batch().await;
            if batch.is_empty() {
                return;
            }
            let count = batch.len() as u64;
            let body = request(&self.resource, &self.scope, &batch)
                .encode_to_vec()
                .into();
            drop(batch);
            self.deliver(&collector, body, count).await;
        }
    }

    /// The next spans: as many as fit, or those that came within the delay. Empty when all are gone and none can come.
    async fn batch(&mut self) -> Vec<Box<Record>> {
        let max = self.settings.max_batch;
        let mut batch = Vec::new();
        let mut late = None;
        while batch.len() < max {
            let delay = async {
                match late {
                    Some(late) => sleep_until(late).await,
                    None => std::future::pending().await,
                }
            };
            let left = max - batch.len();
            tokio::select! {
                biased;
                count = self.queued.recv_many(&mut batch, left) => {
                    if count == 0 {
                        break;
                    }
                    late.get_or_insert_with(|| Instant::now() + self.settings.delay);
                }
                // An error means that nobody is left to ask for an end.
                _ = self.finishing.wait_for(|finishing| *finishing), if !self.queued.is_closed() => self.queued.close(),
                () = delay => break,
            }
        }
        batch
    }

    async fn deliver(&mut self, collector: &Upstream<Full<Bytes>>, body: Bytes, count: u64) {
        let mut pause = FIRST_RETRY;
        for attempt in 1.. {
            let end = self.end();
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let wait = left.map_or(self.settings.timeout, |left| left.min(self.settings.timeout));
            let sent = match timeout(wait, self.send(collector, body.clone())).await {
                Ok(sent) => sent,
                Err(_elapsed) => Sent::Later(format!("no answer within {wait:?}"), None),
            };
            match sent {
                Sent::Taken(rejected) => {
                    self.exported.inc_by(count.saturating_sub(rejected));
                    self.rejected.inc_by(rejected.min(count));
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("spans are exported again");
                    }
                    return;
                }
                Sent::Refused(reason) => {
                    self.fails(&reason);
                    self.rejected.inc_by(count);
                    return;
                }
                Sent::Later(reason, told) => {
                    self.fails(&reason);
                    // Full jitter: replicas that lost the same collector do not return together.
                    let retry = told.unwrap_or_else(|| pause.mul_f64(fastrand::f64()));
                    pause *= 2;
                    let is_too_late = end.is_some_and(|end| Instant::now() + retry >= end);
                    if attempt >= MAX_TRIES || is_too_late {
                        self.unreachable.inc_by(count);
                        return;
                    }
                    let is_finishing = *self.finishing.borrow();
                    tokio::select! {
                        () = sleep(retry) => {}
                        _ = self.finishing.wait_for(|finishing| *finishing), if !is_finishing => {}
                    }
                }
            }
        }
    }

    /// When the process ends, if it is about to.
    fn end(&mut self) -> Option<Instant> {
        if self.end.is_none() && *self.finishing.borrow() {
            self.end = Some(Instant::now() + FLUSH);
        }
        self.end
    }

    fn fails(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            let collector = self.settings.target.to_string();
            tracing::warn!(collector, error = reason, "spans not exported");
        }
    }

    async fn send(&self, collector: &Upstream<Full<Bytes>>, body: Bytes) -> Sent {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.settings.path.clone().into();
        *request.headers_mut() = self.settings.headers.clone();
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        request.headers_mut().insert(CONTENT_TYPE, protobuf);
        let response = match collector.send(Protocol::Http1, request).await {
            Ok(response) => response,
            Err(failed) => return Sent::Later(error_chain(&failed), None),
        };
        let (status, retry) = (response.status(), retry_after(response.headers()));
        // To its end, so that the connection can be used again.
        let answer = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await;
        match status {
            status if status.is_success() => {
                let answer = answer.ok().map(http_body_util::Collected::to_bytes);
                let answer = answer.and_then(|answer| ExportTraceServiceResponse::decode(answer).ok());
                let partial = answer.and_then(|answer| answer.partial_success);
                Sent::Taken(partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0)))
            }
            // The statuses that the protocol has for it.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Sent::Later(status.to_string(), retry),
            other => Sent::Refused(other.to_string()),
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}
