//! Predictions that wait for their ground truth, bounded in time and in bytes.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::mem::size_of;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::journal::{Pending, Record};
use crate::metrics::FeedbackMetrics;
use crate::observer::now_unix_ms;

/// This part of the bytes remembers ids whose predictions are gone, so that a label for one is told to be late.
const GONE_SHARE: usize = 8;

/// What a dropped id costs: its hash in a set that is at least 7/16 full, and in a queue that is at least half full.
const GONE_BYTES: usize = 3 * size_of::<u64>() + 2 * size_of::<u64>();

/// Places in the queue beyond those of half as many entries again, until the queue is tidied.
const SPARE_PLACES: usize = 64;

/// What an entry costs besides its id and its values: its places in the map and in the queue, each with the room that
/// they grow by, and the allocator's own bytes for three allocations.
const ENTRY_BYTES: usize =
    2 * (size_of::<(Arc<str>, Entry)>() + 1) + 2 * size_of::<Place>() + 3 * size_of::<[usize; 2]>();

/// What the model said about the rows of one request, shape `[rows, width]`; what the columns are, its performance knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Predictions {
    width: usize,
    values: Box<[f32]>,
}

impl Predictions {
    /// Predictions of `width` values for each row; `width` is at least 1.
    pub(crate) fn new(width: usize, values: Vec<f32>) -> Self {
        debug_assert!(width > 0 && values.len().is_multiple_of(width));
        Self {
            width,
            values: values.into(),
        }
    }

    fn rows(&self) -> usize {
        self.values.len() / self.width
    }
}

/// One prediction, taken out of the store.
pub(crate) type Row = SmallVec<[f32; 8]>;

/// Why a label finds no prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The id was never seen, or was forgotten long ago.
    Unknown,
    /// The prediction was dropped before the label came.
    Late,
    /// The row has its label.
    Duplicate,
    /// The request had fewer rows.
    NoRow {
        /// How many it had.
        rows: usize,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    ttl: Duration,
    max_bytes: usize,
    entries: HashMap<Arc<str>, Entry>,
    /// Entries by age. One that was replaced is not the one of its id any more.
    order: VecDeque<Place>,
    bytes: usize,
    next: u64,
    gone: Gone,
    /// What is to be written to disk; none when nothing is.
    pending: Option<Pending>,
    metrics: FeedbackMetrics,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    predictions: Predictions,
    /// A bit for each row that has its label.
    labelled: SmallVec<[u64; 2]>,
    /// Rows without one.
    open: usize,
}

#[derive(Debug)]
struct Place {
    key: Arc<str>,
    number: u64,
    since: Instant,
}

/// What a new entry costs others.
#[derive(Clone, Copy, Debug)]
struct Dropped {
    /// An earlier request had its id.
    replaced: bool,
    /// Rows without a label of those that made room.
    overflowed: u64,
}

impl Store {
    /// A store that keeps a prediction for `ttl` at most and `max_bytes` in all.
    pub(crate) fn new(ttl: Duration, max_bytes: usize, metrics: FeedbackMetrics) -> Self {
        Self {
            ttl,
            max_bytes: max_bytes - max_bytes / GONE_SHARE,
            entries: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            next: 0,
            gone: Gone::new(max_bytes / GONE_SHARE / GONE_BYTES),
            pending: None,
            metrics,
        }
    }

    /// Notes from now on what has to be written to disk.
    pub(super) fn note_changes(&mut self) {
        self.pending = Some(Pending::new(self.max_bytes, self.metrics.clone()));
    }

    /// What has to be written to disk.
    pub(super) fn pending(&mut self) -> Option<&mut Pending> {
        self.pending.as_mut()
    }

    /// Bytes of the predictions that are kept at most.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Number of the next request.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Number of the oldest request that is kept; that of the next when none is.
    pub(super) fn oldest(&self) -> u64 {
        self.order.front().map_or(self.next, |oldest| oldest.number)
    }

