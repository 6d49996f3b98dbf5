//! The durable store: accepted signals, incidents, jobs, reports and the outbox in one SQLite database.
//!
//! One thread owns the connection; everyone else sends it work through a bounded queue and gets an answer after the
//! commit is on disk (WAL, `synchronous = FULL`). One process owns the database: a lock file says so.

mod accept;
mod actions;
mod approvals;
mod backfill;
mod cost;
mod effects;
mod interventions;
mod jobs;
mod ledger;
mod migrate;
mod outbox;
mod provider;
mod read;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use crate::policy::Policy;

pub(crate) use accept::Accepted;
pub(crate) use actions::{DecisionRow, EffectRow, Retraining, Told};
pub(crate) use approvals::{Ballot, Choice, Counted};
pub(crate) use interventions::{Done, Intervention, Past, Watched};
pub(crate) use jobs::{Finished, Job, MAX_ATTEMPTS};
pub(crate) use ledger::Ledger;
pub(crate) use outbox::{Effect, EffectCount, Failure, Fate, MAX_TRIES, Retry};
pub(crate) use read::{IncidentRow, SignalRow};

/// Work that waits for the database thread; a full queue is told to the sender, who comes again.
const QUEUE: usize = 256;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the store has {QUEUE} requests waiting")]
    Busy,
    #[error("the store has been closed")]
    Closed,
    #[error("the store could not commit")]
    Sqlite(#[from] rusqlite::Error),
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or the lock file.
    #[error("cannot make {path} (store)")]
    Create {
        /// What could not be made.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("another worker has the store {path}: stop it, or choose another file (store)")]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// Not a database, or not writable.
    #[error("cannot open the store {path}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Made by a later version.
    #[error(
        "the store {path} has version {found}, this program knows {known}: it was made by a later version"
    )]
    TooNew {
        /// The database.
        path: PathBuf,
        /// Its `user_version`.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// Made by another version, and only to be read.
    #[error("the store {path} has version {found}, this program reads {known}: use the worker's own version")]
    OtherVersion {
        /// The database.
        path: PathBuf,
        /// Its `user_version`.
        found: u32,
        /// The one that is known here.
        known: u32,
    },
    /// No thread for it.
    #[error("cannot start the store's thread")]
    Thread(#[source] std::io::Error),
}

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on the database thread. Cloned freely; the thread ends with the last handle.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    queue: mpsc::Sender<Work>,
    closed: Closed,
    /// What a report and the end of an incident lead to.
    policy: Arc<Policy>,
}

/// Tells when the database is closed, which is some time after the last handle is gone. Holds nothing open.
#[derive(Clone, Debug)]
pub(crate) struct Closed(watch::Receiver<()>);

impl Closed {
    /// Waits for it.
    pub(crate) async fn wait(mut self) {
        // Nothing is ever sent: what comes is the end of the sender.
        let _closed = self.0.changed().await;
    }
}

impl Store {
    /// When the database will be closed.
    pub(crate) fn closed(&self) -> Closed {
        self.closed.clone()
    }

    /// Opens or makes the database at `path`, brings it to the newest version, and puts jobs and effects that a killed
    /// process left running back into the queue.
    ///
    /// # Errors
    /// [`OpenError`], naming the file.
    pub(crate) fn open(path: &Path, busy_timeout: Duration, policy: Policy) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let sqlite = |source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let mut connection = Connection::open(path).map_err(sqlite)?;
        configure(&connection, busy_timeout).map_err(sqlite)?;
        migrate::migrate(&mut connection, path)?;
        jobs::requeue_all(&connection).map_err(sqlite)?;
        outbox::requeue_all(&connection).map_err(sqlite)?;
        let (queue, closed) = serve(connection, Some(lock))?;
        Ok(Self {
            queue,
            closed,
            policy: Arc::new(policy),
        })
    }

    /// Opens the database at `path` to be read, beside the worker that owns it.
    ///
    /// # Errors
    /// [`OpenError`]; a database of another version is one.
    pub(crate) fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sqlite)?;
        let found: u32 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(sqlite)?;
        if found != migrate::KNOWN {
            return Err(OpenError::OtherVersion {
                path: path.to_owned(),
                found,
                known: migrate::KNOWN,
            });
        }
        let (queue, closed) = serve(connection, None)?;
        Ok(Self {
            queue,
            closed,
            policy: Arc::new(Policy::nothing()),
        })
    }

    /// Runs `work` in one transaction; the answer comes after the commit.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            // Nobody waits any more when the sender went away; the work was still done.
            let _gone = answer.send(work(connection));
        });
        self.queue.try_send(work).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        Ok(answered.await.map_err(|_| StoreError::Closed)??)
    }
}

/// Starts the thread that owns the connection, and the lock for as long.
fn serve(mut connection: Connection, lock: Option<File>) -> Result<(mpsc::Sender<Work>, Closed), OpenError> {
    let (open, closed) = watch::channel(());
    let (queue, mut work) = mpsc::channel::<Work>(QUEUE);
    std::thread::Builder::new()
        .name("worker-store".to_owned())
        .spawn(move || {
            while let Some(work) = work.blocking_recv() {
                // A panic loses one answer, not the store; its transaction is rolled back.
                let run = std::panic::AssertUnwindSafe(|| work(&mut connection));
                if std::panic::catch_unwind(run).is_err() {
                    tracing::error!("a request to the store panicked");
                }
            }
            // The next owner may open the database only after it was closed here.
            drop(connection);
            drop(lock);
            drop(open);
        })
        .map_err(OpenError::Thread)?;
    Ok((queue, Closed(closed)))
}

/// The lock lives as long as the file is open, and the kernel frees it when the process is killed.
fn lock(path: &Path) -> Result<File, OpenError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|source| OpenError::Create {
            path: folder.to_owned(),
            source,
        })?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name);
    let file = file.map_err(|source| OpenError::Create { path: name, source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(OpenError::Locked {
            path: path.to_owned(),
        }),
    }
}

fn configure(connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy_timeout)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // In WAL mode only FULL waits for the disk at every commit, and an answer promises just that.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod for_test;

/// Brings a database of a test to the newest version.
#[cfg(test)]
pub(crate) fn migrate_for_test(connection: &mut Connection) {
    migrate::migrate(connection, Path::new("test")).expect("migrated");
}

#[cfg(test)]
mod tests;
