//! Requests for approval: bound to one action of one revision, decided once, by a named person, before they expire.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::effects::refresh;
use super::outbox::cancel;
use super::{Store, StoreError};
use crate::audit::{self, Fact};
use crate::signal::{digest, now, rfc3339};

/// What a person says to an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Approve,
    Reject,
}

/// A person's decision, as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ballot {
    /// The effect that waits.
    pub(crate) effect: i64,
    /// Digest of the action that the person was shown.
    pub(crate) digest: String,
    pub(crate) choice: Choice,
    /// Who it was: `slack:U0123`, `console:name`.
    pub(crate) actor: String,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// It counts.
    Taken { incident: String },
    /// It does not, for this reason; nothing has changed.
    Refused(String),
}

/// Asks for approval of a waiting effect.
pub(super) fn ask(
    transaction: &Transaction<'_>,
    effect: i64,
    now: i64,
    expires_at: i64,
) -> rusqlite::Result<()> {
    let digest = action_digest(transaction, effect)?;
    transaction.execute(
        "INSERT INTO approval (effect_id, incident_id, revision, digest, state, created_at, expires_at)
         SELECT id, incident_id, revision, ?2, 'waiting', ?3, ?4 FROM effect WHERE id = ?1",
        params![effect, digest, now, expires_at],
    )?;
    Ok(())
}

/// Digest of everything that the effect will do.
fn action_digest(transaction: &Transaction<'_>, effect: i64) -> rusqlite::Result<String> {
    transaction
        .prepare_cached(
            "SELECT incident_id, revision, action, target, coalesce(model, ''), key FROM effect WHERE id = ?1",
        )?
        .query_row([effect], |row| {
            let revision: u32 = row.get(1)?;
            let [incident, action, target, model, key]: [String; 5] =
                [row.get(0)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?];
            let revision = revision.to_string();
            Ok(digest(&[&incident, &revision, &action, &target, &model, &key]))
        })
}

/// A later report asks anew: what waits for the incident's earlier ones is void.
pub(super) fn supersede(transaction: &Transaction<'_>, incident: &str, now: i64) -> rusqlite::Result<()> {
    let waiting: Vec<i64> = transaction
        .prepare_cached("SELECT effect_id FROM approval WHERE incident_id = ?1 AND state = 'waiting'")?
        .query_map([incident], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for effect in waiting {
        end(transaction, effect, "superseded", None, now)?;
    }
    Ok(())
}

/// Ends a request that waits.
fn end(
    transaction: &Transaction<'_>,
    effect: i64,
    state: &'static str,
    actor: Option<&str>,
    now: i64,
) -> rusqlite::Result<()> {
    let (incident, revision, action_digest): (String, u32, String) = transaction
        .prepare_cached(
            "UPDATE approval SET state = ?2, decided_at = ?3, actor = ?4 WHERE effect_id = ?1
             RETURNING incident_id, revision, digest",
        )?
        .query_row(params![effect, state, now, actor], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    if state == "approved" {
        transaction
            .prepare_cached(
                "UPDATE effect SET state = 'queued', not_before = ?2, updated_at = ?2 WHERE id = ?1 AND state = 'waiting'",
            )?
            .execute(params![effect, now])?;
    } else {
        cancel(transaction, effect, now)?;
    }
    audit::append(
        transaction,
        Fact::Approval {
            incident: incident.clone(),
            revision,
            action_digest,
            state: state.to_owned(),
            actor: actor.map(str::to_owned),
        },
    )?;
    refresh(transaction, &incident, now)
}

struct Request {
    incident: String,
    digest: String,
    state: String,
    expires_at: i64,
    decided_at: Option<i64>,
    actor: Option<String>,
    is_over: bool,
}

impl Store {
    /// Counts a person's decision, when the request still stands and the person saw what would be done.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn vote(&self, ballot: Ballot) -> Result<Counted, StoreError> {
        self.write(move |transaction| {
            let now = now();
            let request = transaction
                .prepare_cached(
                    "SELECT incident_id, digest, state, expires_at, decided_at, actor,
                         (SELECT resolved_at IS NOT NULL FROM incident WHERE incident.id = incident_id)
                     FROM approval WHERE effect_id = ?1",
                )?
                .query_row([ballot.effect], |row| {
                    Ok(Request {
                        incident: row.get(0)?,
                        digest: row.get(1)?,
                        state: row.get(2)?,
                        expires_at: row.get(3)?,
                        decided_at: row.get(4)?,
                        actor: row.get(5)?,
                        is_over: row.get(6)?,
                    })
                })
                .optional()?;
            let Some(request) = request else {
                return Ok(Counted::Refused(
                    "there is no such request for approval".to_owned(),
                ));
            };
            if let Some(reason) = refusal(transaction, &request, &ballot, now)? {
                return Ok(Counted::Refused(reason));
            }
            let state = match ballot.choice {
                Choice::Approve => "approved",
                Choice::Reject => "rejected",
            };
            end(transaction, ballot.effect, state, Some(&ballot.actor), now)?;
            Ok(Counted::Taken {
                incident: request.incident,
            })
        })
        .await
    }

    /// Ends requests that nobody decided in time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn expire_approvals(&self) -> Result<usize, StoreError> {
        self.write(|transaction| {
            let now = now();
            let expired: Vec<i64> = transaction
                .prepare_cached(
                    "SELECT effect_id FROM approval WHERE state = 'waiting' AND expires_at <= ?1",
                )?
                .query_map([now], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for effect in &expired {
                end(transaction, *effect, "expired", None, now)?;
            }
            Ok(expired.len())
        })
        .await
    }

    /// Keeps what a person says of a report; a later word of the same person replaces the earlier one. False when there
    /// is no such report.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn judge(
        &self,
        incident: String,
        revision: u32,
        verdict: &'static str,
        actor: String,
    ) -> Result<bool, StoreError> {
        self.write(move |transaction| {
            let now = now();
            let known: bool = transaction
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM report WHERE incident_id = ?1 AND revision = ?2)")?
                .query_row(params![incident, revision], |row| row.get(0))?;
            if !known {
                return Ok(false);
            }
            transaction.execute(
                "INSERT INTO verdict (incident_id, revision, actor, verdict, given_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (incident_id, revision, actor) DO UPDATE SET verdict = ?4, given_at = ?5",
                params![incident, revision, actor, verdict, now],
            )?;
            audit::append(
                transaction,
                Fact::Verdict {
                    incident: incident.clone(),
                    revision,
                    verdict: verdict.to_owned(),
                    actor,
                },
            )?;
            refresh(transaction, &incident, now)?;
            Ok(true)
        })
        .await
    }
}

/// Why a decision does not count; none when it does.
fn refusal(
    transaction: &Transaction<'_>,
    request: &Request,
    ballot: &Ballot,
    now: i64,
) -> rusqlite::Result<Option<String>> {
    if request.state != "waiting" {
        let at = rfc3339(request.decided_at.unwrap_or(now));
        let by = request
            .actor
            .as_deref()
            .map_or_else(String::new, |actor| format!(" by {actor}"));
        return Ok(Some(format!("the request is {}{by} since {at}", request.state)));
    }
    if request.expires_at <= now {
        return Ok(Some(format!(
            "the request expired at {}",
            rfc3339(request.expires_at)
        )));
    }
    // What was shown, and what would be done now.
    if ballot.digest != request.digest || action_digest(transaction, ballot.effect)? != request.digest {
        return Ok(Some("the action is not the one that was shown".to_owned()));
    }
    if request.is_over && ballot.choice == Choice::Approve {
        return Ok(Some("the incident is over".to_owned()));
    }
    Ok(None)
}