    /// Keeps the predictions of request `id` of `model`. An earlier request with the same id is forgotten, and when there
    /// is no room, the oldest are.
    pub(crate) fn put(&mut self, model: &str, id: &str, predictions: Predictions, now: Instant) {
        self.expire(now);
        let rows = predictions.rows();
        if rows == 0 {
            return;
        }
        let key: Arc<str> = key(model, id).into();
        let entry = Entry::new(self.next, predictions);
        if entry.bytes(&key) > self.max_bytes {
            self.metrics.too_large.inc();
            return;
        }
        if let Some(pending) = &mut self.pending {
            let values = &entry.predictions.values;
            let record = Record::Prediction {
                number: entry.number,
                at_unix_ms: now_unix_ms(),
                key: &key,
                width: entry.predictions.width,
                values: Cow::Borrowed(values),
            };
            pending.note(&record, key.len() + size_of_val(&**values));
        }
        let Dropped { replaced, overflowed } = self.insert(key, entry, now);
        self.metrics.replaced.inc_by(u64::from(replaced));
        self.metrics.overflowed.inc_by(overflowed);
        self.show();
    }

    /// Takes up what an earlier process has noted, `at_unix_ms` by its clock.
    pub(super) fn restore(&mut self, record: Record<'_>, now: Instant, now_unix_ms: i64) {
        match record {
            Record::Prediction {
                number,
                at_unix_ms,
                key,
                width,
                values,
            } => {
                let is_whole = width > 0 && !values.is_empty() && values.len().is_multiple_of(width);
                let age = now_unix_ms.saturating_sub(at_unix_ms);
                let since = now.checked_sub(Duration::from_millis(u64::try_from(age).unwrap_or(0)));
                let (true, Some(since)) = (is_whole && number >= self.next, since) else {
                    return;
                };
                let entry = Entry::new(number, Predictions::new(width, values.into_owned()));
                // The store may have been larger.
                if entry.bytes(key) <= self.max_bytes {
                    self.insert(key.into(), entry, since);
                }
            }
            Record::Label { number, row } => {
                let place = self.order.binary_search_by_key(&number, |place| place.number);
                let place = place.ok().and_then(|at| self.order.get(at));
                let entry = place.and_then(|place| self.entries.get_mut(&place.key));
                if let Some(entry) =
                    entry.filter(|entry| entry.number == number && row < entry.predictions.rows())
                {
                    entry.label(row);
                }
            }
        }
    }

    /// Counts what is kept now as taken over from an earlier process.
    pub(super) fn restored(&mut self) {
        self.metrics.restored.inc_by(self.entries.len() as u64);
        self.show();
    }

    /// Adds an entry that fits; the oldest make room.
    fn insert(&mut self, key: Arc<str>, entry: Entry, since: Instant) -> Dropped {
        let number = entry.number;
        self.next = number + 1;
        self.bytes += entry.bytes(&key);
        self.gone.forget(&key);
        let before = self.entries.insert(Arc::clone(&key), entry);
        self.bytes -= before.as_ref().map_or(0, |before| before.bytes(&key));
        self.order.push_back(Place { key, number, since });
        let mut overflowed = 0;
        while self.bytes > self.max_bytes {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            overflowed += self.drop_entry(&oldest).unwrap_or(0);
        }
        // The places of entries that were replaced are no entry's bytes.
        if self.order.len() > self.entries.len() + self.entries.len() / 2 + SPARE_PLACES {
            let entries = &self.entries;
            let is_current = |place: &Place| {
                let entry = entries.get(&place.key);
                entry.is_some_and(|entry| entry.number == place.number)
            };
            self.order.retain(is_current);
        }
        Dropped {
            replaced: before.is_some(),
            overflowed,
        }
    }

