//! What the analyses have cost, from the audit log.

use rusqlite::params;

use super::{Store, StoreError};

/// Reports of one day by one author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    /// `2026-11-29`, UTC.
    pub(crate) day: String,
    /// `gemini-3.5-flash`, or `offline`.
    pub(crate) author: String,
    pub(crate) reports: i64,
    /// Of prompts and answers, failed requests included.
    pub(crate) tokens: i64,
}

impl Store {
    /// The newest days, one row for each author.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn spent(&self, rows: u32) -> Result<Vec<Spent>, StoreError> {
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "SELECT substr(entry ->> '$.at', 1, 10) AS day, coalesce(entry ->> '$.model', entry ->> '$.provider') AS author,
                         count(*), sum(coalesce(entry ->> '$.tokens', 0))
                     FROM audit WHERE entry ->> '$.kind' = 'report' GROUP BY day, author ORDER BY day DESC, author LIMIT ?1",
                )?
                .query_map(params![rows], |row| {
                    Ok(Spent {
                        day: row.get(0)?,
                        author: row.get(1)?,
                        reports: row.get(2)?,
                        tokens: row.get(3)?,
                    })
                })?
                .collect()
        })
        .await
    }
}
