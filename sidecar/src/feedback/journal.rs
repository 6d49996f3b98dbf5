//! Predictions that wait for their labels, on disk, so that a restart does not forget them.
//!
//! The store notes what happens to it in [`Pending`], in memory. The keeper's thread appends that to a segment twice a second; a segment
//! that is large enough is followed by another, and one whose predictions are all gone is removed. At the start the segments are read in
//! order. Nothing on disk is ever written again, so that the cost is that of the predictions that come.
//!
//! A segment is [`HEAD`], then frames: length (`u32`) and checksum (the first 8 bytes of the SHA-256) of the [`Record`]s that follow.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::store::Store;
use crate::metrics::{FeedbackMetrics, StateMetrics};
use crate::observer::now_unix_ms;

/// What a segment begins with; the number is raised when a reader of the old version would misread the new one.
const HEAD: &[u8; 12] = b"PLFEEDBK\x01\0\0\0";
const CHECKSUM: usize = 8;

/// Ending of a segment's file name.
const KIND: &str = "predictions";

/// This part of the bytes goes into one segment, so that removing one forgets little.
const SEGMENT_SHARE: u64 = 16;
/// This part of the bytes waits in memory at most, but not more than [`MOST_PENDING`]: half a second of 30,000 requests a second.
const PENDING_SHARE: usize = 8;
const MOST_PENDING: usize = 2 << 20;
/// What a record costs at most besides its texts and values.
const RECORD_BYTES: usize = 64;
/// What a file takes of a disk is a multiple of this.
const BLOCK: u64 = 4_096;

/// What happened to the store.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Record<'a> {
    /// The predictions of a request have come.
    Prediction {
        /// Its place among all requests; rises.
        number: u64,
        at_unix_ms: i64,
        /// What the store knows it by.
        key: &'a str,
        width: usize,
        values: Cow<'a, [f32]>,
    },
    /// A row of a request got its label.
    Label { number: u64, row: usize },
}

/// What is not on disk yet.
#[derive(Debug)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    limit: usize,
    metrics: FeedbackMetrics,
}

impl Pending {
    /// For a store of `max_bytes`.
    pub(super) fn new(max_bytes: usize, metrics: FeedbackMetrics) -> Self {
        Self {
            bytes: Vec::new(),
            limit: (max_bytes / PENDING_SHARE).min(MOST_PENDING),
            metrics,
        }
    }

    /// Notes a record of a key and values with so many bytes. One for which there is no room is counted: the disk does not keep up.
    pub(super) fn note(&mut self, record: &Record<'_>, bytes: usize) {
        if self.bytes.len() + bytes + RECORD_BYTES > self.limit {
            self.metrics.unsaved.inc();
            return;
        }
        let noted = postcard::to_extend(record, std::mem::take(&mut self.bytes));
        self.bytes = noted.expect("memory takes every record");
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// The segments.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    /// What they take at most.
    max_bytes: u64,
    segments: VecDeque<Segment>,
    /// The last segment, when it was begun by this process and has room.
    open: Option<File>,
    /// Number of the next segment.
    next: u64,
    /// A frame that could not be written.
    unwritten: Vec<u8>,
    metrics: StateMetrics,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    bytes: u64,
    /// It tells nothing of requests from this number on.
    end: u64,
}

impl Segment {
    fn on_disk(&self) -> u64 {
        self.bytes.next_multiple_of(BLOCK)
    }
}

/// Why a segment is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("cannot read it")]
    Read(#[from] io::Error),
    #[error("expected a file that begins with \"PLFEEDBK\" and version 1")]
    Head,
    #[error("frame at byte {at}: expected another checksum")]
    Checksum { at: usize },
    #[error("frame at byte {at}: not records of predictions and labels")]
    Records { at: usize },
}

impl Journal {
    /// The segments in `directory`, which is created when it is missing; `store` gets what earlier processes left in them.
    ///
    /// # Errors
    /// The system's, when the directory cannot be created or read.
    pub(super) fn open(directory: PathBuf, store: &mut Store, metrics: StateMetrics) -> io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        let mut journal = Self {
            directory,
            max_bytes: store.max_bytes() as u64,
            segments: VecDeque::new(),
            open: None,
            next: 0,
            unwritten: Vec::new(),
            metrics,
        };
        for (number, path) in segments(&journal.directory)? {
            journal.next = number + 1;
            match read(&path, store) {
                Ok(bytes) => journal.segments.push_back(Segment {
                    path,
                    bytes,
                    end: store.next(),
                }),
                Err(unusable) => journal.set_aside(&path, &unusable),
            }
        }
        store.expire(Instant::now());
        store.restored();
        journal.remove_old(store.oldest());
        Ok(journal)
    }

