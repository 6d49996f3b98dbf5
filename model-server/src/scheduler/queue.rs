//! Those who wait for a session, in the order of their urgency.

use std::collections::BTreeMap;
use std::time::Instant;

use super::job::{Entry, Job};

/// Entries that are looked through for more rows of a batch: a queue of other shapes must not cost a walk each time.
const LOOKED_THROUGH: usize = 1_024;

/// Urgency, then arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// 1 is the most urgent.
    pub(super) priority: u32,
    pub(super) sequence: u64,
}

#[derive(Debug, Default)]
pub(super) struct Queue(BTreeMap<Key, Entry>);

/// What a session takes from the queue.
#[derive(Debug, Default)]
pub(super) struct Picked {
    /// One execution.
    pub(super) batch: Vec<Entry>,
    /// Came too late: their deadline is past.
    pub(super) late: Vec<Entry>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, key: Key, entry: Entry) {
        self.0.insert(key, entry);
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Entry> {
        self.0.remove(&key)
    }

    /// Takes out the last one, if it is less urgent than `priority`.
    pub(super) fn give_way(&mut self, priority: u32) -> Option<Entry> {
        let last = self.0.last_entry()?;
        (last.key().priority > priority).then(|| last.remove())
    }

    /// The most urgent one that is not late, and those that go with it, up to `most_rows` of it rows.
    pub(super) fn pick(&mut self, now: Instant, most_rows: impl FnOnce(&Job) -> usize) -> Picked {
        let mut picked = Picked::default();
        let first = loop {
            let Some((_, entry)) = self.0.pop_first() else {
                return picked;
            };
            if entry.job.is_late(now) {
                picked.late.push(entry);
            } else {
                break entry;
            }
        };
        let mut rows = first.job.rows;
        let most_rows = if first.job.joins { most_rows(&first.job) } else { 1 };
        let mut keys = Vec::new();
        if rows < most_rows {
            for (key, entry) in self.0.iter().take(LOOKED_THROUGH) {
                let fits = rows + entry.job.rows <= most_rows;
                if fits && first.job.goes_with(&entry.job) && !entry.job.is_late(now) {
                    rows += entry.job.rows;
                    keys.push(*key);
                }
                if rows >= most_rows {
                    break;
                }
            }
        }
        picked.batch.push(first);
        picked
            .batch
            .extend(keys.into_iter().filter_map(|key| self.0.remove(&key)));
        picked
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plumbline_inference_protocol::{Shape, Tensor, TensorData};

    use super::super::Deadline;
    use super::*;

    fn entry(rows: usize, columns: usize) -> Entry {
        let data = TensorData::from_vec(vec![0.0_f32; rows * columns]);
        let shape = Shape::from([rows as i64, columns as i64]);
        let job = Job {
            inputs: vec![Tensor::new("x", shape, data).unwrap()],
            outputs: vec![0],
            rows,
            class: 0,
            joins: true,
            deadline: None,
            arrived: Instant::now(),
        };
        Entry { job, slot: None }
    }

    fn queue(entries: Vec<(u32, Entry)>) -> Queue {
        let mut queue = Queue::default();
        for (sequence, (priority, entry)) in entries.into_iter().enumerate() {
            let sequence = sequence as u64;
            queue.push(Key { priority, sequence }, entry);
        }
        queue
    }

    /// Rows of each entry that is picked.
    fn picked(queue: &mut Queue, most_rows: usize) -> Vec<usize> {
        let picked = queue.pick(Instant::now(), |_| most_rows);
        picked.batch.iter().map(|entry| entry.job.rows).collect()
    }

    #[test]
    fn the_urgent_go_first_and_the_rest_in_the_order_they_came() {
        let mut queue = queue(vec![
            (9, entry(1, 2)),
            (9, entry(2, 2)),
            (1, entry(3, 2)),
            (5, entry(4, 2)),
        ]);
        let order: Vec<_> = (0..5).map(|_| picked(&mut queue, 1)).collect();
        assert_eq!(order, [vec![3], vec![4], vec![1], vec![2], vec![]]);
    }

    #[test]
    fn a_batch_has_rows_of_one_kind_and_no_more_than_pay() {
        let mut queue = queue(vec![
            (9, entry(2, 2)),
            (9, entry(1, 3)), // other columns
            (9, entry(4, 2)), // too many
            (9, entry(1, 2)),
            (9, entry(1, 2)),
            (9, entry(1, 2)),
        ]);
        assert_eq!(picked(&mut queue, 4), [2, 1, 1]);
        assert_eq!(picked(&mut queue, 4), [1]);
        assert_eq!(picked(&mut queue, 4), [4]);
        assert_eq!(picked(&mut queue, 4), [1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn other_outputs_datatypes_and_names_do_not_go_together() {
        let base = || entry(1, 1);
        let with = |change: fn(&mut Job)| {
            let mut other = base();
            change(&mut other.job);
            other
        };
        for other in [
            with(|job| job.outputs = vec![1]),
            with(|job| job.joins = false),
            with(|job| {
                let data = TensorData::from_vec(vec![0_i32]);
                job.inputs = vec![Tensor::new("x", Shape::from([1, 1]), data).unwrap()];
            }),
            with(|job| {
                let data = TensorData::from_vec(vec![0.0_f32]);
                job.inputs = vec![Tensor::new("y", Shape::from([1, 1]), data).unwrap()];
            }),
        ] {
            let mut queue = queue(vec![(9, base()), (9, other)]);
            assert_eq!(picked(&mut queue, 8), [1]);
        }
        assert_eq!(picked(&mut queue(vec![(9, base()), (9, base())]), 8), [1, 1]);
    }

    #[test]
    fn those_that_are_late_are_not_run() {
        let late = || {
            let mut late = entry(7, 2);
            late.job.deadline = Deadline::new(late.job.arrived, Duration::ZERO);
            late
        };
        let mut queue = queue(vec![(1, late()), (2, entry(1, 2)), (3, late()), (4, entry(1, 2))]);
        let picked = queue.pick(Instant::now(), |_| 64);
        assert_eq!((picked.batch.len(), picked.late.len()), (2, 1));
        let picked = queue.pick(Instant::now(), |_| 64);
        assert_eq!((picked.batch.len(), picked.late.len()), (0, 1));
    }

    #[test]
    fn only_the_less_urgent_give_way() {
        let mut queue = queue(vec![(5, entry(1, 2)), (7, entry(2, 2)), (7, entry(3, 2))]);
        assert!(queue.give_way(7).is_none());
        assert_eq!(queue.give_way(6).map(|entry| entry.job.rows), Some(3));
        assert_eq!(queue.len(), 2);
    }
}
