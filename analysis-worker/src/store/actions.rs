//! What messages and pages tell of decisions, effects, approvals and the audit log.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::outbox::receipt_of;
use super::read::by_id;
use super::{IncidentRow, Store, StoreError};
use crate::action::{Action, Receipt};
use crate::audit;
use crate::report::Report;
use crate::signal::rfc3339;

/// Everything that a message about an incident tells.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) incident: IncidentRow,
    /// The newest one.
    pub(crate) report: Report,
    /// As Markdown.
    pub(crate) markdown: String,
    /// Times that it fired again after it was over.
    pub(crate) reopened: u32,
    pub(crate) message: Option<Receipt>,
    pub(crate) issue: Option<Receipt>,
    pub(crate) retraining: Option<Retraining>,
    /// Verdicts of people on its reports: useful, and wrong cause.
    pub(crate) verdicts: (u32, u32),
}

/// A retraining that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retraining {
    pub(crate) effect: i64,
    pub(crate) incident: String,
    pub(crate) revision: u32,
    pub(crate) model: Option<String>,
    /// Of the effect.
    pub(crate) state: String,
    pub(crate) workflow: String,
    pub(crate) approval: Option<ApprovalRow>,
    /// Why policy did not hold it back.
    pub(crate) reasons: Vec<String>,
}

/// A request for approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApprovalRow {
    pub(crate) digest: String,
    pub(crate) state: String,
    pub(crate) created_at: String,
    pub(crate) expires_at: String,
    pub(crate) decided_at: Option<String>,
    pub(crate) actor: Option<String>,
}

/// A decision of policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecisionRow {
    pub(crate) revision: u32,
    pub(crate) action: String,
    pub(crate) verdict: String,
    pub(crate) reasons: Vec<String>,
}

/// An effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EffectRow {
    pub(crate) id: i64,
    pub(crate) incident: String,
    pub(crate) action: String,
    pub(crate) state: String,
    pub(crate) attempts: u32,
    pub(crate) not_before: String,
    pub(crate) updated_at: String,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) error: Option<String>,
}

/// The newest entries of the audit log, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditPage {
    pub(crate) entries: i64,
    pub(crate) newest: Vec<audit::Row>,
}

const RETRAINING: &str = "SELECT effect.id, effect.incident_id, effect.revision, effect.model, effect.state, effect.target,
        approval.digest, approval.state, approval.created_at, approval.expires_at, approval.decided_at, approval.actor,
        (SELECT reasons FROM decision WHERE decision.incident_id = effect.incident_id
             AND decision.revision = effect.revision AND decision.action = effect.action)
    FROM effect LEFT JOIN approval ON approval.effect_id = effect.id WHERE effect.action = 'retrain_dispatch'";

fn retraining(row: &Row<'_>) -> rusqlite::Result<Retraining> {
    let approval = match row.get::<_, Option<String>>(6)? {
        None => None,
        Some(digest) => Some(ApprovalRow {
            digest,
            state: row.get(7)?,
            created_at: rfc3339(row.get(8)?),
            expires_at: rfc3339(row.get(9)?),
            decided_at: row.get::<_, Option<i64>>(10)?.map(rfc3339),
            actor: row.get(11)?,
        }),
    };
    Ok(Retraining {
        effect: row.get(0)?,
        incident: row.get(1)?,
        revision: row.get(2)?,
        model: row.get(3)?,
        state: row.get(4)?,
        workflow: row.get(5)?,
        approval,
        reasons: list(row.get::<_, Option<String>>(12)?),
    })
}

fn list(json: Option<String>) -> Vec<String> {
    json.and_then(|json| serde_json::from_str(&json).ok())
        .unwrap_or_default()
}

fn retraining_of(connection: &Connection, incident: &str) -> rusqlite::Result<Option<Retraining>> {
    connection
        .prepare_cached(&format!(
            "{RETRAINING} AND effect.incident_id = ?1 ORDER BY effect.id DESC LIMIT 1"
        ))?
        .query_row([incident], retraining)
        .optional()
}

