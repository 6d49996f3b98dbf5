//! The audit log: what came in, what was said about it, what was decided and done. Each entry's hash covers the entry
//! before it, so that a change, a gap or an insertion shows; whoever keeps the last hash also sees a cut end.

mod command;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::signal::{digest, now, rfc3339};

pub(crate) use command::{Task, run};

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Fact {
    /// A report was committed. Digests are SHA-256, hex.
    Report {
        incident: String,
        revision: u32,
        /// Of the evidence.
        input_digest: String,
        /// Of what was sent to the provider; of the evidence when nobody was asked.
        prompt_digest: String,
        /// Of what came back, before validation.
        answer_digest: Option<String>,
        /// Of the report as it is stored.
        report_digest: String,
        provider: String,
        model: Option<String>,
        outcome: String,
        /// Tokens of the provider that were used for it, failed requests included.
        #[serde(default)]
        tokens: u64,
    },
    /// Policy decided.
    Decision {
        incident: String,
        revision: u32,
        action: String,
        verdict: String,
        reasons: Vec<String>,
    },
    /// A request for approval was decided by a person, expired, or was superseded by a later report.
    Approval {
        incident: String,
        revision: u32,
        action_digest: String,
        state: String,
        actor: Option<String>,
    },
    /// An effect outside came to its end, or was put into the queue again by a person.
    Effect {
        incident: String,
        revision: u32,
        action: String,
        key: String,
        /// `done`, `dead` or `retried`.
        state: String,
        attempts: u32,
        /// Where it is: channel and `ts`, repository and number.
        receipt: Option<String>,
        error: Option<String>,
        actor: Option<String>,
    },
    /// A person judged a report.
    Verdict {
        incident: String,
        revision: u32,
        verdict: String,
        actor: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Entry {
    /// RFC 3339, UTC.
    at: String,
    #[serde(flatten)]
    fact: Fact,
}

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) seq: i64,
    /// JSON, byte for byte what the hash covers.
    pub(crate) entry: String,
    pub(crate) previous: String,
    pub(crate) hash: String,
}

/// Appends an entry in the transaction that makes it true.
pub(crate) fn append(transaction: &Transaction<'_>, fact: Fact) -> rusqlite::Result<()> {
    let last: Option<(i64, String)> = transaction
        .prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (seq, previous) = last.map_or((1, String::new()), |(seq, hash)| (seq + 1, hash));
    let entry = Entry {
        at: rfc3339(now()),
        fact,
    };
    let entry = serde_json::to_string(&entry)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let hash = digest(&[&previous, &entry]);
    transaction
        .prepare_cached("INSERT INTO audit (seq, entry, previous, hash) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![seq, entry, previous, hash])?;
    Ok(())
}

/// A log that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) entries: i64,
    /// Hash of the last entry; empty when there is none.
    pub(crate) head: String,
}

/// The first entry that does not hold, or what else stands in the way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("entry {seq}: {problem}")]
    Entry { seq: i64, problem: String },
    #[error("no entry has the hash {0}: the end of the log was cut, or it is another log")]
    Head(String),
    #[error("the store cannot be read")]
    Sqlite(#[from] rusqlite::Error),
}

/// Follows the chain from its first entry, and holds the stored reports against what it says of them. `head` is the hash
/// of an entry that has to be there.
///
/// # Errors
/// [`Broken`], naming the first entry that does not hold.
pub(crate) fn verify(connection: &Connection, head: Option<&str>) -> Result<Verified, Broken> {
    let mut verified = Verified {
        entries: 0,
        head: String::new(),
    };
    let mut has_head = head.is_none();
    let mut query = connection.prepare("SELECT seq, entry, previous, hash FROM audit ORDER BY seq")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let row = read(row)?;
        let expected = verified.entries + 1;
        if let Err(problem) = check(connection, &row, expected, &verified.head)? {
            return Err(Broken::Entry {
                seq: row.seq,
                problem,
            });
        }
        has_head = has_head || head == Some(row.hash.as_str());
        verified.entries = expected;
        verified.head = row.hash;
    }
    match head {
        Some(head) if !has_head => Err(Broken::Head(head.to_owned())),
        _ => Ok(verified),
    }
}

pub(crate) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        seq: row.get(0)?,
        entry: row.get(1)?,
        previous: row.get(2)?,
        hash: row.get(3)?,
    })
}

fn check(
    connection: &Connection,
    row: &Row,
    expected: i64,
    previous: &str,
) -> rusqlite::Result<Result<(), String>> {
    if row.seq != expected {
        return Ok(Err(format!(
            "it should have the number {expected}: one before it is missing"
        )));
    }
    if row.previous != previous {
        return Ok(Err("it does not follow the entry before it".to_owned()));
    }
    if digest(&[previous, &row.entry]) != row.hash {
        return Ok(Err("its content is not what its hash covers".to_owned()));
    }
    let Ok(entry) = serde_json::from_str::<Entry>(&row.entry) else {
        // A later version may know more kinds; the chain holds all the same.
        return Ok(Ok(()));
    };
    let Fact::Report {
        incident,
        revision,
        answer_digest,
        report_digest,
        ..
    } = entry.fact
    else {
        return Ok(Ok(()));
    };
    let stored: Option<(String, Option<String>)> = connection
        .prepare_cached("SELECT json, answer FROM report WHERE incident_id = ?1 AND revision = ?2")?
        .query_row(params![incident, revision], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(match stored {
        None => Err(format!(
            "revision {revision} of the report of incident {incident} is gone"
        )),
        Some((json, answer)) => {
            let same =
                digest(&[&json]) == report_digest && answer.map(|answer| digest(&[&answer])) == answer_digest;
            same.then_some(()).ok_or_else(|| {
                format!("revision {revision} of the report of incident {incident} was changed")
            })
        }
    })
}

#[cfg(test)]
mod tests;
