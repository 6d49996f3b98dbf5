//! Predictions that wait for their labels, on disk, so that a restart does not forget them.
//!
//! The store notes what happens to it in [`Pending`], in memory. The keeper's thread appends that to a segment twice a second; a segment
//! that is large enough is followed by another, and one whose predictions are all gone is removed. At the start the segments are read in
//! order. Nothing on disk is ever written again, so that the cost is that of the predictions that come.
//!
//! A segment is [`HEAD`], then frames: length (`u32`) and checksum (the first 8 bytes of the SHA-256) of the [`Record`]s that follow.

#[cfg(test)]
mod tests;

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
