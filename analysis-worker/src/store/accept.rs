//! Commits signals: each once, each with its incident, and with a job when somebody has to look.

use std::sync::Arc;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::backfill::same_alert;
use super::{Store, StoreError, effects, ledger};
use crate::policy::Policy;
use crate::signal::{Signal, Status, digest, now};

/// Age from which an incident is not opened again: trouble that keeps coming back is told anew once a day.
const MAX_REOPEN_AGE: i64 = 24 * 3_600_000;

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Signals that were not known.
    pub(crate) new: u64,
    /// Signals that were: repetitions, second deliveries.
    pub(crate) duplicates: u64,
    /// Ids of the incidents that they belong to, without repetitions.
    pub(crate) incidents: Vec<String>,
    /// Analyses that were asked for.
    pub(crate) jobs: u64,
    /// Incidents that ended.
    pub(crate) resolved: Vec<String>,
}

impl Store {
    /// Commits all signals or none.
    ///
    /// # Errors
    /// [`StoreError`]; the sender has to come again.
    pub(crate) async fn accept(&self, signals: Vec<Signal>) -> Result<Accepted, StoreError> {
        let policy = Arc::clone(&self.policy);
        self.write(move |transaction| {
            let mut accepted = Accepted::default();
            ledger::received(transaction, signals.len())?;
            for signal in &signals {
                let incident = accept(transaction, &policy, signal, &mut accepted)?;
                if !accepted.incidents.contains(&incident) {
                    accepted.incidents.push(incident);
                }
            }
            Ok(accepted)
        })
        .await
    }
}

impl Store {
    /// Ends what still fires of the open incident of `key`, as far as it began at `at` or before. Without such an
    /// incident nothing happens.
    ///
    /// # Errors
    /// [`StoreError`]; the sender has to come again.
    pub(crate) async fn recover(&self, key: String, at: i64) -> Result<Accepted, StoreError> {
        let policy = Arc::clone(&self.policy);
        self.write(move |transaction| {
            let mut accepted = Accepted::default();
            let firing: Vec<(i64, String)> = transaction
                .prepare_cached(
                    "SELECT signal.id, incident.id FROM signal JOIN incident ON incident.id = signal.incident_id
                     WHERE incident.key = ?1 AND incident.resolved_at IS NULL
                         AND signal.status = 'firing' AND signal.starts_at <= ?2",
                )?
                .query_map(params![key, at], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            for (signal, incident) in firing {
                end_signal(transaction, signal, at)?;
                close_if_over(transaction, &policy, &incident, now(), &mut accepted)?;
            }
            Ok(accepted)
        })
        .await
    }
}

fn accept(
    transaction: &Transaction<'_>,
    policy: &Policy,
    signal: &Signal,
    accepted: &mut Accepted,
) -> rusqlite::Result<String> {
    let now = now();
    let known: Option<(i64, String, String)> = transaction
        .prepare_cached("SELECT id, incident_id, status FROM signal WHERE dedup_key = ?1")?
        .query_row([&signal.dedup_key], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let known = match known {
        Some(known) => Some(known),
        None => same_alert(transaction, signal)?,
    };
    if let Some((id, incident, status)) = known {
        transaction.execute(
            "UPDATE signal SET times_seen = times_seen + 1, last_seen_at = ?2 WHERE id = ?1",
            params![id, now],
        )?;
        let ends = status == Status::Firing.as_str() && signal.status == Status::Resolved;
        if ends {
            end_signal(transaction, id, signal.ends_at.unwrap_or(now))?;
            close_if_over(transaction, policy, &incident, now, accepted)?;
        } else {
            accepted.duplicates += 1;
        }
        return Ok(incident);
    }
    accepted.new += 1;
    let (incident, revision) = incident_for(transaction, policy, signal, now, accepted)?;
    transaction.execute(
        "INSERT INTO signal (incident_id, dedup_key, episode, origin, status, title, starts_at, ends_at, received_at,
             last_seen_at, times_seen, body, revision) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, 1, ?10, ?11)",
        params![
            incident,
            signal.dedup_key,
            signal.episode,
            signal.origin.as_str(),
            signal.status.as_str(),
            signal.title,
            signal.starts_at,
            signal.ends_at,
            now,
            signal.body.to_string(),
            revision,
        ],
    )?;
    if signal.status == Status::Resolved {
        if let Some(episode) = &signal.episode {
            let firing: Vec<i64> = transaction
                .prepare_cached("SELECT id FROM signal WHERE episode = ?1 AND status = 'firing'")?
                .query_map([episode], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for id in firing {
                end_signal(transaction, id, signal.ends_at.unwrap_or(now))?;
            }
        }
        close_if_over(transaction, policy, &incident, now, accepted)?;
    }
    Ok(incident)
}

/// The incident that a new signal belongs to: that of its episode, the open one of its key, the last one when the
/// signal began before that ended (told late) or soon after (the trouble is back), or a new one. With the revision of
/// the report that covers the signal, when one does.
fn incident_for(
    transaction: &Transaction<'_>,
    policy: &Policy,
    signal: &Signal,
    now: i64,
    accepted: &mut Accepted,
) -> rusqlite::Result<(String, Option<u32>)> {
    let of_episode: Option<String> = transaction
        .prepare_cached("SELECT incident_id FROM signal WHERE episode = ?1 LIMIT 1")?
        .query_row([&signal.episode], |row| row.get(0))
        .optional()?;
    let known = match of_episode {
        Some(incident) => Some(incident),
        None => transaction
            .prepare_cached(
                "SELECT id FROM incident WHERE key = ?1 AND (resolved_at IS NULL OR resolved_at >= ?2
                     OR resolved_at >= ?3 AND started_at >= ?4)
                 ORDER BY resolved_at IS NULL DESC, resolved_at DESC LIMIT 1",
            )?
            .query_row(
                params![
                    signal.incident.digest,
                    signal.starts_at,
                    signal.starts_at
                        - i64::try_from(policy.reopen_window.as_millis()).unwrap_or(i64::MAX / 4),
                    signal.starts_at - MAX_REOPEN_AGE,
                ],
                |row| row.get(0),
            )
            .optional()?,
    };
    match known {
        Some(incident) => {
            let revision = join(transaction, &incident, signal, now, accepted)?;
            Ok((incident, revision))
        }
        None => Ok((open(transaction, signal, now, accepted)?, Some(1))),
    }
}

