//! The directory in which events wait, and the thread that keeps it like the outbox.
//!
//! Nobody who serves requests or delivers events waits for the disk: the thread looks at what the outbox holds, lets go of
//! it, and then writes and removes files until the directory holds the same. What fails is tried again, so that a disk that
//! was full or away gets everything that still waits.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::episodes::Episodes;
use super::event::Event;
use super::outbox::{Numbered, Outbox};
use crate::metrics::SpoolMetrics;

/// Ending of a spooled event's file name.
const SPOOLED: &str = "event.json";
/// What a file is called until it is whole.
const UNFINISHED: &str = "unfinished";
/// The file with the names of episodes.
const EPISODES: &str = "episodes.json";
/// A disk that failed is tried again after this time, or when the outbox changes.
const RETRY: Duration = Duration::from_secs(2);

/// A directory, and what is known to be in it.
#[derive(Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    files: BTreeSet<u64>,
    /// As they are on disk.
    episodes: Option<Episodes>,
    /// Something failed, so that `files` may be wrong.
    is_doubtful: bool,
    metrics: SpoolMetrics,
}

/// What an outbox holds at one moment.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) events: Vec<Numbered>,
    pub(super) episodes: Episodes,
}

impl Spool {
    /// Opens `directory`, creating it when it is missing, and returns what an earlier process left in it, in order.
    ///
    /// # Errors
    /// The system's, when the directory cannot be created or read.
    pub(super) fn open(directory: PathBuf, metrics: SpoolMetrics) -> io::Result<(Self, Held)> {
        std::fs::create_dir_all(&directory)?;
        let events = load(&directory, &metrics)?;
        let episodes = load_episodes(&directory, &metrics);
        let spool = Self {
            files: events.iter().map(|event| event.number).collect(),
            episodes: episodes.clone(),
            is_doubtful: false,
            directory,
            metrics,
        };
        let episodes = episodes.unwrap_or_else(Episodes::new);
        Ok((spool, Held { events, episodes }))
    }

    /// Makes the directory hold what `held` says; true when it does.
    fn match_to(&mut self, held: &Held) -> bool {
        let matched = self.try_to_match(held);
        self.is_doubtful = matched.is_err();
        if let Err(error) = matched {
            tracing::warn!(%error, spool = %self.directory.display(), "the spool cannot be kept; events wait in memory");
        }
        !self.is_doubtful
    }

    /// Names come first: an event on disk whose name is not would give it to another episode later. New files come before
    /// old ones go, since a new one may stand for an old one.
    fn try_to_match(&mut self, held: &Held) -> io::Result<()> {
        let Self {
            directory, metrics, ..
        } = self;
        if self.is_doubtful {
            let numbers = numbers(directory).inspect_err(|_| metrics.read.inc())?;
            self.files = numbers.into_iter().map(|(number, _)| number).collect();
        }
        let failed_write = |_: &io::Error| metrics.write.inc();
        let mut is_changed = false;
        if self.episodes.as_ref() != Some(&held.episodes) {
            let text = serde_json::to_string(&held.episodes).expect("every map key is a text");
            write(&directory.join(EPISODES), text.as_bytes()).inspect_err(failed_write)?;
            self.episodes = Some(held.episodes.clone());
            is_changed = true;
        }
        for Numbered { number, event } in &held.events {
            if !self.files.contains(number) {
                write(&file(directory, *number), &event.body).inspect_err(failed_write)?;
                self.files.insert(*number);
                is_changed = true;
            }
        }
        let wanted: BTreeSet<u64> = held.events.iter().map(|event| event.number).collect();
        for number in self.files.difference(&wanted) {
            std::fs::remove_file(file(directory, *number)).inspect_err(|_| metrics.remove.inc())?;
            is_changed = true;
        }
        self.files = wanted;
        if is_changed {
            // A new name in a directory is only safe with the directory.
            let synced = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
            synced.inspect_err(failed_write)?;
        }
        Ok(())
    }
}

