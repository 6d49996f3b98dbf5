//! What pages and analyses read.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;

use super::{Store, StoreError};
use crate::signal::{Origin, Signal, now, rfc3339};

/// One incident, as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct IncidentRow {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) model: Option<String>,
    pub(crate) title: String,
    pub(crate) urgency: String,
    /// `received`, `collecting`, `analysing`, `reported`, `failed`, or `resolved` when it is over and reported.
    pub(crate) state: String,
    pub(crate) started_at: String,
    pub(crate) received_at: String,
    pub(crate) updated_at: String,
    pub(crate) resolved_at: Option<String>,
    /// Signals that belong to it.
    pub(crate) signals: u32,
    /// Revision of the newest report; 0 while there is none.
    pub(crate) reports: u32,
    #[serde(skip)]
    pub(crate) started_at_ms: i64,
}

/// One signal of an incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SignalRow {
    pub(crate) origin: Origin,
    pub(crate) status: String,
    pub(crate) title: String,
    pub(crate) starts_at: String,
    pub(crate) ends_at: Option<String>,
    pub(crate) received_at: String,
    pub(crate) times_seen: u32,
    pub(crate) body: serde_json::Value,
}

impl From<&Signal> for SignalRow {
    /// A signal that was not stored: analyses of a single file.
    fn from(signal: &Signal) -> Self {
        Self {
            origin: signal.origin,
            status: signal.status.as_str().to_owned(),
            title: signal.title.clone(),
            starts_at: rfc3339(signal.starts_at),
            ends_at: signal.ends_at.map(rfc3339),
            received_at: rfc3339(now()),
            times_seen: 1,
            body: signal.body.clone(),
        }
    }
}

const INCIDENT: &str =
    "SELECT id, kind, model, title, urgency, stage, started_at, received_at, updated_at, resolved_at,
    (SELECT count(*) FROM signal WHERE incident_id = incident.id),
    (SELECT coalesce(max(revision), 0) FROM report WHERE incident_id = incident.id) FROM incident";

fn incident(row: &Row<'_>) -> rusqlite::Result<IncidentRow> {
    let stage: String = row.get(5)?;
    let resolved_at: Option<i64> = row.get(9)?;
    let started_at_ms = row.get(6)?;
    Ok(IncidentRow {
        id: row.get(0)?,
        kind: row.get(1)?,
        model: row.get(2)?,
        title: row.get(3)?,
        urgency: row.get(4)?,
        state: if resolved_at.is_some() && stage == "reported" {
            "resolved".to_owned()
        } else {
            stage
        },
        started_at: rfc3339(started_at_ms),
        received_at: rfc3339(row.get(7)?),
        updated_at: rfc3339(row.get(8)?),
        resolved_at: resolved_at.map(rfc3339),
        signals: row.get(10)?,
        reports: row.get(11)?,
        started_at_ms,
    })
}

pub(super) fn by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<IncidentRow>> {
    connection
        .prepare_cached(&format!("{INCIDENT} WHERE id = ?1"))?
        .query_row([id], incident)
        .optional()
}

impl Store {
    /// The newest incidents.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn incidents(&self, limit: u32) -> Result<Vec<IncidentRow>, StoreError> {
        self.call(move |connection| {
            connection
                .prepare_cached(&format!("{INCIDENT} ORDER BY received_at DESC, id LIMIT ?1"))?
                .query_map([limit], incident)?
                .collect()
        })
        .await
    }

    /// One incident.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn incident(&self, id: &str) -> Result<Option<IncidentRow>, StoreError> {
        let id = id.to_owned();
        self.call(move |connection| by_id(connection, &id)).await
    }

    /// Its signals, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn signals(&self, incident: &str, limit: u32) -> Result<Vec<SignalRow>, StoreError> {
        let incident = incident.to_owned();
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "SELECT origin, status, title, starts_at, ends_at, received_at, times_seen, body FROM signal
                     WHERE incident_id = ?1 ORDER BY id LIMIT ?2",
                )?
                .query_map(params![incident, limit], |row| {
                    let (origin, body): (String, String) = (row.get(0)?, row.get(7)?);
                    Ok(SignalRow {
                        origin: Origin::parse(&origin),
                        status: row.get(1)?,
                        title: row.get(2)?,
                        starts_at: rfc3339(row.get(3)?),
                        ends_at: row.get::<_, Option<i64>>(4)?.map(rfc3339),
                        received_at: rfc3339(row.get(5)?),
                        times_seen: row.get(6)?,
                        body: serde_json::from_str(&body).unwrap_or_default(),
                    })
                })?
                .collect()
        })
        .await
    }

    /// Its reports as JSON, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn reports(&self, incident: &str) -> Result<Vec<String>, StoreError> {
        let incident = incident.to_owned();
        self.call(move |connection| {
            connection
                .prepare_cached("SELECT json FROM report WHERE incident_id = ?1 ORDER BY revision")?
                .query_map([incident], |row| row.get(0))?
                .collect()
        })
        .await
    }

    /// Its newest report as JSON and Markdown.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn report(&self, incident: &str) -> Result<Option<(String, String)>, StoreError> {
        let incident = incident.to_owned();
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "SELECT json, markdown FROM report WHERE incident_id = ?1 ORDER BY revision DESC LIMIT 1",
                )?
                .query_row([incident], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
        .await
    }

    /// One revision of its report as JSON.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn revision(&self, incident: &str, revision: u32) -> Result<Option<String>, StoreError> {
        let incident = incident.to_owned();
        self.call(move |connection| {
            connection
                .prepare_cached("SELECT json FROM report WHERE incident_id = ?1 AND revision = ?2")?
                .query_row(params![incident, revision], |row| row.get(0))
                .optional()
        })
        .await
    }
}
