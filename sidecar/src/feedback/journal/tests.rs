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
        let journal = Journal::open(directory.to_owned(), &mut store, metrics.state.clone()).expect("opened");
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
