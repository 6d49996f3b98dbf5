//! Where CloudEvents are sent.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;

use crate::config::ParseSetting as _;
use crate::error_chain;
use crate::upstream::{Options, Protocol, Target, Upstream};

/// Where the worker takes events, when only its base URL is given.
const PATH: &str = "/api/v1/events";
/// A worker that needs longer to store an event is tried again.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The first retry comes within this time, each further one within twice the last.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// Retries come at least this often, whatever has happened.
const SLOWEST_RETRY: Duration = Duration::from_secs(30);

/// The worker, as an address of events.
#[derive(Debug)]
pub struct EventSink {
    worker: Upstream<Full<Bytes>>,
    path: Uri,
}

/// What became of one attempt.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// The worker has it.
    Delivered,
    /// The worker will never take it.
    Refused(StatusCode),
    /// Not now, and why.
    Later(String),
}

impl EventSink {
    /// The worker as `--events-to` names it: the whole URL, or the base that `/api/v1/events` follows.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn new(url: &Uri) -> Result<Self, String> {
        let (target, path) = endpoint(url)?;
        Ok(Self {
            worker: Upstream::new(target, Options::default()),
            path,
        })
    }

    /// Tries one event, a CloudEvent as structured JSON, until the worker takes it. `later` hears of each attempt that did not get
    /// it there, by its number, from 1.
    ///
    /// # Errors
    /// The worker's answer, when it will never take it.
    pub async fn deliver(&self, event: &Bytes, mut later: impl FnMut(u32, &str)) -> Result<(), StatusCode> {
        let mut pause = FIRST_RETRY;
        for attempt in 1_u32.. {
            match self.send(event.clone()).await {
                Sent::Delivered => break,
                Sent::Refused(status) => return Err(status),
                Sent::Later(reason) => {
                    later(attempt, &reason);
                    // Full jitter: replicas that lost the same worker do not return together.
                    tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
                    pause = (pause * 2).min(SLOWEST_RETRY);
                }
            }
        }
        Ok(())
    }

    async fn send(&self, event: Bytes) -> Sent {
        let mut request = Request::new(Full::new(event));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        let json = HeaderValue::from_static("application/cloudevents+json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        match tokio::time::timeout(TIMEOUT, self.worker.send(Protocol::Http1, request)).await {
            Ok(Ok(response)) => judge(response.status()),
            Ok(Err(failed)) => Sent::Later(error_chain(&failed)),
            Err(_elapsed) => Sent::Later(format!("no answer within {TIMEOUT:?}")),
        }
    }
}

fn endpoint(url: &Uri) -> Result<(Target, Uri), String> {
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

fn judge(status: StatusCode) -> Sent {
    match status {
        taken if taken.is_success() => Sent::Delivered,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Sent::Later(status.to_string()),
        refused if refused.is_client_error() => Sent::Refused(refused),
        other => Sent::Later(other.to_string()),
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
            [(); 3].map(|()| Sent::Delivered)
        );
        for later in [301, 408, 429, 500, 503] {
            assert!(matches!(judge(later), Sent::Later(_)), "{later}");
        }
        for never in [400, 401, 404, 413, 422] {
            assert!(matches!(judge(never), Sent::Refused(_)), "{never}");
        }
    }
}
