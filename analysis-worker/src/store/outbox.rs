//! The outbox: effects that wait for their turn, are being made, or came to their end.
//!
//! Only one process has the store, and it makes the effects of a lane one after the other: an effect that is `sending` when
//! the store is opened belongs to a process that is gone, and may have gone through.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::effects::refresh;
use super::{Store, StoreError};
use crate::action::{Action, Lane, Occasion, Receipt};
use crate::audit::{self, Fact};
use crate::metrics::Label as _;
use crate::signal::now;

/// Tries of one effect before it is given up: about two hours of a service that is away.
pub(crate) const MAX_TRIES: u32 = 16;
/// Longest wait between two tries, unless the service asks for more.
const MAX_BACKOFF: Duration = Duration::from_mins(15);

/// A claimed effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) id: i64,
    pub(crate) incident: String,
    pub(crate) revision: u32,
    pub(crate) action: Action,
    pub(crate) occasion: Occasion,
    /// Stands in what it makes outside.
    pub(crate) key: String,
    pub(crate) model: Option<String>,
    pub(crate) target: String,
    /// An earlier try may have gone through: look before making it.
    pub(crate) uncertain: bool,
    /// This try, from 1.
    pub(crate) attempt: u32,
    /// When it was first tried, in milliseconds since 1970: nothing of it is outside from before.
    pub(crate) tried_at: i64,
}

/// Why a try came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// One line.
    pub(crate) error: String,
    /// Whether the effect may be there all the same: the answer was not seen.
    pub(crate) uncertain: bool,
    pub(crate) retry: Retry,
}

/// Whether a further try can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Not before the time that the service asked for, if it did.
    After(Option<Duration>),
    Never,
}

/// What became of a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Again(Duration),
    Dead,
}

/// Effects that are not at their end, by action and state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EffectCount {
    pub(crate) action: Action,
    pub(crate) state: String,
    pub(crate) count: i64,
}

/// What a process that is gone was about to make may be there already. The service gets time to end what it had begun.
pub(super) fn requeue_all(connection: &Connection) -> rusqlite::Result<()> {
    let now = now();
    connection.execute(
        "UPDATE effect SET state = 'queued', uncertain = 1, not_before = ?1
         WHERE state = 'sending' AND lane <> 'github_actions'",
        [now + millis(settling(Lane::Slack))],
    )?;
    connection.execute(
        "UPDATE effect SET state = 'queued', uncertain = 1, not_before = ?1 WHERE state = 'sending'",
        [now + millis(settling(Lane::GithubActions))],
    )?;
    Ok(())
}

/// Time after which what a service was doing for a lost request can be seen. A dispatched run appears some seconds later.
const fn settling(lane: Lane) -> Duration {
    match lane {
        Lane::Slack | Lane::GithubIssues => Duration::from_secs(2),
        Lane::GithubActions => Duration::from_secs(15),
    }
}

impl Store {
    /// Takes the next effect of a lane that is due.
    ///
    /// Effects of one incident keep their order; nothing follows a message or an issue that could not be made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn claim_effect(&self, lane: Lane) -> Result<Option<Effect>, StoreError> {
        self.write(move |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE effect SET state = 'sending', attempts = attempts + 1, updated_at = ?2,
                         tried_at = coalesce(tried_at, ?2)
                     WHERE id = (
                         SELECT id FROM effect AS next
                         WHERE lane = ?1 AND state = 'queued' AND not_before <= ?2 AND NOT EXISTS (
                             SELECT 1 FROM effect AS earlier
                             WHERE earlier.incident_id = next.incident_id AND earlier.lane = next.lane
                                 AND earlier.id < next.id
                                 AND (earlier.state IN ('queued', 'sending') AND earlier.occasion <> 'recovered'
                                     OR earlier.state = 'dead' AND earlier.action IN ('slack_message', 'github_issue')))
                         ORDER BY id LIMIT 1)
                     RETURNING id, incident_id, revision, action, occasion, key, model, target, uncertain, attempts,
                         tried_at",
                )?
                .query_row(params![lane.label(), now()], effect)
                .optional()
        })
        .await
    }

    /// The effect is made: kept with where it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn effect_done(&self, effect: &Effect, receipt: Receipt) -> Result<(), StoreError> {
        let effect = effect.clone();
        self.write(move |transaction| {
            let now = now();
            let json = serde_json::to_string(&receipt).unwrap_or_default();
            transaction.execute(
                "UPDATE effect SET state = 'done', receipt = ?2, error = NULL, uncertain = 0, updated_at = ?3
                 WHERE id = ?1",
                params![effect.id, json, now],
            )?;
            audit::append(transaction, ended(&effect, "done", Some(json), None))?;
            // The message tells where the issue is, and that the training was started.
            if matches!(effect.action, Action::GithubIssue | Action::RetrainDispatch) {
                refresh(transaction, &effect.incident, now)?;
            }
            Ok(())
        })
        .await
    }

    /// The try came to nothing: put back for later, or given up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn effect_failed(&self, effect: &Effect, failure: Failure) -> Result<Fate, StoreError> {
        let effect = effect.clone();
        self.write(move |transaction| {
            let now = now();
            let fate = fate(&effect, &failure);
            let (state, wait) = match fate {
                Fate::Again(wait) => ("queued", wait),
                Fate::Dead => ("dead", Duration::ZERO),
            };
            transaction.execute(
                "UPDATE effect SET state = ?2, uncertain = ?3, not_before = ?4, error = ?5, updated_at = ?6
                 WHERE id = ?1",
                params![
                    effect.id,
                    state,
                    failure.uncertain,
                    now + millis(wait),
                    failure.error,
                    now
                ],
            )?;
            if fate == Fate::Dead {
                audit::append(transaction, ended(&effect, "dead", None, Some(failure.error)))?;
            }
            Ok(fate)
        })
        .await
    }

    /// Puts a dead effect into the queue again, with all its tries; it is looked for first. None when it is not dead.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn retry_effect(&self, id: i64, actor: String) -> Result<Option<String>, StoreError> {
        self.write(move |transaction| {
            let now = now();
            let effect = transaction
                .prepare_cached(
                    "UPDATE effect SET state = 'queued', uncertain = 1, attempts = 0, not_before = ?2, updated_at = ?2
                     WHERE id = ?1 AND state = 'dead'
                     RETURNING id, incident_id, revision, action, occasion, key, model, target, uncertain, attempts,
                         tried_at",
                )?
                .query_row(params![id, now], effect)
                .optional()?;
            let Some(effect) = effect else {
                return Ok(None);
            };
            let mut fact = ended(&effect, "retried", None, None);
            if let Fact::Effect { actor: by, .. } = &mut fact {
                *by = Some(actor);
            }
            audit::append(transaction, fact)?;
            Ok(Some(effect.incident))
        })
        .await
    }

    /// Effects that are not at their end, and those that were given up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn effect_counts(&self) -> Result<Vec<EffectCount>, StoreError> {
        self.call(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT action, iif(state = 'sending', 'queued', state), count(*) FROM effect
                 WHERE state IN ('waiting', 'queued', 'sending', 'dead') GROUP BY 1, 2",
            )?;
            let rows = query.query_map([], |row| {
                let action: String = row.get(0)?;
                let state = row.get(1)?;
                let count = row.get(2)?;
                Ok(Action::parse(&action).map(|action| EffectCount { action, state, count }))
            })?;
            rows.filter_map(Result::transpose).collect()
        })
        .await
    }
}

