//! What became of every delivery: counted when it is committed, and again from what is stored. The two have to agree.

use rusqlite::Transaction;
use serde::Serialize;

use super::{Store, StoreError};

/// Deliveries of signals by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ledger {
    /// Counted at their commit.
    pub(crate) received: i64,
    /// Covered by a report.
    pub(crate) analysed: i64,
    /// Asked for no report: repetitions, ends, and signals that told nothing new.
    pub(crate) suppressed: i64,
    /// Covered by a report that is being made.
    pub(crate) pending: i64,
    /// Covered by a report that was given up.
    pub(crate) failed: i64,
}

impl Ledger {
    /// Deliveries that nothing became of: 0, or the store has lost something.
    pub(crate) fn unaccounted(&self) -> i64 {
        self.received - self.analysed - self.suppressed - self.pending - self.failed
    }
}

/// Counts deliveries in the transaction that commits them.
pub(super) fn received(transaction: &Transaction<'_>, count: usize) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE ledger SET value = value + ?1 WHERE name = 'received'")?
        .execute([i64::try_from(count).unwrap_or(i64::MAX)])?;
    Ok(())
}

impl Store {
    /// The balance, in one look at the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn ledger(&self) -> Result<Ledger, StoreError> {
        self.call(|connection| {
            let received = connection
                .prepare_cached("SELECT value FROM ledger WHERE name = 'received'")?
                .query_row([], |row| row.get(0))?;
            connection
                .prepare_cached(
                    "SELECT coalesce(sum(job.state = 'done'), 0),
                         coalesce(sum(times_seen - 1 + (signal.revision IS NULL)), 0),
                         coalesce(sum(job.state IN ('queued', 'running')), 0),
                         coalesce(sum(job.state = 'failed'), 0)
                     FROM signal LEFT JOIN job ON job.incident_id = signal.incident_id AND job.revision = signal.revision",
                )?
                .query_row([], |row| {
                    Ok(Ledger {
                        received,
                        analysed: row.get(0)?,
                        suppressed: row.get(1)?,
                        pending: row.get(2)?,
                        failed: row.get(3)?,
                    })
                })
        })
        .await
    }
}
