//! Follows the model server's readiness, so that the sidecar is ready when what it fronts is.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use plumbline_service::{Readiness, ReadinessToken, Shutdown};

use super::{Failure, Upstream};
use crate::tee::RequestBody;

/// Between probes while the server is not ready: short, as a rollout waits for it.
const WAITING: Duration = Duration::from_millis(250);
/// A probe that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer to a probe that is read; a longer one costs its connection.
const BODY_LIMIT: usize = 64 << 10;

/// What a probe found.
enum Verdict {
    Ready,
    /// It listens, and says or shows that it is not ready.
    NotReady(String),
    /// Nobody listens.
    Gone(String),
}

/// Probes until the process stops accepting, and keeps it unready while the server is not ready. `first` is held until it is.
///
/// A server that is gone while the process drains has nothing to answer with: then the drain does not wait for endpoints.
pub(crate) async fn watch_readiness(
    upstream: &Upstream,
    readiness: &Readiness,
    first: ReadinessToken,
    shutdown: &Shutdown,
) {
    let stop = shutdown.token();
    let server = upstream.target().to_string();
    let mut waiting = Some(first);
    while let Some(verdict) = stop.run_until_cancelled(probe(upstream)).await {
        let reason = match verdict {
            Verdict::Ready => None,
            Verdict::NotReady(reason) => Some(reason),
            Verdict::Gone(reason) => {
                if shutdown.has_begun() {
                    shutdown.cut_delay();
                }
                Some(reason)
            }
        };
        let ready = reason.is_none();
        match reason {
            None => {
                if waiting.take().is_some() {
                    tracing::info!(upstream = %server, "the model server is ready");
                }
            }
            Some(reason) => {
                let told = format!("the model server at {server}: {reason}");
                if let Some(token) = &waiting {
                    token.update(told);
                } else {
                    tracing::warn!(upstream = %server, reason, "the model server is no longer ready");
                    waiting = Some(readiness.wait_for(told));
                }
            }
        }
        if stop
            .run_until_cancelled(pause(upstream, shutdown, ready))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Waits until the next probe is due. A ready server is looked at again as soon as a connection to it fails.
async fn pause(upstream: &Upstream, shutdown: &Shutdown, ready: bool) {
    if !ready || shutdown.has_begun() {
        tokio::time::sleep(WAITING).await;
        return;
    }
    tokio::select! {
        () = tokio::time::sleep(upstream.probe_interval) => {}
        () = upstream.connect_failed() => {}
        () = shutdown.begun() => {}
    }
}

async fn probe(upstream: &Upstream) -> Verdict {
    let mut request = Request::new(RequestBody::empty());
    *request.uri_mut() = http::Uri::from_static("/v2/health/ready");
    let asked = async {
        let response = upstream.send(request).await?.response;
        let status = response.status();
        // Read to its end, so that the connection can be used again; what it says does not matter.
        let _body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        Ok::<_, Failure>(status)
    };
    match tokio::time::timeout(TIMEOUT, asked).await {
        // A server without the V2 health API answers 404 or 405: it listens, and more cannot be asked.
        Ok(Ok(StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)) => Verdict::Ready,
        Ok(Ok(status)) => Verdict::NotReady(format!("its readiness is {}", status.as_u16())),
        Ok(Err(Failure::Connect(error))) => Verdict::Gone(plumbline_service::error_chain(&error)),
        Ok(Err(failure)) => Verdict::NotReady(plumbline_service::error_chain(&failure)),
        Err(_elapsed) => Verdict::NotReady("its readiness was not told in time".to_owned()),
    }
}
