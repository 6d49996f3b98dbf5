//! Which effects come of what: a report, the end of an incident, its return, a change of what its message shows. Each is
//! put into the outbox in the transaction that makes it due, so that neither is there without the other.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::approvals;
use crate::action::{Action, Lane, Occasion};
use crate::audit::{self, Fact};
use crate::metrics::Label as _;
use crate::policy::{self, Decision, History, Policy, Verdict};
use crate::report::Report;
use crate::signal::digest;

/// An incident that keeps coming back is told to be over after at most this many doublings of the delay.
const MAX_DOUBLINGS: u32 = 6;
/// Day of the cap on retrainings, in milliseconds.
const DAY: i64 = 24 * 3_600_000;

/// A call to a service outside that has become due.
struct Due<'a> {
    incident: &'a str,
    revision: u32,
    action: Action,
    occasion: Occasion,
    /// Tells effects of the same incident, action and occasion apart.
    number: u32,
    model: Option<&'a str>,
    /// Channel, repository or workflow.
    target: &'a str,
    state: &'static str,
    not_before: i64,
}

/// Decides what a report leads to, keeps the decisions with their reasons, and makes the effects due.
pub(super) fn of_report(
    transaction: &Transaction<'_>,
    policy: &Policy,
    report: &Report,
    now: i64,
) -> rusqlite::Result<()> {
    let incident = report.incident.id.as_str();
    approvals::supersede(transaction, incident, now)?;
    let history = history(transaction, report, now)?;
    for decision in policy::decide(policy, report, &history, now) {
        keep(transaction, report, &decision, now)?;
        if decision.verdict != Verdict::Held {
            make_due(transaction, policy, report, &decision, now)?;
        }
    }
    Ok(())
}

fn history(transaction: &Transaction<'_>, report: &Report, now: i64) -> rusqlite::Result<History> {
    let has = |action: Action| -> rusqlite::Result<bool> {
        transaction
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM effect WHERE incident_id = ?1 AND action = ?2 AND state <> 'cancelled')",
            )?
            .query_row(params![report.incident.id, action.label()], |row| row.get(0))
    };
    let retrain = Action::RetrainDispatch.label();
    Ok(History {
        message: has(Action::SlackMessage)?,
        issue: has(Action::GithubIssue)?,
        retrain: has(Action::RetrainDispatch)?,
        is_over: transaction
            .prepare_cached("SELECT resolved_at IS NOT NULL FROM incident WHERE id = ?1")?
            .query_row([&report.incident.id], |row| row.get(0))?,
        last_retrain: transaction
            .prepare_cached(
                "SELECT max(created_at) FROM effect WHERE action = ?1 AND model = ?2 AND state <> 'cancelled'",
            )?
            .query_row(params![retrain, report.incident.model], |row| row.get(0))?,
        retrains_of_the_day: transaction
            .prepare_cached(
                "SELECT count(*) FROM effect WHERE action = ?1 AND created_at > ?2 AND state <> 'cancelled'",
            )?
            .query_row(params![retrain, now - DAY], |row| row.get(0))?,
    })
}

fn keep(
    transaction: &Transaction<'_>,
    report: &Report,
    decision: &Decision,
    now: i64,
) -> rusqlite::Result<()> {
    let reasons = serde_json::to_string(&decision.reasons).unwrap_or_default();
    transaction
        .prepare_cached(
            "INSERT INTO decision (incident_id, revision, action, verdict, reasons, decided_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            report.incident.id,
            report.revision,
            decision.action.label(),
            decision.verdict.as_str(),
            reasons,
            now
        ])?;
    audit::append(
        transaction,
        Fact::Decision {
            incident: report.incident.id.clone(),
            revision: report.revision,
            action: decision.action.label().to_owned(),
            verdict: decision.verdict.as_str().to_owned(),
            reasons: decision.reasons.clone(),
        },
    )
}

fn make_due(
    transaction: &Transaction<'_>,
    policy: &Policy,
    report: &Report,
    decision: &Decision,
    now: i64,
) -> rusqlite::Result<()> {
    let target = match decision.action.lane() {
        Lane::Slack => policy.slack.clone(),
        Lane::GithubIssues => policy.issues.as_ref().map(ToString::to_string),
        Lane::GithubActions => policy
            .retrain
            .as_ref()
            .map(|retrain| retrain.workflow.to_string()),
    };
    // Policy holds back whatever has nowhere to go.
    let Some(target) = target else {
        return Ok(());
    };
    let due = Due {
        incident: &report.incident.id,
        revision: report.revision,
        action: decision.action,
        occasion: Occasion::Report,
        // An incident has one message and one issue, whatever the revision that asked for it.
        number: match decision.action {
            Action::SlackMessage | Action::GithubIssue => 0,
            _ => report.revision,
        },
        model: report.incident.model.as_deref(),
        target: &target,
        state: match decision.verdict {
            Verdict::NeedsApproval => "waiting",
            Verdict::Allowed | Verdict::Held => "queued",
        },
        not_before: now,
    };
    let Some(effect) = insert(transaction, &due, now)? else {
        return Ok(());
    };
    if decision.action == Action::SlackReply {
        refresh(transaction, &report.incident.id, now)?;
    }
    if let (Verdict::NeedsApproval, Some(retrain)) = (decision.verdict, &policy.retrain) {
        let expiry = i64::try_from(retrain.expiry.as_millis()).unwrap_or(i64::MAX / 4);
        approvals::ask(transaction, effect, now, now + expiry)?;
    }
    Ok(())
}

