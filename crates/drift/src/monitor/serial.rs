//! How much successive values depend on each other: the lag-1 correlation of their ranks.

use serde::{Deserialize, Serialize};

/// Blocks of rows whose correlation is remembered.
const HISTORY: usize = 3;
/// Pairs that make a block: fewer rows of a rare category say little about their order.
const BLOCK: u64 = 499;
/// Pairs below which nothing is said: a hundred rows.
const MIN_PAIRS: u64 = 99;

/// Lag-1 correlation in blocks of rows: one or more whole windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Serial {
    last: Option<f32>,
    pairs: u64,
    sum: f64,
    squares: f64,
    products: f64,
    /// Of the last blocks that had one, newest last.
    history: [Option<f32>; HISTORY],
}

impl Serial {
    /// Adds a value with this middle rank, in `[0, 1]`.
    pub(super) fn update(&mut self, rank: f64) {
        let d = rank - 0.5;
        if let Some(last) = self.last {
            self.pairs += 1;
            self.sum += d;
            self.squares += d * d;
            self.products += d * f64::from(last);
        }
        self.last = Some(d as f32);
    }

    /// Correlation of the newest rows; none below a hundred, and where all values are in one cell.
    pub(super) fn value(&self) -> Option<f64> {
        if self.pairs < MIN_PAIRS {
            return self.history[HISTORY - 1].map(f64::from);
        }
        let n = self.pairs as f64;
        let mean = self.sum / n;
        let variance = self.squares / n - mean * mean;
        // A block inside one narrow cell has no order to speak of.
        (variance > 1e-9).then(|| ((self.products / n - mean * mean) / variance).clamp(-1.0, 1.0))
    }

    /// Whether there have been enough rows to notice dependence.
    pub(super) fn is_known(&self) -> bool {
        self.pairs >= MIN_PAIRS || self.history.iter().any(Option::is_some)
    }

    /// The smallest size of the correlation in the last blocks: a change inside a block looks like dependence too; real dependence
    /// shows in every one. Before the first it is that of the rows there are, or 0.
    pub(super) fn least(&self) -> f64 {
        let closed = self.history.iter().flatten().map(|r| f64::from(r.abs()));
        closed
            .reduce(f64::min)
            .or_else(|| self.value().map(f64::abs))
            .unwrap_or(0.0)
    }

    /// Takes in another replica's pairs. Of closed blocks the larger correlation is kept: rows that depend on each other on one replica do
    /// so in all of them.
    pub(super) fn merge(&mut self, other: &Self) {
        self.last = None;
        self.pairs += other.pairs;
        self.sum += other.sum;
        self.squares += other.squares;
        self.products += other.products;
        for (own, other) in self.history.iter_mut().zip(other.history) {
            let size = |r: Option<f32>| r.map(f32::abs);
            if size(other) > size(*own) {
                *own = other;
            }
        }
    }

    /// Ends a window, and with it the block when that is long enough.
    pub(super) fn close_window(&mut self) {
        if self.pairs < BLOCK {
            return;
        }
        let mut history = self.history;
        if let Some(value) = self.value() {
            history.rotate_left(1);
            history[HISTORY - 1] = Some(value as f32);
        }
        *self = Self {
            history,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Serial;
    use crate::SplitMix64;

    /// Ranks, each `repeat` times.
    fn rows(serial: &mut Serial, rows: usize, repeat: usize, rng: &mut SplitMix64) {
        for _ in 0..rows / repeat {
            let rank = rng.uniform();
            (0..repeat).for_each(|_| serial.update(rank));
        }
    }

    #[test]
    fn dependence_has_to_show_in_every_block() {
        let mut serial = Serial::default();
        let mut rng = SplitMix64::new(1);
        rows(&mut serial, 99, 1, &mut rng);
        assert!(!serial.is_known() && serial.value().is_none());
        rows(&mut serial, 201, 1, &mut rng);
        serial.close_window();
        assert!(serial.is_known() && serial.least() < 0.15, "{serial:?}");
        rows(&mut serial, 200, 1, &mut rng);
        for block in 0..4 {
            serial.close_window();
            rows(&mut serial, 500, 4, &mut rng);
            assert!(
                serial.value().is_some_and(|r| (r - 0.75).abs() < 0.1),
                "{serial:?}"
            );
            assert_eq!(serial.least() > 0.5, block == 3, "{serial:?}");
        }
    }

    #[test]
    fn a_stream_that_begins_with_dependence_is_known_by_its_first_rows() {
        let mut serial = Serial::default();
        rows(&mut serial, 100, 4, &mut SplitMix64::new(2));
        assert!(serial.is_known() && serial.least() > 0.5, "{serial:?}");
    }

    #[test]
    fn one_value_has_no_order() {
        let mut serial = Serial::default();
        (0..200).for_each(|_| serial.update(0.25));
        assert!(serial.is_known() && serial.value().is_none());
    }
}