/// The thread that keeps the spool; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    outbox: Arc<Outbox>,
    /// How many events are on disk, once the thread has ended.
    ended: oneshot::Receiver<usize>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's, when there is no thread to have.
    pub(super) fn spawn(mut spool: Spool, outbox: Arc<Outbox>) -> io::Result<Self> {
        let (end, ended) = oneshot::channel();
        let kept = Arc::clone(&outbox);
        let keep = move || {
            let (mut revision, mut is_kept) = (0, false);
            loop {
                let patience = if is_kept { None } else { Some(RETRY) };
                let now = kept.changed_since(revision, patience);
                is_kept = spool.match_to(&now.held);
                revision = now.revision;
                if now.is_closed {
                    // Nobody listens after a drop.
                    let _unheard = end.send(spool.files.len());
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("sidecar-spool".to_owned())
            .spawn(keep)?;
        Ok(Self { outbox, ended })
    }

    /// Lets the thread write what is left; returns how many events are on disk for the next process. A disk that hangs
    /// holds this up, so that the caller has to know how long it waits.
    pub(super) async fn finish(mut self) -> usize {
        self.outbox.close();
        (&mut self.ended).await.unwrap_or(0)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

fn file(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.{SPOOLED}"))
}

/// Writes the file whole or not at all.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write as _;

    let unfinished = path.with_extension(UNFINISHED);
    let mut out = std::fs::File::create(&unfinished)?;
    out.write_all(content)?;
    out.sync_all()?;
    std::fs::rename(unfinished, path)
}

/// The events in the directory by their files' names, in no order. What is not called like one is left out.
fn numbers(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name
            .split_once('.')
            .filter(|(_, ending)| *ending == SPOOLED)
            .and_then(|(number, _)| number.parse().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    Ok(found)
}

/// What an earlier process left, in order. A file that is not an event is set aside and told.
fn load(directory: &Path, metrics: &SpoolMetrics) -> io::Result<Vec<Numbered>> {
    let mut events = Vec::new();
    for (number, path) in numbers(directory)? {
        if let Some(event) = std::fs::read_to_string(&path).ok().and_then(Event::parse) {
            events.push(Numbered { number, event });
        } else {
            metrics.read.inc();
            tracing::warn!(file = %path.display(), "not an event; set aside as .damaged");
            let _left = std::fs::rename(&path, path.with_extension("damaged"));
        }
    }
    events.sort_by_key(|event| event.number);
    Ok(events)
}

/// The names of episodes; none when there are none, or none that can be read.
fn load_episodes(directory: &Path, metrics: &SpoolMetrics) -> Option<Episodes> {
    let path = directory.join(EPISODES);
    let read = std::fs::read_to_string(&path).and_then(|text| Ok(serde_json::from_str(&text)?));
    match read {
        Ok(episodes) => Some(episodes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            metrics.read.inc();
            tracing::warn!(%error, file = %path.display(), "the names of episodes cannot be read; an open one may be told again");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::outbox::tests::{event, ids, metrics};
    use super::*;
    use crate::metrics::EventMetrics;

    fn open(directory: &Path, metrics: &EventMetrics) -> (Arc<Outbox>, Keeper) {
        let (outbox, keeper) = Outbox::open(Some(directory.to_owned()), metrics.clone()).expect("opened");
        (outbox, keeper.expect("a spool"))
    }

    #[tokio::test]
    async fn spooled_events_outlive_the_process_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let spool = directory.path().join("spool");
        let (outbox, keeper) = open(&spool, &metrics());
        for (episode, name) in [("a", "detected"), ("a", "recovered"), ("b", "detected")] {
            outbox.put(event(episode, name));
        }
        let first = outbox.take().expect("an event");
        outbox.delivered(&first);
        assert_eq!(keeper.finish().await, 2);

        std::fs::write(spool.join("0.event.json"), "half an ev").expect("written");
        let second = metrics();
        let (outbox, keeper) = open(&spool, &second);
        assert_eq!(ids(&outbox), ["a-recovered", "b-detected"]);
        assert_eq!((second.loaded.get(), second.spool.read.get()), (2, 1));
        assert!(spool.join("0.event.damaged").exists());
        outbox.put(event("b", "recovered"));
        assert_eq!(second.pending.get(), 3);
        assert_eq!(keeper.finish().await, 3);

        let (outbox, _keeper) = open(&spool, &metrics());
        assert_eq!(ids(&outbox), ["a-recovered", "b-detected", "b-recovered"]);
    }

    #[tokio::test]
    async fn a_disk_that_fails_is_counted_and_gets_everything_when_it_is_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let spool = directory.path().join("spool");
        let metrics = metrics();
        let (outbox, keeper) = open(&spool, &metrics);
        std::fs::remove_dir_all(&spool).expect("removed");
        outbox.put(event("a", "detected"));
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while metrics.spool.write.get() == 0 {
            assert!(std::time::Instant::now() < deadline, "no failure is told");
            std::thread::yield_now();
        }
        std::fs::create_dir(&spool).expect("created");
        assert_eq!(keeper.finish().await, 1);
        let (outbox, _keeper) = open(&spool, &metrics);
        assert_eq!(ids(&outbox), ["a-detected"]);
    }

    #[tokio::test]
    async fn an_episode_that_is_open_keeps_its_name_in_the_next_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let (outbox, keeper) = open(directory.path(), &metrics());
        let begin = |outbox: &Outbox, at| outbox.episodes(|episodes| episodes.begin("churn", "a1", at));
        let end = |outbox: &Outbox| outbox.episodes(|episodes| episodes.end("churn", "a1"));
        let detected = begin(&outbox, 5);
        keeper.finish().await;
        let (outbox, keeper) = open(directory.path(), &metrics());
        assert_eq!(begin(&outbox, 9), detected);
        assert_eq!(end(&outbox).as_ref(), Some(&detected));
        keeper.finish().await;
        let (outbox, _keeper) = open(directory.path(), &metrics());
        assert_eq!(end(&outbox), None);
        assert_ne!(begin(&outbox, 9), detected);
    }
}
