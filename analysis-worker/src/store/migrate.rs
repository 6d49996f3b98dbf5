//! Brings a database to the newest version, one file at a time.

use std::path::Path;

use rusqlite::Connection;

use super::OpenError;

/// Migration `n` leads to `user_version` `n + 1`. A file that was released is never changed.
const MIGRATIONS: [&str; 5] = [
    include_str!("migrations/0001_incidents.sql"),
    include_str!("migrations/0002_actions.sql"),
    include_str!("migrations/0003_interventions.sql"),
    include_str!("migrations/0004_backfill.sql"),
    include_str!("migrations/0005_provider.sql"),
];

/// The version of a database that this program made.
pub(super) const KNOWN: u32 = MIGRATIONS.len() as u32;

pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |source| OpenError::Sqlite {
        path: path.to_owned(),
        source,
    };
    let known = KNOWN;
    let found: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(sqlite)?;
    if found > known {
        return Err(OpenError::TooNew {
            path: path.to_owned(),
            found,
            known,
        });
    }
    for (version, migration) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let transaction = connection.transaction().map_err(sqlite)?;
        transaction.execute_batch(migration).map_err(sqlite)?;
        transaction
            .pragma_update(None, "user_version", version as u32 + 1)
            .map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
    }
    Ok(())
}