    /// Appends what `store` has noted, and removes segments that it needs no more. What cannot be written is tried again the next time;
    /// until then the store notes as much as there is room for.
    pub(super) fn keep(&mut self, store: &Mutex<Store>) {
        // Held for a few moves in memory only.
        let store = || store.lock().unwrap_or_else(PoisonError::into_inner);
        let (oldest, end) = {
            let mut store = store();
            store.expire(Instant::now());
            (store.oldest(), store.next())
        };
        self.remove_old(oldest);
        if !self.append(end) {
            return;
        }
        let (pending, end) = {
            let mut store = store();
            (store.pending().map(Pending::take), store.next())
        };
        self.unwritten = frame(&pending.unwrap_or_default());
        self.append(end);
    }

    /// Appends what is unwritten, about requests below number `end`; true when nothing is left.
    fn append(&mut self, end: u64) -> bool {
        if self.unwritten.is_empty() {
            return true;
        }
        let failing = self.metrics.unsaved.get() == 1;
        let written = self.write(end);
        self.metrics.unsaved.set(i64::from(written.is_err()));
        let Err(error) = written else {
            self.unwritten.clear();
            return true;
        };
        self.metrics.save_failed.inc();
        // Told when it begins; the metric goes on telling.
        if !failing {
            tracing::error!(%error, directory = %self.directory.display(), "predictions that wait for labels cannot be written");
        }
        false
    }

    fn write(&mut self, end: u64) -> io::Result<()> {
        let file = match &mut self.open {
            Some(file) => file,
            none => {
                let path = self.directory.join(format!("{:020}.{KIND}", self.next));
                let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
                file.set_len(0)?;
                file.write_all(HEAD)?;
                self.next += 1;
                let bytes = HEAD.len() as u64;
                self.segments.push_back(Segment { path, bytes, end });
                none.insert(file)
            }
        };
        let segment = self.segments.back_mut().expect("the open one is the last");
        let written = file.write_all(&self.unwritten).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Half a frame would hide the ones after it. Where it cannot be cut off it ends its segment.
            if file.set_len(segment.bytes).is_err() {
                self.open = None;
            }
            return Err(error);
        }
        segment.bytes += self.unwritten.len() as u64;
        segment.end = end;
        if segment.bytes > self.max_bytes / SEGMENT_SHARE {
            self.open = None;
        }
        Ok(())
    }

    /// Removes segments from the front that tell nothing of requests from number `oldest` on, or that are too many.
    fn remove_old(&mut self, oldest: u64) {
        let mut bytes: u64 = self.segments.iter().map(Segment::on_disk).sum();
        let kept = usize::from(self.open.is_some());
        while self.segments.len() > kept {
            let Some(first) = self.segments.front() else { break };
            if first.end > oldest && bytes <= self.max_bytes {
                break;
            }
            if let Err(error) = std::fs::remove_file(&first.path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, file = %first.path.display(), "an old segment of predictions cannot be removed");
            }
            bytes -= first.on_disk();
            self.segments.pop_front();
        }
    }

    /// Takes a segment out of the way that cannot be used, so that it can be looked at.
    fn set_aside(&self, path: &Path, error: &Unusable) {
        self.metrics.damaged.inc();
        let aside = path.with_extension("damaged");
        let kept = std::fs::rename(path, &aside);
        tracing::warn!(
            error = %plumbline_service::error_chain(error),
            set_aside = %aside.display(),
            is_kept = kept.is_ok(),
            "stored predictions are unusable; their labels will be unknown"
        );
    }
}

