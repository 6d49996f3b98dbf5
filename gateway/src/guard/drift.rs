//! What the sidecars say of canaries and stable revisions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use plumbline_drift::report::{CanaryCause, DriftOverview, RevisionSeen, State};
use plumbline_service::config::ParseSetting as _;
use plumbline_service::upstream::{Options, Protocol, Target, Upstream};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Guard;
use crate::route::Revision;

/// Time between two questions.
const ASK: Duration = Duration::from_secs(15);
/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Sidecars that are asked at the same time.
const AT_ONCE: usize = 8;
/// Largest answer that is read: a model has at most a few thousand bins.
const MAX_BYTES: usize = 4 << 20;

/// Asks again and again, and stops canaries that drift while the stable revision does not.
pub(super) async fn watch(guard: &Guard) {
    let mut questions = interval(ASK);
    questions.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        questions.tick().await;
        for (route, canary, stable) in guard.guarded() {
            let port = route.spec.guard.as_ref().and_then(|guard| guard.sidecar_port);
            let Some(port) = port else { continue };
            let of_canary = state(&route.model, &canary, port).await;
            if of_canary != Some(State::Drift) {
                continue;
            }
            // What has changed for both is no fault of the canary's; of an unknown stable revision nothing is known.
            let of_stable = state(&route.model, &stable, port).await;
            if of_stable.is_some_and(|state| state != State::Drift) {
                let seen = [(canary, of_canary), (stable, of_stable)].map(|(revision, drift)| RevisionSeen {
                    revision: revision.name.as_ref().to_owned(),
                    answers: revision.state.counts().answers,
                    failed: 0.0,
                    p95_ms: None,
                    drift,
                });
                guard.stop(&route, seen, CanaryCause::Drift, None);
            }
        }
    }
}

/// The worst that the sidecars of a revision say of a model; nothing when none answers.
async fn state(model: &str, revision: &Arc<Revision>, port: u16) -> Option<State> {
    let targets = revision
        .endpoints
        .all()
        .filter_map(|endpoint| sidecar(endpoint.target(), port));
    let targets: Vec<Target> = targets.collect();
    let answers = stream::iter(targets)
        .map(|target| ask(target, model))
        .buffer_unordered(AT_ONCE);
    let states: Vec<Option<State>> = answers.collect().await;
    states.into_iter().flatten().max_by_key(|state| state.level())
}

/// Where the sidecar beside an endpoint tells of itself; nothing for a socket.
fn sidecar(endpoint: &Target, port: u16) -> Option<Target> {
    let url = endpoint.to_string();
    let address = url.strip_prefix("http://")?;
    let (host, _port) = address.rsplit_once(':').filter(|(host, _)| !host.is_empty())?;
    Target::parse_setting(&format!("http://{host}:{port}")).ok()
}

async fn ask(sidecar: Target, model: &str) -> Option<State> {
    let name = sidecar.to_string();
    match timeout(TIMEOUT, overview(sidecar)).await {
        Ok(Ok(overview)) => {
            let mut of_model = overview.models.iter().filter(|report| report.model == model);
            of_model.next().map(|report| report.state)
        }
        Ok(Err(problem)) => {
            tracing::debug!(sidecar = name, problem, "no drift state");
            None
        }
        Err(_elapsed) => {
            tracing::debug!(sidecar = name, "no drift state in time");
            None
        }
    }
}

async fn overview(sidecar: Target) -> Result<DriftOverview, String> {
    let upstream: Upstream<Empty<Bytes>> = Upstream::new(sidecar, Options::default());
    let request = Request::get("/drift")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let sent = upstream.send(Protocol::Http1, request).await;
    let response = sent.map_err(|error| plumbline_service::error_chain(&error))?;
    if response.status() != StatusCode::OK {
        return Err(format!("answered {}", response.status()));
    }
    let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
    let body = body.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sidecar_is_on_the_host_of_its_endpoint() {
        let of = |url: &str| {
            let target = Target::parse_setting(url).expect("an endpoint");
            sidecar(&target, 9902).map(|target| target.to_string())
        };
        assert_eq!(
            of("http://10.1.2.3:8080").as_deref(),
            Some("http://10.1.2.3:9902")
        );
        assert_eq!(of("http://[::1]:8080").as_deref(), Some("http://[::1]:9902"));
        assert_eq!(of("unix:/run/churn.sock"), None);
    }
}
