//! Events that wait for delivery, in order, bounded, and on disk when there is a place for them.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::event::Event;
use crate::metrics::EventMetrics;

/// Events that wait at most. An episode makes two, so that this is a worker that missed more than a hundred.
const MAX_PENDING: usize = 256;

/// Ending of a spooled event's file name.
const SPOOLED: &str = "event.json";

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    pending: Mutex<Pending>,
    changed: Notify,
    spool: Option<PathBuf>,
    metrics: EventMetrics,
}

#[derive(Debug, Default)]
struct Pending {
    events: VecDeque<Numbered>,
    next: u64,
}

/// An event in its place; the number orders files across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    number: u64,
    pub(super) event: Event,
}

impl Outbox {
    /// An outbox with what earlier processes left in `spool`, which is created when it is missing.
    ///
    /// # Errors
    /// The system's, when the directory cannot be created or read.
    pub(crate) fn open(spool: Option<PathBuf>, metrics: EventMetrics) -> io::Result<Self> {
        let mut pending = Pending::default();
        if let Some(directory) = &spool {
            std::fs::create_dir_all(directory)?;
            pending.events = load(directory)?.into();
            pending.next = pending.events.back().map_or(0, |last| last.number + 1);
            if !pending.events.is_empty() {
                tracing::info!(
                    events = pending.events.len(),
                    "events of an earlier run will be delivered"
                );
            }
        }
        metrics.pending.set(pending.events.len() as i64);
        Ok(Self {
            pending: Mutex::new(pending),
            changed: Notify::new(),
            spool,
            metrics,
        })
    }

    /// Adds an event. When too many wait, those of the oldest finished episode become one: that it was and is over.
    pub(super) fn put(&self, event: Event) {
        self.metrics.raised.inc();
        let mut pending = self.lock();
        let number = pending.next;
        pending.next += 1;
        let numbered = Numbered { number, event };
        if let Some(directory) = &self.spool
            && let Err(error) = store(directory, &numbered)
        {
            tracing::warn!(%error, spool = %directory.display(), "event not spooled; it waits in memory");
        }
        pending.events.push_back(numbered);
        while pending.events.len() > MAX_PENDING {
            self.make_room(&mut pending);
        }
        self.metrics.pending.set(pending.events.len() as i64);
        drop(pending);
        self.changed.notify_one();
    }

    fn make_room(&self, pending: &mut Pending) {
        let finished = pending.events.iter().position(|detected| {
            let Some(episode) = detected.event.id.strip_suffix("-detected") else {
                return false;
            };
            let recovered = format!("{episode}-recovered");
            pending.events.iter().any(|other| other.event.id == recovered)
        });
        let counter = if finished.is_some() {
            &self.metrics.coalesced
        } else {
            &self.metrics.overflowed
        };
        if let Some(removed) = pending.events.remove(finished.unwrap_or(0)) {
            counter.inc();
            tracing::warn!(
                event.id = removed.event.id,
                "too many events wait for the worker; this one is dropped"
            );
            self.remove_file(&removed);
        }
    }

    /// The event that has waited longest; waits for one.
    pub(super) async fn first(&self) -> Numbered {
        loop {
            let changed = self.changed.notified();
            if let Some(first) = self.peek() {
                return first;
            }
            changed.await;
        }
    }

    /// The event that has waited longest, if any does.
    pub(super) fn peek(&self) -> Option<Numbered> {
        self.lock().events.front().cloned()
    }

    /// Forgets an event that was delivered or refused.
    pub(super) fn remove(&self, done: &Numbered) {
        let mut pending = self.lock();
        pending.events.retain(|event| event.number != done.number);
        self.metrics.pending.set(pending.events.len() as i64);
        self.remove_file(done);
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.lock().events.len()
    }

    /// Whether what waits is kept for the next process.
    pub(super) fn is_kept(&self) -> bool {
        self.spool.is_some()
    }

    fn remove_file(&self, event: &Numbered) {
        let Some(directory) = &self.spool else { return };
        match std::fs::remove_file(file(directory, event.number)) {
            // It could not be written then.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, event.id = event.event.id, "event not removed from the spool; it may be sent again");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.{SPOOLED}"))
}

/// Writes the event whole or not at all.
fn store(directory: &Path, event: &Numbered) -> io::Result<()> {
    use std::io::Write as _;

    let path = file(directory, event.number);
    let unfinished = path.with_extension("unfinished");
    let mut out = std::fs::File::create(&unfinished)?;
    out.write_all(event.event.body.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(unfinished, path)
}

/// What an earlier process left, in order. A file that is not an event is left alone and told.
fn load(directory: &Path) -> io::Result<Vec<Numbered>> {
    let mut events = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some((number, SPOOLED)) = name.split_once('.') else {
            continue;
        };
        if let (Ok(number), Some(event)) = (number.parse(), read(&path)) {
            events.push(Numbered { number, event });
        } else {
            tracing::warn!(file = %path.display(), "not an event; left where it is");
        }
    }
    events.sort_by_key(|event| event.number);
    Ok(events)
}

fn read(path: &Path) -> Option<Event> {
    let body = std::fs::read_to_string(path).ok()?;
    let json: serde_json::Value = serde_json::from_str(&body).ok()?;
    let id = json.get("id")?.as_str()?.to_owned();
    Some(Event { id, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn metrics() -> EventMetrics {
        Metrics::declare(&plumbline_service::metrics::Metrics::default()).events
    }

    fn event(id: &str) -> Event {
        Event {
            id: id.to_owned(),
            body: format!("{{\"id\":\"{id}\"}}"),
        }
    }

    fn ids(outbox: &Outbox) -> Vec<String> {
        outbox
            .lock()
            .events
            .iter()
            .map(|event| event.event.id.clone())
            .collect()
    }

    #[test]
    fn spooled_events_outlive_the_process_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let spool = || Some(directory.path().join("spool"));
        let outbox = Outbox::open(spool(), metrics()).expect("opened");
        for id in ["a-detected", "a-recovered", "b-detected"] {
            outbox.put(event(id));
        }
        outbox.remove(&outbox.peek().expect("an event"));
        drop(outbox);
        std::fs::write(directory.path().join("spool/0.event.json"), "half an ev").expect("written");
        let outbox = Outbox::open(spool(), metrics()).expect("opened");
        assert_eq!(ids(&outbox), ["a-recovered", "b-detected"]);
        outbox.put(event("b-recovered"));
        assert_eq!(outbox.metrics.pending.get(), 3);
        drop(outbox);
        let outbox = Outbox::open(spool(), metrics()).expect("opened");
        assert_eq!(ids(&outbox), ["a-recovered", "b-detected", "b-recovered"]);
    }

    #[test]
    fn a_full_outbox_gives_up_what_is_over_first() {
        let outbox = Outbox::open(None, metrics()).expect("opened");
        outbox.put(event("now-detected"));
        for number in 0..MAX_PENDING {
            outbox.put(event(&format!("{number}-detected")));
            outbox.put(event(&format!("{number}-recovered")));
        }
        let ids = ids(&outbox);
        assert_eq!(ids.len(), MAX_PENDING);
        assert!(outbox.metrics.coalesced.get() >= MAX_PENDING as u64 - 1);
        let overflowed = outbox.metrics.overflowed.get();
        assert_eq!(
            outbox.metrics.coalesced.get() + overflowed,
            MAX_PENDING as u64 + 1
        );
        assert!(
            ids.iter()
                .all(|id| id.ends_with("-recovered") || id == "now-detected"),
            "{ids:?}"
        );
    }
}
