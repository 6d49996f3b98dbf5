//! `audit verify` and `audit export`: read a store, also that of a running worker, and change nothing.

use std::io::Write;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{Broken, read, verify};

/// What is done with the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Checks it; `head` is a hash that has to be in it.
    Verify {
        /// Hash of an entry, as an earlier `verify` printed it.
        head: Option<String>,
    },
    /// Prints it, one JSON document a line.
    Export,
}

/// Does `task` with the log in `store`.
///
/// # Errors
/// One line for people: the first broken entry, or why the store cannot be read.
pub(crate) fn run(store: &Path, task: &Task, output: &mut dyn Write) -> Result<(), String> {
    // Opening a file that is not there would otherwise be told as "unable to open database file".
    std::fs::metadata(store).map_err(|error| error.to_string())?;
    let connection = open(store).map_err(|error| error.to_string())?;
    match task {
        Task::Verify { head } => {
            let verified = verify(&connection, head.as_deref()).map_err(|error| chain(&error))?;
            writeln!(
                output,
                "{} entries hold, head {}",
                verified.entries, verified.head
            )
            .map_err(|error| error.to_string())
        }
        Task::Export => export(&connection, output).map_err(|error| chain(&error)),
    }
}

fn open(store: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        store,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

fn export(connection: &Connection, output: &mut dyn Write) -> Result<(), Broken> {
    let mut query = connection.prepare("SELECT seq, entry, previous, hash FROM audit ORDER BY seq")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let row = read(row)?;
        // The entry stays a text: its bytes are what the hash covers.
        let line = serde_json::json!({
            "seq": row.seq, "entry": row.entry, "previous": row.previous, "hash": row.hash,
        });
        if writeln!(output, "{line}").is_err() {
            break; // whoever reads has seen enough
        }
    }
    Ok(())
}

fn chain(error: &Broken) -> String {
    plumbline_service::error_chain(error)
}
