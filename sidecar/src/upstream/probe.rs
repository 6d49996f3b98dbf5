//! Follows the model server's readiness, so that the sidecar is ready when what it fronts is.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use plumbline_service::{Readiness, ReadinessToken};
use tokio_util::sync::CancellationToken;

use super::{Failure, Upstream};
use crate::tee::RequestBody;

/// Between probes while the server is not ready: short, as a rollout waits for it.
const WAITING: Duration = Duration::from_millis(250);
/// Between probes of a ready server.
const WATCHING: Duration = Duration::from_secs(2);
/// A probe that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer to a probe that is read; a longer one costs its connection.
const BODY_LIMIT: usize = 64 << 10;

/// Why the server is not ready; `None` when it is.
type Verdict = Option<String>;

/// Probes until `stop`, and keeps the process unready while the server is not ready. `first` is held until it is.
pub(crate) async fn watch_readiness(
    upstream: &Upstream,
    readiness: &Readiness,
    first: ReadinessToken,
    stop: CancellationToken,
) {
    let server = upstream.target().to_string();
    let mut waiting = Some(first);
    while let Some(verdict) = stop.run_until_cancelled(probe(upstream)).await {
        let pause = match verdict {
            None => {
                if waiting.take().is_some() {
                    tracing::info!(upstream = %server, "the model server is ready");
                }
                WATCHING
            }
            Some(reason) => {
                let told = format!("the model server at {server}: {reason}");
                if let Some(token) = &waiting {
                    token.update(told);
                } else {
                    tracing::warn!(upstream = %server, reason, "the model server is no longer ready");
                    waiting = Some(readiness.wait_for(told));
                }
                WAITING
            }
        };
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
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
        Ok(Ok(StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)) => None,
        Ok(Ok(status)) => Some(format!("its readiness is {}", status.as_u16())),
        Ok(Err(Failure::Connect(error))) => Some(plumbline_service::error_chain(&error)),
        Ok(Err(failure)) => Some(plumbline_service::error_chain(&failure)),
        Err(_elapsed) => Some("its readiness was not told in time".to_owned()),
    }
}