/// The segments in the directory, in order. What is not called like one is left out.
fn segments(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == KIND)
            && let Some(stem) = path.file_stem()
            && let Ok(number) = stem.to_string_lossy().parse()
        {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn frame(records: &[u8]) -> Vec<u8> {
    if records.is_empty() {
        return Vec::new();
    }
    let length = u32::try_from(records.len()).expect("what is pending is bounded");
    [&length.to_le_bytes()[..], &checksum(records)[..], records].concat()
}

fn checksum(records: &[u8]) -> [u8; CHECKSUM] {
    let digest = sha2::Sha256::digest(records);
    let (first, _) = digest.split_first_chunk().expect("32 bytes");
    *first
}

/// Hands the records of a segment to `store` once all of it has been found whole, and returns its bytes. A process that was killed leaves a
/// frame without its end, which is left out.
fn read(path: &Path, store: &mut Store) -> Result<u64, Unusable> {
    let bytes = std::fs::read(path)?;
    let (head, mut rest) = bytes.split_at(bytes.len().min(HEAD.len()));
    if !HEAD.starts_with(head) {
        return Err(Unusable::Head);
    }
    let mut records = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let at = bytes.len() - rest.len();
        let Some((checked, after)) = after.split_first_chunk::<CHECKSUM>() else {
            break;
        };
        let Some((mut frame, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else {
            break;
        };
        if checksum(frame) != *checked {
            return Err(Unusable::Checksum { at });
        }
        while !frame.is_empty() {
            let (record, after) = postcard::take_from_bytes(frame).map_err(|_| Unusable::Records { at })?;
            records.push(record);
            frame = after;
        }
        rest = after;
    }
    if !rest.is_empty() {
        tracing::info!(file = %path.display(), bytes = rest.len(), "stored predictions end in the middle; the process was killed");
    }
    let (now, now_unix_ms) = (Instant::now(), now_unix_ms());
    for record in records {
        store.restore(record, now, now_unix_ms);
    }
    Ok(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::store::{Miss, Predictions};
    use super::*;
    use crate::metrics::Metrics;

    const TTL: Duration = Duration::from_mins(1);

    /// A store and its journal, as a process has them.
    struct Process {
        store: Mutex<Store>,
        journal: Journal,
        metrics: Metrics,
    }

    impl Process {
        fn start(directory: &Path, max_bytes: usize) -> Self {
            let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
            let mut store = Store::new(TTL, max_bytes, metrics.feedback.clone());
            let journal =
                Journal::open(directory.to_owned(), &mut store, metrics.state.clone()).expect("opened");
            store.note_changes();
            Self {
                store: Mutex::new(store),
                journal,
                metrics,
            }
        }

        fn put(&mut self, id: &str, values: &[f32]) {
            let predictions = Predictions::new(1, values.to_vec());
            self.store().put("churn", id, predictions, Instant::now());
        }

        /// The value that a label for the row would be joined with.
        fn take(&mut self, id: &str, row: usize) -> Result<f32, Miss> {
            let taken = self.store().take("churn", id, row, Instant::now());
            taken.map(|row| row[0])
        }

        fn keep(&mut self) {
            self.journal.keep(&self.store);
        }

        fn store(&mut self) -> &mut Store {
            self.store.get_mut().expect("no panic")
        }
    }

    fn on_disk(directory: &Path) -> u64 {
        let files = segments(directory).expect("a directory").into_iter();
        files
            .map(|(_, path)| path.metadata().expect("a file").len())
            .sum()
    }

    #[test]
    fn predictions_and_labels_outlive_the_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut process = Process::start(directory.path(), 1 << 20);
        process.put("a", &[0.5, f32::NAN, 2.0]);
        process.keep();
        assert_eq!(process.take("a", 2), Ok(2.0));
        process.put("b", &[1.0]);
        process.put("b", &[3.0]);
        process.keep();
        process.put("lost", &[1.0]);

        for _ in 0..2 {
            let mut process = Process::start(directory.path(), 1 << 20);
            let told = &process.metrics.feedback;
            assert_eq!(
                (told.restored.get(), told.waiting.get(), told.replaced.get()),
                (2, 2, 0)
            );
            assert_eq!(process.take("a", 0), Ok(0.5));
            assert!(process.take("a", 1).expect("kept").is_nan());
            assert_eq!(process.take("a", 2), Err(Miss::Duplicate));
            assert_eq!(process.take("b", 0), Ok(3.0));
            assert_eq!(process.take("lost", 0), Err(Miss::Unknown));
        }
        let mut process = Process::start(directory.path(), 1 << 20);
        process.put("c", &[4.0]);
        assert_eq!(process.take("b", 0), Ok(3.0));
        process.keep();
        let mut process = Process::start(directory.path(), 1 << 20);
        assert_eq!(process.take("c", 0), Ok(4.0));
        assert_eq!(process.take("b", 0), Err(Miss::Duplicate));
    }

    #[test]
    fn the_time_between_two_processes_counts() {
        let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
        let mut store = Store::new(TTL, 1 << 20, metrics.feedback);
        let (now, now_unix_ms) = (Instant::now(), 1_000_000);
        let left = Duration::from_secs(1); // of the minute
        // Made before, and by a clock that was ahead.
        for (number, key, age) in [(0, "churn\0a", 59_000), (1, "churn\0b", -5)] {
            let record = Record::Prediction {
                number,
                at_unix_ms: now_unix_ms - age,
                key,
                width: 1,
                values: Cow::Borrowed(&[1.0, 1.0]),
            };
            store.restore(record, now, now_unix_ms);
        }
        assert!(store.take("churn", "a", 0, now).is_ok());
        assert_eq!(store.take("churn", "a", 1, now + left), Err(Miss::Late));
        assert!(store.take("churn", "b", 0, now + left).is_ok());
        assert_eq!(store.take("churn", "b", 1, now + TTL), Err(Miss::Late));
    }

    #[test]
    fn a_segment_that_ends_anywhere_is_read_up_to_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut process = Process::start(directory.path(), 1 << 20);
        let mut ends = Vec::new();
        for (id, value) in [("a", 1.0), ("b", 2.0)] {
            process.put(id, &[value]);
            process.keep();
            ends.push(on_disk(directory.path()) as usize);
        }
        let (_, path) = segments(directory.path()).expect("a directory").remove(0);
        let whole = std::fs::read(&path).expect("a segment");
        assert_eq!(whole.len(), ends[1]);
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).expect("written");
            let mut process = Process::start(directory.path(), 1 << 20);
            let found = ["a", "b"].map(|id| process.take(id, 0).is_ok());
            assert_eq!(found, [length >= ends[0], length >= ends[1]], "{length}");
            assert_eq!(process.metrics.state.damaged.get(), 0, "{length}");
        }
    }

    #[test]
    fn a_damaged_segment_is_set_aside_and_the_others_are_used() {
        let directory = tempfile::tempdir().expect("a directory");
        for (id, value) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
            let mut process = Process::start(directory.path(), 1 << 20);
            process.put(id, &[value]);
            process.keep();
        }
        let path = segments(directory.path()).expect("a directory").remove(1).1;
        let whole = std::fs::read(&path).expect("a segment");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            std::fs::write(&path, &damaged).expect("written");
            let mut process = Process::start(directory.path(), 1 << 20);
            let found = ["a", "b", "c"].map(|id| process.take(id, 0).is_ok());
            assert_eq!(found, [true, false, true], "byte {at}");
            // A longer frame than there is looks like one whose end was never written.
            let is_length = (HEAD.len()..HEAD.len() + size_of::<u32>()).contains(&at);
            let aside = path.with_extension("damaged");
            assert_eq!(
                process.metrics.state.damaged.get(),
                u64::from(!is_length),
                "byte {at}"
            );
            assert_eq!(aside.exists(), !is_length, "byte {at}");
            if !is_length {
                assert_eq!(std::fs::read(&aside).expect("set aside"), damaged);
                std::fs::remove_file(&aside).expect("removed");
            }
        }
    }

    #[test]
    fn the_disk_holds_no_more_than_the_memory() {
        let directory = tempfile::tempdir().expect("a directory");
        let max_bytes = 256 << 10;
        let mut process = Process::start(directory.path(), max_bytes);
        let mut most = 0;
        for number in 0..20_000 {
            // Half of the requests have one id.
            let id = if number % 2 == 0 {
                "constant".to_owned()
            } else {
                format!("request-{number}")
            };
            process.put(&id, &[number as f32]);
            if number % 100 == 0 {
                process.keep();
                most = most.max(on_disk(directory.path()));
            }
        }
        process.keep();
        assert!(most <= max_bytes as u64 && most > 20_000, "{most}");
        assert_eq!(process.metrics.feedback.unsaved.get(), 0);
        let kept = process.metrics.feedback.waiting.get();
        let mut process = Process::start(directory.path(), max_bytes);
        assert_eq!(process.metrics.feedback.restored.get(), kept as u64);
        assert_eq!(process.take("request-19999", 0), Ok(19_999.0));
        assert_eq!(process.take("constant", 0), Ok(19_998.0));
        // A smaller store takes the newest.
        let mut process = Process::start(directory.path(), max_bytes / 4);
        assert!(process.metrics.feedback.bytes.get() as usize <= max_bytes / 4);
        assert_eq!(process.take("request-19999", 0), Ok(19_999.0));
    }

    #[test]
    fn what_the_disk_does_not_take_is_tried_again_and_what_does_not_fit_meanwhile_is_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("feedback");
        let mut process = Process::start(&place, 64 << 10);
        std::fs::remove_dir(&place).expect("removed");
        process.put("a", &[1.0]);
        process.keep();
        let told = &process.metrics.state;
        assert_eq!((told.save_failed.get(), told.unsaved.get()), (1, 1));
        for number in 0..60 {
            process.put(&format!("request-{number}"), &[1.0; 40]);
        }
        let unsaved = process.metrics.feedback.unsaved.get();
        assert!(unsaved > 0 && unsaved < 60, "{unsaved}");
        assert_eq!(
            process.metrics.feedback.waiting.get(),
            61,
            "in memory there is room"
        );
        std::fs::create_dir(&place).expect("created");
        process.keep();
        assert_eq!(process.metrics.state.unsaved.get(), 0);
        let mut process = Process::start(&place, 64 << 10);
        assert_eq!(process.take("a", 0), Ok(1.0));
        assert_eq!(process.metrics.feedback.restored.get(), 61 - unsaved);
    }
}