pub(super) fn receipt_of(
    connection: &Connection,
    incident: &str,
    action: Action,
) -> rusqlite::Result<Option<Receipt>> {
    let receipt: Option<String> = connection
        .prepare_cached(
            "SELECT receipt FROM effect WHERE incident_id = ?1 AND action = ?2 AND state = 'done'",
        )?
        .query_row(params![incident, action.label()], |row| row.get(0))
        .optional()?
        .flatten();
    Ok(receipt.and_then(|json| serde_json::from_str(&json).ok()))
}

fn effect(row: &Row<'_>) -> rusqlite::Result<Effect> {
    let (action, occasion): (String, String) = (row.get(3)?, row.get(4)?);
    let unknown = |column| {
        rusqlite::Error::InvalidColumnType(column, "unknown name".to_owned(), rusqlite::types::Type::Text)
    };
    Ok(Effect {
        id: row.get(0)?,
        incident: row.get(1)?,
        revision: row.get(2)?,
        action: Action::parse(&action).ok_or_else(|| unknown(3))?,
        occasion: Occasion::parse(&occasion).ok_or_else(|| unknown(4))?,
        key: row.get(5)?,
        model: row.get(6)?,
        target: row.get(7)?,
        uncertain: row.get(8)?,
        attempt: row.get(9)?,
        tried_at: row.get(10)?,
    })
}

fn fate(effect: &Effect, failure: &Failure) -> Fate {
    let Retry::After(asked) = failure.retry else {
        return Fate::Dead;
    };
    if effect.attempt >= MAX_TRIES {
        return Fate::Dead;
    }
    let mut wait = backoff(effect.attempt).max(asked.unwrap_or_default());
    if failure.uncertain {
        wait = wait.max(settling(effect.action.lane()));
    }
    Fate::Again(wait)
}

/// 1 s, 2 s, 4 s … up to [`MAX_BACKOFF`], each up to a quarter longer.
fn backoff(attempt: u32) -> Duration {
    let wait = Duration::from_secs(1 << (attempt.saturating_sub(1)).min(16)).min(MAX_BACKOFF);
    wait + wait.mul_f64(fastrand::f64() / 4.0)
}

fn ended(effect: &Effect, state: &str, receipt: Option<String>, error: Option<String>) -> Fact {
    Fact::Effect {
        incident: effect.incident.clone(),
        revision: effect.revision,
        action: effect.action.label().to_owned(),
        key: effect.key.clone(),
        state: state.to_owned(),
        attempts: effect.attempt,
        receipt,
        error,
        actor: None,
    }
}

/// Takes an effect that waited for a person out of the outbox.
pub(super) fn cancel(transaction: &Transaction<'_>, id: i64, now: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE effect SET state = 'cancelled', updated_at = ?2 WHERE id = ?1 AND state = 'waiting'",
        )?
        .execute(params![id, now])?;
    Ok(())
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}
