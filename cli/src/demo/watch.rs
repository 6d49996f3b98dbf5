//! What the sidecar says about drift, asked over HTTP as anybody would.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use plumbline_drift::report::{DriftOverview, DriftReport, State};

use crate::client::Server;
use crate::terminal::printable;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks for the state of `model`.
pub(super) async fn drift(sidecar_admin: SocketAddr, model: &str) -> anyhow::Result<DriftReport> {
    let server = Server::from(sidecar_admin);
    let answer = server
        .get("/drift", TIMEOUT)
        .await
        .context("the sidecar's /drift")?;
    anyhow::ensure!(
        answer.status.is_success(),
        "{server}/drift answered {}",
        answer.status
    );
    let overview: DriftOverview =
        serde_json::from_slice(&answer.body).with_context(|| format!("{server}/drift"))?;
    let report = overview.models.into_iter().find(|report| report.model == model);
    report.with_context(|| {
        format!(
            "the sidecar does not compare model `{model}` with anything: is there a profile.json beside it?"
        )
    })
}

/// The subjects that are not stable, the worst first, at most three: `Contract drift, tenure warning`.
pub(super) fn top(report: &DriftReport) -> String {
    let mut subjects: Vec<_> = report
        .subjects
        .iter()
        .filter(|subject| subject.state.level() > 0)
        .collect();
    let effect = |name: &str| {
        report
            .ranking
            .iter()
            .position(|entry| entry.subject == name)
            .unwrap_or(usize::MAX)
    };
    subjects.sort_by_key(|subject| (std::cmp::Reverse(subject.state.level()), effect(&subject.name)));
    let names: Vec<String> = subjects
        .iter()
        .take(3)
        .map(|subject| printable(&subject.name))
        .collect();
    let more = subjects.len().saturating_sub(3);
    match (names.is_empty(), more) {
        (true, _) => "–".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

/// `stable`, `warning`, `drift`, `recovered`.
pub(super) fn name(state: State) -> &'static str {
    match state {
        State::Stable => "stable",
        State::Warning => "warning",
        State::Drift => "drift",
        State::Recovered => "recovered",
    }
}
