//! Jobs: who analyses what, how often it was tried, and the one report that comes of it.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Store, StoreError, effects};
use crate::audit::{self, Fact};
use crate::report::Report;
use crate::signal::{digest, now};

/// Tries of one job, kills included, before it is given up.
pub(crate) const MAX_ATTEMPTS: u32 = 5;

/// A claimed job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) incident: String,
    pub(crate) revision: u32,
    /// This try, from 1.
    pub(crate) attempt: u32,
    /// When the signal that asked for it was committed.
    pub(crate) created_at: i64,
}

/// A report as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) report: Report,
    pub(crate) prompt: Option<String>,
    pub(crate) answer: Option<String>,
    /// Tokens that were used for it.
    pub(crate) tokens: u64,
    pub(crate) markdown: String,
}

impl Finished {
    /// What the audit log says of it; `json` is the report as it is stored.
    fn fact(&self, json: &str) -> Fact {
        let Report {
            incident,
            revision,
            analysis,
            evidence,
            ..
        } = &self.report;
        let input: Vec<&str> = evidence.iter().map(|fact| fact.content.as_str()).collect();
        Fact::Report {
            incident: incident.id.clone(),
            revision: *revision,
            input_digest: digest(&input),
            prompt_digest: analysis.prompt_digest.clone(),
            answer_digest: self.answer.as_deref().map(|answer| digest(&[answer])),
            report_digest: digest(&[json]),
            provider: analysis.provider.clone(),
            model: analysis.model.clone(),
            outcome: analysis.outcome.as_str().to_owned(),
            tokens: self.tokens,
        }
    }
}

/// Jobs by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobCounts {
    pub(crate) queued: i64,
    pub(crate) running: i64,
    pub(crate) failed: i64,
}

/// Nobody else has the database open, so whatever runs belongs to a process that is gone.
pub(super) fn requeue_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE job SET state = 'queued', lease_until = 0 WHERE state = 'running'",
        [],
    )?;
    Ok(())
}

impl Store {
    /// Takes the oldest job that is due, for as long as `lease`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn claim(&self, lease: Duration) -> Result<Option<Job>, StoreError> {
        let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX / 4);
        self.write(move |transaction| {
            let now = now();
            transaction
                .prepare_cached(
                    "UPDATE job SET state = 'running', attempts = attempts + 1, lease_until = ?2
                     WHERE rowid = (
                         SELECT rowid FROM job
                         WHERE (state = 'queued' AND not_before <= ?1) OR (state = 'running' AND lease_until < ?1)
                         ORDER BY created_at LIMIT 1)
                     RETURNING incident_id, revision, attempts, created_at",
                )?
                .query_row(params![now, now + lease], |row| {
                    Ok(Job {
                        incident: row.get(0)?,
                        revision: row.get(1)?,
                        attempt: row.get(2)?,
                        created_at: row.get(3)?,
                    })
                })
                .optional()
        })
        .await
    }

    /// Says how far the analysis of an incident is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn stage(&self, incident: &str, stage: &'static str) -> Result<(), StoreError> {
        let incident = incident.to_owned();
        self.write(move |transaction| {
            transaction.execute(
                "UPDATE incident SET stage = ?2, updated_at = ?3 WHERE id = ?1",
                params![incident, stage, now()],
            )?;
            Ok(())
        })
        .await
    }

    /// Keeps a report with all that it leads to, and ends its job. False when there already was one: then nothing changes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn finish(&self, job: &Job, finished: Finished) -> Result<bool, StoreError> {
        let job = job.clone();
        let policy = Arc::clone(&self.policy);
        self.write(move |transaction| {
            let now = now();
            let report = &finished.report;
            let json = serde_json::to_string(report)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            let inserted = transaction.execute(
                "INSERT OR IGNORE INTO report (incident_id, revision, created_at, urgency, provider, model, outcome,
                     prompt_digest, prompt, answer, json, markdown)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                params![
                    job.incident,
                    job.revision,
                    now,
                    report.urgency.as_str(),
                    report.analysis.provider,
                    report.analysis.model,
                    report.analysis.outcome.as_str(),
                    report.analysis.prompt_digest,
                    finished.prompt,
                    finished.answer,
                    json,
                    finished.markdown,
                ],
            )?;
            transaction.execute(
                "UPDATE job SET state = 'done', error = NULL WHERE incident_id = ?1 AND revision = ?2",
                params![job.incident, job.revision],
            )?;
            // A later revision that waits keeps its own stage.
            transaction.execute(
                "UPDATE incident SET stage = 'reported', updated_at = ?3 WHERE id = ?1 AND revision = ?2",
                params![job.incident, job.revision, now],
            )?;
            if inserted > 0 {
                audit::append(transaction, finished.fact(&json))?;
                effects::of_report(transaction, &policy, report, now)?;
            }
            Ok(inserted > 0)
        })
        .await
    }

    /// Puts a job back for later, or gives it up after [`MAX_ATTEMPTS`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn fail(
        &self,
        job: &Job,
        error: String,
        retry_after: Duration,
    ) -> Result<(), StoreError> {
        let job = job.clone();
        let given_up = job.attempt >= MAX_ATTEMPTS;
        let retry_after = i64::try_from(retry_after.as_millis()).unwrap_or(i64::MAX / 4);
        self.write(move |transaction| {
            let (now, state) = (now(), if given_up { "failed" } else { "queued" });
            transaction.execute(
                "UPDATE job SET state = ?3, error = ?4, not_before = ?5 WHERE incident_id = ?1 AND revision = ?2",
                params![job.incident, job.revision, state, error, now + retry_after],
            )?;
            if given_up {
                transaction.execute(
                    "UPDATE incident SET stage = 'failed', updated_at = ?2 WHERE id = ?1",
                    params![job.incident, now],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Jobs that are not done, by state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn job_counts(&self) -> Result<JobCounts, StoreError> {
        self.call(|connection| {
            let mut counts = JobCounts::default();
            let mut query = connection
                .prepare_cached("SELECT state, count(*) FROM job WHERE state <> 'done' GROUP BY state")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let (state, count): (String, i64) = (row.get(0)?, row.get(1)?);
                match state.as_str() {
                    "queued" => counts.queued = count,
                    "running" => counts.running = count,
                    _ => counts.failed = count,
                }
            }
            Ok(counts)
        })
        .await
    }
}
