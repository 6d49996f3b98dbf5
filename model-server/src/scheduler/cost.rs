//! What a run costs, by rows: measured when the model warms up, corrected as it serves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Runs up to this long happen on the network thread. Handing a run over and back costs about 10 to 20 µs of two
/// threads' time; a network thread held for 100 µs delays its other connections by no more than a larger body does.
const SHORT: Duration = Duration::from_micros(100);

/// A line through measured run times: one row, and what each further row adds.
#[derive(Debug)]
pub(crate) struct Cost {
    one_row_ns: AtomicU64,
    further_row_ns: u64,
}

impl Cost {
    /// Nothing is known: runs are taken to be long until they have shown otherwise.
    pub(crate) fn unknown() -> Cost {
        Cost::from_measurements(SHORT * 2, None)
    }

    /// From the time of a one-row run, and the rows and time of a larger one where the model takes one.
    pub(crate) fn from_measurements(one_row: Duration, larger: Option<(usize, Duration)>) -> Cost {
        let further_row_ns = larger.map_or(0, |(rows, time)| {
            nanos(time.saturating_sub(one_row)) / (rows as u64).saturating_sub(1).max(1)
        });
        Cost {
            one_row_ns: AtomicU64::new(nanos(one_row)),
            further_row_ns,
        }
    }

    /// Whether a run of `rows` rows is short enough for the network thread.
    pub(crate) fn is_short(&self, rows: usize) -> bool {
        self.estimate(rows) <= SHORT
    }

    /// Expected time of a run.
    pub(crate) fn estimate(&self, rows: usize) -> Duration {
        let further = self
            .further_row_ns
            .saturating_mul((rows as u64).saturating_sub(1));
        Duration::from_nanos(self.one_row_ns.load(Ordering::Relaxed).saturating_add(further))
    }

    /// Takes a run into account: a moving average over about eight runs, so that one preempted run moves a model
    /// to the compute threads for a few requests at most. Two runs that end together may count as one.
    pub(crate) fn observe(&self, rows: usize, time: Duration) {
        let further = self
            .further_row_ns
            .saturating_mul((rows as u64).saturating_sub(1));
        let one_row = nanos(time).saturating_sub(further);
        let old = self.one_row_ns.load(Ordering::Relaxed);
        self.one_row_ns
            .store(old - old / 8 + one_row / 8, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_of_a_short_model_are_a_long_run() {
        let cost = Cost::from_measurements(Duration::from_micros(17), Some((32, Duration::from_micros(234))));
        assert!(cost.is_short(1) && cost.is_short(8));
        assert!(!cost.is_short(32));
        assert_eq!(cost.estimate(32), Duration::from_micros(234));
    }

    #[test]
    fn a_model_that_nobody_measured_moves_in_place_once_it_is_known_to_be_short() {
        let cost = Cost::unknown();
        assert!(!cost.is_short(1));
        for _ in 0..16 {
            cost.observe(1, Duration::from_micros(10));
        }
        assert!(cost.is_short(1));
    }

    #[test]
    fn one_slow_run_is_forgotten() {
        let cost = Cost::from_measurements(Duration::from_micros(10), None);
        cost.observe(1, Duration::from_millis(4));
        assert!(!cost.is_short(1));
        for _ in 0..16 {
            cost.observe(1, Duration::from_micros(10));
        }
        assert!(cost.is_short(1));
    }
}
