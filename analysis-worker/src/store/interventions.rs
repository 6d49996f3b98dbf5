//! What was done about incidents, and what came of it.

use rusqlite::{OptionalExtension as _, params};

use super::{Store, StoreError};
use crate::signal::now;

/// Something that was done about an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intervention {
    pub(crate) incident: String,
    pub(crate) kind: &'static str,
    pub(crate) actor: String,
    pub(crate) note: String,
    /// Milliseconds since 1970.
    pub(crate) at: i64,
    /// Measures, JSON.
    pub(crate) before: String,
}

/// One that is not judged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) id: i64,
    pub(crate) incident: String,
    pub(crate) kind: String,
    pub(crate) model: Option<String>,
    pub(crate) at: i64,
    /// When the incident was over, if it is.
    pub(crate) resolved_at: Option<i64>,
    /// When the next one of the same incident was done.
    pub(crate) next_at: Option<i64>,
}

/// One as it is told.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Done {
    pub(crate) kind: String,
    pub(crate) actor: String,
    pub(crate) note: String,
    pub(crate) at: i64,
    pub(crate) before: String,
    pub(crate) after: String,
    pub(crate) outcome: String,
}

/// An incident that ended and about which nothing is known to have been done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) model: Option<String>,
    pub(crate) resolved_at: i64,
}

/// An incident that goes on, with its newest report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) id: String,
    pub(crate) model: Option<String>,
    /// JSON.
    pub(crate) report: String,
}

/// An earlier incident of the same kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) started_at: i64,
    pub(crate) resolved_at: Option<i64>,
    /// The newest report, JSON.
    pub(crate) report: Option<String>,
    pub(crate) same_key: bool,
    pub(crate) same_model: bool,
    pub(crate) interventions: Vec<Done>,
    /// People who found its reports useful.
    pub(crate) useful: u32,
    /// People who said that a report named a wrong cause.
    pub(crate) wrong_cause: u32,
}

/// Earlier incidents that are looked at for those that tell most.
const MAX_CANDIDATES: u32 = 30;

