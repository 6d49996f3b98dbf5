//! The worker's incidents and reports, asked over its API.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::client::Server;

const TIMEOUT: Duration = Duration::from_secs(5);

/// An incident in the worker's list.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) state: String,
    /// When it was over.
    pub(super) resolved_at: Option<String>,
    /// Revision of the newest report; 0 while there is none.
    pub(super) reports: u32,
}

/// An incident with its newest report.
#[derive(Debug)]
pub(super) struct Incident {
    pub(super) id: String,
    pub(super) signals: Vec<Signal>,
    pub(super) markdown: String,
}

/// An alert or event, as the worker has stored it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Signal {
    /// Where it came from: `drift_event`, `alertmanager`.
    pub(super) origin: String,
    /// `firing` or `resolved`.
    pub(super) status: String,
    /// How often it was delivered.
    pub(super) times_seen: u32,
}

impl Incident {
    /// Path of its page.
    pub(super) fn page(&self) -> String {
        format!("/incidents/{}", self.id)
    }
}

#[derive(Deserialize)]
struct List {
    incidents: Vec<Summary>,
}

#[derive(Deserialize)]
struct Detail {
    signals: Vec<Signal>,
}

/// The newest incidents.
pub(super) async fn incidents(worker: SocketAddr) -> anyhow::Result<Vec<Summary>> {
    let list: List = json(worker, "/api/v1/incidents").await?;
    Ok(list.incidents)
}

/// One incident with its newest report.
pub(super) async fn incident(worker: SocketAddr, id: &str) -> anyhow::Result<Incident> {
    let signals = signals(worker, id).await?;
    let report = text(worker, &format!("/api/v1/incidents/{id}/report.md")).await?;
    Ok(Incident {
        id: id.to_owned(),
        signals,
        markdown: String::from_utf8_lossy(&report).into_owned(),
    })
}

/// What was delivered for an incident.
pub(super) async fn signals(worker: SocketAddr, id: &str) -> anyhow::Result<Vec<Signal>> {
    let detail: Detail = json(worker, &format!("/api/v1/incidents/{id}")).await?;
    Ok(detail.signals)
}

async fn json<T: DeserializeOwned>(worker: SocketAddr, path: &str) -> anyhow::Result<T> {
    let body = text(worker, path).await?;
    serde_json::from_slice(&body).with_context(|| format!("the worker's {path}"))
}

async fn text(worker: SocketAddr, path: &str) -> anyhow::Result<bytes::Bytes> {
    let server = Server::from(worker);
    let answer = server
        .get(path, TIMEOUT)
        .await
        .with_context(|| format!("the worker's {path}"))?;
    anyhow::ensure!(
        answer.status.is_success(),
        "{server}{path} answered {}",
        answer.status
    );
    Ok(answer.body)
}