fn open(
    transaction: &Transaction<'_>,
    signal: &Signal,
    now: i64,
    accepted: &mut Accepted,
) -> rusqlite::Result<String> {
    let id = digest(&[&signal.incident.digest, &signal.dedup_key])[..12].to_owned();
    transaction.execute(
        "INSERT INTO incident (id, key, kind, model, title, urgency, stage, started_at, received_at, updated_at,
             weight, revision) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'received', ?7, ?8, ?8, ?9, 1)",
        params![
            id,
            signal.incident.digest,
            signal.incident.kind,
            signal.incident.model,
            signal.title,
            signal.urgency.as_str(),
            signal.starts_at,
            now,
            signal.weight,
        ],
    )?;
    ask(transaction, &id, 1, now, accepted)?;
    Ok(id)
}

/// Adds what a further signal says to its incident: it may be worse, or tell more than those before. Returns the
/// revision of the report that covers it, when one does.
fn join(
    transaction: &Transaction<'_>,
    id: &str,
    signal: &Signal,
    now: i64,
    accepted: &mut Accepted,
) -> rusqlite::Result<Option<u32>> {
    if signal.status == Status::Resolved {
        return Ok(None);
    }
    let (weight, revision, was_over): (i64, u32, bool) = transaction
        .prepare_cached("SELECT weight, revision, resolved_at IS NOT NULL FROM incident WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    // 'P0' < 'P1' < 'P2' as texts, too. A signal that still fires opens an incident again that was over.
    transaction.execute(
        "UPDATE incident SET urgency = min(urgency, ?2), started_at = min(started_at, ?3), resolved_at = NULL,
             updated_at = ?4 WHERE id = ?1",
        params![id, signal.urgency.as_str(), signal.starts_at, now],
    )?;
    if was_over {
        effects::of_return(transaction, id, now)?;
    }
    // A job that has not begun will see this signal anyway.
    let waits: bool = transaction
        .prepare_cached("SELECT count(*) FROM job WHERE incident_id = ?1 AND revision = ?2 AND state = 'queued' AND attempts = 0")?
        .query_row(params![id, revision], |row| row.get::<_, i64>(0))?
        > 0;
    if signal.weight <= weight {
        return Ok(waits.then_some(revision));
    }
    let next = if waits { revision } else { revision + 1 };
    transaction.execute(
        "UPDATE incident SET weight = ?2, revision = ?3, title = ?4 WHERE id = ?1",
        params![id, signal.weight, next, signal.title],
    )?;
    if !waits {
        transaction.execute("UPDATE incident SET stage = 'received' WHERE id = ?1", [id])?;
        ask(transaction, id, next, now, accepted)?;
    }
    Ok(Some(next))
}

fn ask(
    transaction: &Transaction<'_>,
    incident: &str,
    revision: u32,
    now: i64,
    accepted: &mut Accepted,
) -> rusqlite::Result<()> {
    accepted.jobs += 1;
    transaction.execute(
        "INSERT INTO job (incident_id, revision, state, attempts, not_before, lease_until, created_at)
         VALUES (?1, ?2, 'queued', 0, 0, 0, ?3)",
        params![incident, revision, now],
    )?;
    Ok(())
}

fn end_signal(transaction: &Transaction<'_>, id: i64, at: i64) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE signal SET status = 'resolved', ends_at = ?2 WHERE id = ?1",
        params![id, at],
    )?;
    Ok(())
}

/// An incident is over when none of its signals fires any more.
fn close_if_over(
    transaction: &Transaction<'_>,
    policy: &Policy,
    incident: &str,
    now: i64,
    accepted: &mut Accepted,
) -> rusqlite::Result<()> {
    let closed = transaction.execute(
        "UPDATE incident SET updated_at = ?2, resolved_at = coalesce(
             (SELECT max(ends_at) FROM signal WHERE incident_id = ?1), ?2)
         WHERE id = ?1 AND resolved_at IS NULL
             AND NOT EXISTS (SELECT 1 FROM signal WHERE incident_id = ?1 AND status = 'firing')",
        params![incident, now],
    )?;
    if closed > 0 {
        effects::of_recovery(transaction, policy, incident, now)?;
        accepted.resolved.push(incident.to_owned());
    }
    Ok(())
}