    /// Takes the prediction of a row out for its label.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn take(&mut self, model: &str, id: &str, row: usize, now: Instant) -> Result<Row, Miss> {
        self.expire(now);
        let key = key(model, id);
        let Some(entry) = self.entries.get_mut(key.as_str()) else {
            return Err(if self.gone.contains(&key) {
                Miss::Late
            } else {
                Miss::Unknown
            });
        };
        let rows = entry.predictions.rows();
        if row >= rows {
            return Err(Miss::NoRow { rows });
        }
        if !entry.label(row) {
            return Err(Miss::Duplicate);
        }
        if let Some(pending) = &mut self.pending {
            let number = entry.number;
            pending.note(&Record::Label { number, row }, 0);
        }
        let width = entry.predictions.width;
        Ok(SmallVec::from_slice(
            &entry.predictions.values[row * width..][..width],
        ))
    }

    /// Requests whose predictions are kept.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }

    /// Drops what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        let before = self.order.len();
        while let Some(oldest) = self.order.front() {
            if now.saturating_duration_since(oldest.since) < self.ttl {
                break;
            }
            let oldest = self.order.pop_front().expect("just seen");
            if let Some(unlabelled) = self.drop_entry(&oldest) {
                self.metrics.expired.inc_by(unlabelled);
            }
        }
        if self.order.len() != before {
            self.show();
        }
    }

    /// Forgets the entry at `place` and returns how many of its rows never got a label; none when it was replaced before.
    fn drop_entry(&mut self, place: &Place) -> Option<u64> {
        if self.entries.get(&place.key)?.number != place.number {
            return None;
        }
        let entry = self.entries.remove(&place.key)?;
        self.bytes -= entry.bytes(&place.key);
        self.gone.remember(&place.key);
        Some(entry.open as u64)
    }

    fn show(&self) {
        self.metrics.waiting.set(self.entries.len() as i64);
        self.metrics.bytes.set(self.bytes as i64);
    }
}

impl Entry {
    fn new(number: u64, predictions: Predictions) -> Self {
        let rows = predictions.rows();
        Self {
            number,
            predictions,
            labelled: SmallVec::from_elem(0, rows.div_ceil(64)),
            open: rows,
        }
    }

    /// Marks a row that there is as labelled; false when it was.
    fn label(&mut self, row: usize) -> bool {
        let (word, bit) = (row / 64, 1_u64 << (row % 64));
        let is_new = self.labelled[word] & bit == 0;
        self.labelled[word] |= bit;
        self.open -= usize::from(is_new);
        is_new
    }

    fn bytes(&self, key: &str) -> usize {
        let words = if self.labelled.spilled() {
            self.labelled.len()
        } else {
            0
        };
        ENTRY_BYTES + key.len() + size_of::<f32>() * self.predictions.values.len() + size_of::<u64>() * words
    }
}

/// Requests of different models may share an id, as the steps of a pipeline do.
fn key(model: &str, id: &str) -> String {
    format!("{model}\0{id}")
}

/// Hashes of the last ids whose predictions were dropped.
#[derive(Debug)]
struct Gone {
    hasher: RandomState,
    hashes: HashSet<u64>,
    order: VecDeque<u64>,
    limit: usize,
}

impl Gone {
    fn new(limit: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            hashes: HashSet::new(),
            order: VecDeque::new(),
            limit,
        }
    }

    fn remember(&mut self, key: &str) {
        let hash = self.hasher.hash_one(key);
        if self.hashes.insert(hash) {
            self.order.push_back(hash);
        }
        while self.order.len() > self.limit {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.hashes.remove(&oldest);
        }
    }

    /// The id is in use again.
    fn forget(&mut self, key: &str) {
        // Its place in the order stays: when it comes up, an id that was remembered again is forgotten early.
        self.hashes.remove(&self.hasher.hash_one(key));
    }

    fn contains(&self, key: &str) -> bool {
        self.hashes.contains(&self.hasher.hash_one(key))
    }
}
