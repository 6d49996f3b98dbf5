//! What a provider was asked, and what it answered.

use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Store, StoreError};
use crate::signal::now;

/// Answers that are kept; the oldest go first.
const MAX_ANSWERS: u32 = 1_000;

impl Store {
    /// Changes the state of this name in one transaction and returns what `change` did. There being none, or one that
    /// cannot be read, is the default.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was changed.
    pub(crate) async fn change_state<S, T>(
        &self,
        name: &'static str,
        change: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, StoreError>
    where
        S: Serialize + DeserializeOwned + Default,
        T: Send + 'static,
    {
        self.write(move |transaction| {
            let kept: Option<String> = transaction
                .prepare_cached("SELECT value FROM state WHERE name = ?1")?
                .query_row([name], |row| row.get(0))
                .optional()?;
            let mut state: S = kept
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default();
            let done = change(&mut state);
            let text = serde_json::to_string(&state)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            transaction.execute(
                "INSERT INTO state (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                params![name, text],
            )?;
            Ok(done)
        })
        .await
    }

    /// What was answered to this before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn answer(&self, key: &str) -> Result<Option<String>, StoreError> {
        let key = key.to_owned();
        self.call(move |connection| {
            connection
                .prepare_cached("SELECT answer FROM answer WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })
        .await
    }

    /// Keeps an answer; the first one to a question stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn keep_answer(&self, key: String, answer: String) -> Result<(), StoreError> {
        self.write(move |transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO answer (key, answer, created_at) VALUES (?1, ?2, ?3)",
                params![key, answer, now()],
            )?;
            transaction.execute(
                "DELETE FROM answer WHERE key NOT IN (SELECT key FROM answer ORDER BY created_at DESC LIMIT ?1)",
                [MAX_ANSWERS],
            )?;
            Ok(())
        })
        .await
    }
}
