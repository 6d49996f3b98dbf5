//! Sends what is in the outbox until it is taken.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use plumbline_service::config::ParseSetting as _;
use plumbline_service::upstream::{Options, Protocol, Target, Upstream};
use tokio_util::sync::CancellationToken;

use super::outbox::{Numbered, Outbox};
use super::spool::Keeper;
use crate::metrics::EventMetrics;

/// Where the worker takes events, when only its base URL is given.
const PATH: &str = "/api/v1/events";
/// A worker that needs longer to store an event is tried again.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The first retry comes within this time, each further one within twice the last.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// Retries come at least this often, whatever has happened.
const SLOWEST_RETRY: Duration = Duration::from_secs(30);
/// At the end of the process, what waits gets this long, and the disk as long again.
const FAREWELL: Duration = Duration::from_secs(2);

/// The worker as `--events-to` names it: the whole URL, or the base that [`PATH`] follows.
///
/// # Errors
/// What is wrong with the URL.
pub(crate) fn endpoint(url: &Uri) -> Result<(Target, Uri), String> {
    let base = format!(
        "{}://{}",
        url.scheme_str().unwrap_or("http"),
        url.authority().map_or("", |a| a.as_str())
    );
    let target = Target::parse_setting(&base)?;
    let path = match url.path_and_query() {
        Some(path) if path.as_str() != "/" => path.as_str(),
        Some(_) | None => PATH,
    };
    Ok((target, path.parse().map_err(|_| "expected a path".to_owned())?))
}

/// The task that delivers.
#[derive(Debug)]
pub(crate) struct Delivery {
    worker: Upstream<Full<Bytes>>,
    path: Uri,
    outbox: Arc<Outbox>,
    /// Keeps what waits for the next process; none without a spool.
    keeper: Option<Keeper>,
    metrics: EventMetrics,
}

/// What became of one attempt.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Delivered,
    /// The worker will never take it.
    Refused(StatusCode),
    /// Not now.
    Later(String),
}

impl Delivery {
    pub(crate) fn new(
        (target, path): (Target, Uri),
        outbox: Arc<Outbox>,
        keeper: Option<Keeper>,
        metrics: EventMetrics,
    ) -> Self {
        Self {
            worker: Upstream::new(target, Options::default()),
            path,
            outbox,
            keeper,
            metrics,
        }
    }

    /// Delivers until `stop`, then what is left, for a moment. What is left after that waits in the spool.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.deliver_all()).await;
        let _elapsed = tokio::time::timeout(FAREWELL, async {
            while let Some(event) = self.outbox.take() {
                self.deliver(event).await;
            }
        })
        .await;
        let kept = match self.keeper.take() {
            Some(keeper) => tokio::time::timeout(FAREWELL, keeper.finish()).await.unwrap_or(0),
            None => 0,
        };
        let left = self.outbox.len();
        if left > 0 {
            tracing::warn!(events = left, kept, "events were not delivered before the end");
        }
    }

    async fn deliver_all(&self) {
        loop {
            self.deliver(self.outbox.next().await).await;
        }
    }

    /// Tries one event until the worker takes or refuses it. Later ones wait: they would meet the same worker.
    async fn deliver(&self, event: Numbered) {
        let mut pause = FIRST_RETRY;
        let mut attempts = 0_u32;
        loop {
            match self.attempt(&event).await {
                Attempt::Delivered => {
                    self.outbox.delivered(&event);
                    tracing::info!(
                        event.id = event.event.id,
                        attempts = attempts + 1,
                        "event delivered"
                    );
                    return;
                }
                Attempt::Refused(status) => {
                    self.outbox.refused(&event);
                    tracing::error!(event.id = event.event.id, %status, "the worker refuses the event; it is dropped");
                    return;
                }
                Attempt::Later(reason) => {
                    self.metrics.retried.inc();
                    attempts += 1;
                    if attempts == 1 {
                        tracing::warn!(event.id = event.event.id, reason, "event not delivered yet");
                    }
                    // Full jitter: replicas that lost the same worker do not return together.
                    tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
                    pause = (pause * 2).min(SLOWEST_RETRY);
                }
            }
        }
    }

    async fn attempt(&self, event: &Numbered) -> Attempt {
        let mut request = Request::new(Full::new(event.event.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        let json = HeaderValue::from_static("application/cloudevents+json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        match tokio::time::timeout(TIMEOUT, self.worker.send(Protocol::Http1, request)).await {
            Ok(Ok(response)) => judge(response.status()),
            Ok(Err(failed)) => Attempt::Later(plumbline_service::error_chain(&failed)),
            Err(_elapsed) => Attempt::Later(format!("no answer within {TIMEOUT:?}")),
        }
    }
}

fn judge(status: StatusCode) -> Attempt {
    match status {
        taken if taken.is_success() => Attempt::Delivered,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Attempt::Later(status.to_string()),
        refused if refused.is_client_error() => Attempt::Refused(refused),
        other => Attempt::Later(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_gets_the_path_and_a_whole_one_keeps_its_own() {
        for (url, path) in [
            ("http://worker:8090", "/api/v1/events"),
            ("http://worker:8090/", "/api/v1/events"),
            ("http://worker:8090/hooks/drift?key=1", "/hooks/drift?key=1"),
        ] {
            let (target, found) = endpoint(&url.parse().expect("a URL")).expect("an endpoint");
            assert_eq!(
                (target.to_string().as_str(), found.to_string().as_str()),
                ("http://worker:8090", path)
            );
        }
    }

    #[test]
    fn only_what_will_never_be_taken_is_dropped() {
        let judge = |status| judge(StatusCode::from_u16(status).expect("a status"));
        assert_eq!(
            [judge(200), judge(202), judge(204)],
            [(); 3].map(|()| Attempt::Delivered)
        );
        for later in [301, 408, 429, 500, 503] {
            assert!(matches!(judge(later), Attempt::Later(_)), "{later}");
        }
        for never in [400, 401, 404, 413, 422] {
            assert!(matches!(judge(never), Attempt::Refused(_)), "{never}");
        }
    }
}
