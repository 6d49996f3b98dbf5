//! Predictions that wait for their ground truth, bounded in time and in bytes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::mem::size_of;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::metrics::FeedbackMetrics;

/// This part of the bytes remembers ids whose predictions are gone, so that a label for one is told to be late.
const GONE_SHARE: usize = 8;

/// What a dropped id costs: its hash in a set that is at least 7/16 full, and in a queue that is at least half full.
const GONE_BYTES: usize = 3 * size_of::<u64>() + 2 * size_of::<u64>();

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
            metrics,
        }
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
        let number = self.next;
        let entry = Entry {
            number,
            predictions,
            labelled: SmallVec::from_elem(0, rows.div_ceil(64)),
            open: rows,
        };
        let bytes = entry.bytes(&key);
        if bytes > self.max_bytes {
            self.metrics.too_large.inc();
            return;
        }
        self.next += 1;
        self.bytes += bytes;
        self.gone.forget(&key);
        if let Some(before) = self.entries.insert(Arc::clone(&key), entry) {
            self.bytes -= before.bytes(&key);
            self.metrics.replaced.inc();
        }
        self.order.push_back(Place {
            key,
            number,
            since: now,
        });
        while self.bytes > self.max_bytes {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(unlabelled) = self.drop_entry(&oldest) {
                self.metrics.overflowed.inc_by(unlabelled);
            }
        }
        self.show();
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
        let (word, bit) = (row / 64, 1_u64 << (row % 64));
        if row >= rows {
            return Err(Miss::NoRow { rows });
        }
        if entry.labelled[word] & bit != 0 {
            return Err(Miss::Duplicate);
        }
        entry.labelled[word] |= bit;
        entry.open -= 1;
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

    fn expire(&mut self, now: Instant) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    const TTL: Duration = Duration::from_mins(1);

    fn store(max_bytes: usize) -> Store {
        let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
        Store::new(TTL, max_bytes, metrics.feedback)
    }

    fn rows(values: &[f32]) -> Predictions {
        Predictions::new(1, values.to_vec())
    }

    #[test]
    fn a_row_is_joined_once_and_every_miss_says_why() {
        let (mut store, now) = (store(1 << 20), Instant::now());
        store.put("churn", "a", Predictions::new(2, vec![0.1, 0.9, 0.2, 0.8]), now);
        assert_eq!(store.take("churn", "a", 1, now).as_deref(), Ok(&[0.2, 0.8][..]));
        assert_eq!(store.take("churn", "a", 1, now), Err(Miss::Duplicate));
        assert_eq!(store.take("churn", "a", 2, now), Err(Miss::NoRow { rows: 2 }));
        assert_eq!(store.take("churn", "b", 0, now), Err(Miss::Unknown));
        assert_eq!(
            store.take("other", "a", 0, now),
            Err(Miss::Unknown),
            "ids are of a model"
        );
        assert_eq!(store.take("churn", "a", 0, now).as_deref(), Ok(&[0.1, 0.9][..]));
        assert_eq!(
            store.take("churn", "a", 0, now),
            Err(Miss::Duplicate),
            "while it is kept"
        );
    }

    #[test]
    fn a_label_after_the_time_to_live_is_late() {
        let (mut store, now) = (store(1 << 20), Instant::now());
        store.put("churn", "a", rows(&[1.0, 2.0]), now);
        store.put("churn", "b", rows(&[1.0]), now + TTL / 2);
        assert!(store.take("churn", "a", 0, now + TTL / 2).is_ok());
        assert_eq!(store.take("churn", "a", 1, now + TTL), Err(Miss::Late));
        assert_eq!(store.metrics.expired.get(), 1, "one of its rows had its label");
        assert!(store.take("churn", "b", 0, now + TTL).is_ok());
        assert_eq!((store.len(), store.metrics.waiting.get()), (1, 1));
    }

    #[test]
    fn the_oldest_make_room_and_bytes_stay_in_bounds() {
        let (mut store, now) = (store(64 << 10), Instant::now());
        for number in 0..5_000 {
            store.put("churn", &format!("request-{number}"), rows(&[1.0; 3]), now);
            assert!(store.bytes <= store.max_bytes);
        }
        let kept = store.len();
        assert!(kept > 100 && store.order.len() == kept, "{kept}");
        assert_eq!(store.metrics.overflowed.get(), 3 * (5_000 - kept as u64));
        assert_eq!(store.metrics.bytes.get(), store.bytes as i64);
        assert!(store.take("churn", "request-4999", 2, now).is_ok());
        assert_eq!(
            store.take("churn", &format!("request-{}", 4_999 - kept), 0, now),
            Err(Miss::Late)
        );
        assert_eq!(
            store.take("churn", "request-0", 0, now),
            Err(Miss::Unknown),
            "what is gone is remembered for a while only"
        );
        assert!(store.gone.hashes.len() <= store.gone.limit);
    }

    #[test]
    fn what_never_fits_is_counted() {
        let (mut store, now) = (store(1 << 10), Instant::now());
        store.put("churn", "a", rows(&[0.0; 1_000]), now);
        assert_eq!((store.len(), store.metrics.too_large.get()), (0, 1));
        store.put("churn", "b", rows(&[]), now);
        assert_eq!(store.len(), 0, "an empty batch has nothing to join");
    }

    #[test]
    fn an_id_that_is_used_again_stands_for_the_newer_request() {
        let (mut store, now) = (store(1 << 20), Instant::now());
        store.put("churn", "a", rows(&[1.0]), now);
        let first = store.bytes;
        store.put("churn", "a", rows(&[2.0]), now + TTL / 2);
        assert_eq!((store.bytes, store.metrics.replaced.get()), (first, 1));
        assert_eq!(
            store.take("churn", "a", 0, now + TTL).as_deref(),
            Ok(&[2.0][..]),
            "the older one's time is not its own"
        );
        store.put("churn", "z", rows(&[2.0]), now + TTL + TTL);
        assert_eq!((store.len(), store.order.len()), (1, 1));
    }
}