impl Store {
    /// Keeps an intervention and returns its number; none when it is known already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn intervene(&self, done: Intervention) -> Result<Option<i64>, StoreError> {
        self.write(move |transaction| {
            // Another version is seen again with every look: one for each note is enough.
            let known: i64 = transaction.query_row(
                "SELECT count(*) FROM intervention WHERE incident_id = ?1 AND kind = ?2 AND (at = ?3 OR actor = ?4 AND note = ?5)",
                params![done.incident, done.kind, done.at, done.actor, done.note],
                |row| row.get(0),
            )?;
            if known > 0 {
                return Ok(None);
            }
            transaction.execute(
                "INSERT INTO intervention (incident_id, kind, actor, note, at, before, outcome)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'watching')",
                params![done.incident, done.kind, done.actor, done.note, done.at, done.before],
            )?;
            Ok(Some(transaction.last_insert_rowid()))
        })
        .await
    }

    /// Retrainings that went out and are not known as interventions yet: incident, when, and who agreed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn new_retrainings(&self, limit: u32) -> Result<Vec<(Open, i64, String)>, StoreError> {
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "SELECT incident.id, incident.model, effect.updated_at, coalesce(approval.actor, 'policy'),
                         coalesce((SELECT json FROM report WHERE incident_id = incident.id ORDER BY revision DESC LIMIT 1), '')
                     FROM effect JOIN incident ON incident.id = effect.incident_id
                         LEFT JOIN approval ON approval.effect_id = effect.id
                     WHERE effect.action = 'retrain_dispatch' AND effect.state = 'done'
                         AND NOT EXISTS (SELECT 1 FROM intervention
                             WHERE incident_id = incident.id AND kind = 'retrain' AND at = effect.updated_at)
                     ORDER BY effect.id LIMIT ?1",
                )?
                .query_map([limit], |row| {
                    let open = Open {
                        id: row.get(0)?,
                        model: row.get(1)?,
                        report: row.get(4)?,
                    };
                    Ok((open, row.get(2)?, row.get(3)?))
                })?
                .collect()
        })
        .await
    }

    /// Those that are not judged yet, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn watched(&self, limit: u32) -> Result<Vec<Watched>, StoreError> {
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "SELECT i.id, i.incident_id, i.kind, incident.model, i.at, incident.resolved_at,
                         (SELECT min(n.at) FROM intervention n WHERE n.incident_id = i.incident_id AND n.at > i.at)
                     FROM intervention i JOIN incident ON incident.id = i.incident_id
                     WHERE i.outcome = 'watching' ORDER BY i.id LIMIT ?1",
                )?
                .query_map([limit], |row| {
                    Ok(Watched {
                        id: row.get(0)?,
                        incident: row.get(1)?,
                        kind: row.get(2)?,
                        model: row.get(3)?,
                        at: row.get(4)?,
                        resolved_at: row.get(5)?,
                        next_at: row.get(6)?,
                    })
                })?
                .collect()
        })
        .await
    }

    /// Judges one; `after` are measures, JSON.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn conclude_intervention(
        &self,
        id: i64,
        outcome: &'static str,
        after: String,
    ) -> Result<(), StoreError> {
        self.write(move |transaction| {
            transaction.execute(
                "UPDATE intervention SET outcome = ?2, after = ?3, judged_at = ?4 WHERE id = ?1",
                params![id, outcome, after, now()],
            )?;
            Ok(())
        })
        .await
    }

    /// Incidents that were over before `before` without any intervention, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn ended_alone(&self, before: i64, limit: u32) -> Result<Vec<Ended>, StoreError> {
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "SELECT id, model, resolved_at FROM incident WHERE resolved_at <= ?1
                         AND NOT EXISTS (SELECT 1 FROM intervention WHERE incident_id = incident.id)
                     ORDER BY resolved_at LIMIT ?2",
                )?
                .query_map(params![before, limit], |row| {
                    Ok(Ended {
                        id: row.get(0)?,
                        model: row.get(1)?,
                        resolved_at: row.get(2)?,
                    })
                })?
                .collect()
        })
        .await
    }

    /// Incidents about a model that go on and have a report, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn open_with_report(&self, limit: u32) -> Result<Vec<Open>, StoreError> {
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "SELECT id, model, (SELECT json FROM report WHERE incident_id = incident.id ORDER BY revision DESC LIMIT 1)
                     FROM incident WHERE resolved_at IS NULL AND model IS NOT NULL
                         AND EXISTS (SELECT 1 FROM report WHERE incident_id = incident.id)
                     ORDER BY started_at LIMIT ?1",
                )?
                .query_map([limit], |row| {
                    Ok(Open {
                        id: row.get(0)?,
                        model: row.get(1)?,
                        report: row.get(2)?,
                    })
                })?
                .collect()
        })
        .await
    }

    /// What was done about an incident, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn interventions(&self, incident: &str) -> Result<Vec<Done>, StoreError> {
        let incident = incident.to_owned();
        self.call(move |connection| interventions(connection, &incident))
            .await
    }

    /// Earlier incidents of the kind of `incident`: those of its key and model before others, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn past(&self, incident: &str) -> Result<Vec<Past>, StoreError> {
        let incident = incident.to_owned();
        self.call(move |connection| {
            let this: Option<(String, String, Option<String>, i64)> = connection
                .prepare_cached("SELECT key, kind, model, started_at FROM incident WHERE id = ?1")?
                .query_row([&incident], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()?;
            let Some((key, kind, model, started_at)) = this else {
                return Ok(Vec::new());
            };
            let mut past: Vec<Past> = connection
                .prepare_cached(
                    "SELECT id, title, started_at, resolved_at,
                         (SELECT json FROM report WHERE incident_id = incident.id ORDER BY revision DESC LIMIT 1),
                         key = ?3, model IS ?4 AND model IS NOT NULL,
                         (SELECT count(*) FROM verdict WHERE incident_id = incident.id AND verdict = 'useful'),
                         (SELECT count(*) FROM verdict WHERE incident_id = incident.id AND verdict = 'wrong_cause')
                     FROM incident WHERE kind = ?1 AND started_at <= ?5 AND id <> ?2
                     ORDER BY key = ?3 DESC, model IS ?4 DESC, started_at DESC LIMIT ?6",
                )?
                .query_map(
                    params![kind, incident, key, model, started_at, MAX_CANDIDATES],
                    |row| {
                        Ok(Past {
                            id: row.get(0)?,
                            title: row.get(1)?,
                            started_at: row.get(2)?,
                            resolved_at: row.get(3)?,
                            report: row.get(4)?,
                            same_key: row.get(5)?,
                            same_model: row.get(6)?,
                            useful: row.get(7)?,
                            wrong_cause: row.get(8)?,
                            interventions: Vec::new(),
                        })
                    },
                )?
                .collect::<Result<_, _>>()?;
            for past in &mut past {
                past.interventions = interventions(connection, &past.id)?;
            }
            Ok(past)
        })
        .await
    }
}

fn interventions(connection: &rusqlite::Connection, incident: &str) -> rusqlite::Result<Vec<Done>> {
    connection
        .prepare_cached(
            "SELECT kind, actor, note, at, before, coalesce(after, ''), outcome FROM intervention
             WHERE incident_id = ?1 ORDER BY at, id",
        )?
        .query_map([incident], |row| {
            Ok(Done {
                kind: row.get(0)?,
                actor: row.get(1)?,
                note: row.get(2)?,
                at: row.get(3)?,
                before: row.get(4)?,
                after: row.get(5)?,
                outcome: row.get(6)?,
            })
        })?
        .collect()
}