impl Store {
    /// What is told of an incident now. None when it has no report.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn told(&self, incident: &str) -> Result<Option<Told>, StoreError> {
        let id = incident.to_owned();
        self.call(move |connection| {
            let Some(incident) = by_id(connection, &id)? else {
                return Ok(None);
            };
            let report: Option<(String, String)> = connection
                .prepare_cached(
                    "SELECT json, markdown FROM report WHERE incident_id = ?1 ORDER BY revision DESC LIMIT 1",
                )?
                .query_row([&id], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((json, markdown)) = report else {
                return Ok(None);
            };
            let report = serde_json::from_str(&json).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
            })?;
            Ok(Some(Told {
                incident,
                report,
                markdown,
                reopened: connection
                    .prepare_cached("SELECT reopened FROM incident WHERE id = ?1")?
                    .query_row([&id], |row| row.get(0))?,
                message: receipt_of(connection, &id, Action::SlackMessage)?,
                issue: receipt_of(connection, &id, Action::GithubIssue)?,
                retraining: retraining_of(connection, &id)?,
                verdicts: connection
                    .prepare_cached(
                        "SELECT coalesce(sum(verdict = 'useful'), 0), coalesce(sum(verdict = 'wrong_cause'), 0)
                         FROM verdict WHERE incident_id = ?1",
                    )?
                    .query_row([&id], |row| Ok((row.get(0)?, row.get(1)?)))?,
            }))
        })
        .await
    }

    /// The retraining that was last asked for in an incident.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn retraining(&self, incident: &str) -> Result<Option<Retraining>, StoreError> {
        let incident = incident.to_owned();
        self.call(move |connection| retraining_of(connection, &incident))
            .await
    }

    /// Retrainings, newest first, those that wait for a person before all others.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn retrainings(&self, limit: u32) -> Result<Vec<Retraining>, StoreError> {
        self.call(move |connection| {
            connection
                .prepare_cached(&format!(
                    "{RETRAINING} ORDER BY effect.state = 'waiting' DESC, effect.id DESC LIMIT ?1"
                ))?
                .query_map([limit], retraining)?
                .collect()
        })
        .await
    }

    /// What policy decided about an incident, newest revision first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn decisions(&self, incident: &str, limit: u32) -> Result<Vec<DecisionRow>, StoreError> {
        let incident = incident.to_owned();
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "SELECT revision, action, verdict, reasons FROM decision WHERE incident_id = ?1
                     ORDER BY revision DESC, rowid LIMIT ?2",
                )?
                .query_map(params![incident, limit], |row| {
                    Ok(DecisionRow {
                        revision: row.get(0)?,
                        action: row.get(1)?,
                        verdict: row.get(2)?,
                        reasons: list(row.get(3)?),
                    })
                })?
                .collect()
        })
        .await
    }

    /// Effects, newest first, those that were given up before all others; of one incident, or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn effects(
        &self,
        incident: Option<String>,
        limit: u32,
    ) -> Result<Vec<EffectRow>, StoreError> {
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "SELECT id, incident_id, action, state, attempts, not_before, updated_at, receipt, error FROM effect
                     WHERE ?1 IS NULL OR incident_id = ?1 ORDER BY state = 'dead' DESC, id DESC LIMIT ?2",
                )?
                .query_map(params![incident, limit], |row| {
                    let receipt: Option<String> = row.get(7)?;
                    Ok(EffectRow {
                        id: row.get(0)?,
                        incident: row.get(1)?,
                        action: row.get(2)?,
                        state: row.get(3)?,
                        attempts: row.get(4)?,
                        not_before: rfc3339(row.get(5)?),
                        updated_at: rfc3339(row.get(6)?),
                        receipt: receipt.and_then(|json| serde_json::from_str(&json).ok()),
                        error: row.get(8)?,
                    })
                })?
                .collect()
        })
        .await
    }

    /// The newest entries of the audit log.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn audit(&self, limit: u32) -> Result<AuditPage, StoreError> {
        self.call(move |connection| {
            let newest: Vec<audit::Row> = connection
                .prepare_cached("SELECT seq, entry, previous, hash FROM audit ORDER BY seq DESC LIMIT ?1")?
                .query_map([limit], audit::read)?
                .collect::<Result<_, _>>()?;
            Ok(AuditPage {
                entries: newest.first().map_or(0, |row| row.seq),
                newest,
            })
        })
        .await
    }
}