/// Puts an effect into the outbox; none when it is there already.
fn insert(transaction: &Transaction<'_>, due: &Due<'_>, now: i64) -> rusqlite::Result<Option<i64>> {
    let number = due.number.to_string();
    let key = digest(&[due.incident, due.action.label(), due.occasion.as_str(), &number])[..32].to_owned();
    transaction
        .prepare_cached(
            "INSERT INTO effect (incident_id, revision, action, lane, key, occasion, model, target, state, uncertain,
                 attempts, not_before, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0, ?10, ?11, ?11)
             ON CONFLICT (key) DO NOTHING RETURNING id",
        )?
        .query_row(
            params![
                due.incident,
                due.revision,
                due.action.label(),
                due.action.lane().label(),
                key,
                due.occasion.as_str(),
                due.model,
                due.target,
                due.state,
                due.not_before,
                now,
            ],
            |row| row.get(0),
        )
        .optional()
}

/// The signals of an incident have stopped: told in its thread and on its issue, unless it comes back before that.
pub(super) fn of_recovery(
    transaction: &Transaction<'_>,
    policy: &Policy,
    incident: &str,
    now: i64,
) -> rusqlite::Result<()> {
    let (revision, reopened): (u32, u32) = transaction
        .prepare_cached("SELECT revision, reopened FROM incident WHERE id = ?1")?
        .query_row([incident], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let delay = policy
        .recovery_delay
        .saturating_mul(1 << reopened.min(MAX_DOUBLINGS));
    let not_before = now + millis(delay);
    for (first, follow_ups) in [
        (
            Action::SlackMessage,
            &[Action::SlackReply, Action::SlackUpdate][..],
        ),
        (Action::GithubIssue, &[Action::GithubComment][..]),
    ] {
        let Some(target) = target_of(transaction, incident, first)? else {
            continue;
        };
        for action in follow_ups {
            let due = Due {
                incident,
                revision,
                action: *action,
                occasion: Occasion::Recovered,
                number: reopened,
                model: None,
                target: &target,
                state: "queued",
                not_before,
            };
            insert(transaction, &due, now)?;
        }
    }
    Ok(())
}

/// An incident that was over fires again: what was not told yet need not be, and what was is corrected.
pub(super) fn of_return(transaction: &Transaction<'_>, incident: &str, now: i64) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE effect SET state = 'cancelled', updated_at = ?2
         WHERE incident_id = ?1 AND occasion = 'recovered' AND state = 'queued' AND uncertain = 0",
        params![incident, now],
    )?;
    transaction.execute(
        "UPDATE incident SET reopened = reopened + 1 WHERE id = ?1",
        [incident],
    )?;
    let told: bool = transaction
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM effect
                 WHERE incident_id = ?1 AND occasion = 'recovered' AND lane = 'slack' AND state <> 'cancelled')",
        )?
        .query_row([incident], |row| row.get(0))?;
    if told {
        refresh(transaction, incident, now)?;
    }
    Ok(())
}

/// Brings the incident's message up to date, where it has one.
pub(super) fn refresh(transaction: &Transaction<'_>, incident: &str, now: i64) -> rusqlite::Result<()> {
    let Some(target) = target_of(transaction, incident, Action::SlackMessage)? else {
        return Ok(());
    };
    // One that has not begun will show this, too.
    let (waits, number): (bool, u32) = transaction
        .prepare_cached(
            "SELECT coalesce(max(state = 'queued' AND attempts = 0 AND occasion <> 'recovered'
                     AND action IN ('slack_message', 'slack_update')), 0),
                 coalesce(sum(occasion = 'status'), 0)
             FROM effect WHERE incident_id = ?1 AND lane = 'slack'",
        )?
        .query_row([incident], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if waits {
        return Ok(());
    }
    let revision: u32 = transaction
        .prepare_cached("SELECT revision FROM incident WHERE id = ?1")?
        .query_row([incident], |row| row.get(0))?;
    let due = Due {
        incident,
        revision,
        action: Action::SlackUpdate,
        occasion: Occasion::Status,
        number,
        model: None,
        target: &target,
        state: "queued",
        not_before: now,
    };
    insert(transaction, &due, now)?;
    Ok(())
}

/// Where the incident's message or issue is, or will be.
fn target_of(
    transaction: &Transaction<'_>,
    incident: &str,
    action: Action,
) -> rusqlite::Result<Option<String>> {
    transaction
        .prepare_cached(
            "SELECT target FROM effect WHERE incident_id = ?1 AND action = ?2 AND state <> 'cancelled'",
        )?
        .query_row(params![incident, action.label()], |row| row.get(0))
        .optional()
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}
