//! The adaptive window.

use std::collections::VecDeque;

/// Settings of [`Adwin`]; the defaults are river's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdwinSettings {
    /// Probability of a false cut at each test, for values in `[0, 1]`.
    pub delta: f64,
    /// Values between tests.
    pub clock: u64,
    /// Buckets kept of each size.
    pub max_buckets: usize,
    /// Least values on both sides of a cut.
    pub min_window: u64,
    /// Values before the first test.
    pub grace: u64,
}

impl Default for AdwinSettings {
    fn default() -> Self {
        Self {
            delta: 0.002,
            clock: 32,
            max_buckets: 5,
            min_window: 5,
            grace: 10,
        }
    }
}

/// Adaptive windowing: keeps the longest recent window whose parts have the same mean.
///
/// Bifet and Gavaldà (2007), *Learning from Time-Changing Data with Adaptive Windowing*, with the test, the bucket order
/// and the reset after an alarm of river 0.26, whose alarm positions it reproduces. Memory grows with the logarithm of the window.
#[derive(Clone, Debug)]
pub struct Adwin {
    settings: AdwinSettings,
    /// Row `i` holds buckets of `2^i` values, oldest first; the newest values are in row 0.
    rows: VecDeque<VecDeque<Bucket>>,
    width: f64,
    total: f64,
    /// Sum of squared deviations from the mean of the window.
    spread: f64,
    ticks: u64,
    alarmed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    total: f64,
    spread: f64,
}

impl Adwin {
    /// An empty window.
    pub fn new(settings: AdwinSettings) -> Self {
        Self {
            settings,
            rows: VecDeque::from([VecDeque::new()]),
            width: 0.0,
            total: 0.0,
            spread: 0.0,
            ticks: 0,
            alarmed: false,
        }
    }

    /// Takes a value; true when the window was cut. The value after a cut starts a new window. Values that are not
    /// finite are ignored.
    pub fn update(&mut self, x: f64) -> bool {
        if !x.is_finite() {
            return false;
        }
        if self.alarmed {
            *self = Self::new(self.settings);
        }
        self.insert(x);
        self.ticks += 1;
        if self.ticks.is_multiple_of(self.settings.clock) && self.width > self.settings.grace as f64 {
            while self.width > 1.0 && self.has_cut() {
                self.alarmed = true;
                self.drop_oldest();
            }
        }
        self.alarmed
    }

    /// Values in the window.
    pub fn width(&self) -> u64 {
        self.width as u64
    }

    /// Mean of the window; `None` when it is empty.
    pub fn mean(&self) -> Option<f64> {
        (self.width > 0.0).then(|| self.total / self.width)
    }

    fn insert(&mut self, x: f64) {
        self.width += 1.0;
        if self.width > 1.0 {
            let before = self.width - 1.0;
            let d = x - self.total / before;
            self.spread += before * d * d / self.width;
        }
        self.total += x;
        if let Some(newest) = self.rows.front_mut() {
            newest.push_back(Bucket {
                total: x,
                spread: 0.0,
            });
        }
        self.compress();
    }

    /// Merges the two oldest buckets of each row that is too full into the next row.
    fn compress(&mut self) {
        let mut size = 1.0;
        for i in 0.. {
            let Some(row) = self
                .rows
                .get_mut(i)
                .filter(|row| row.len() > self.settings.max_buckets)
            else {
                return;
            };
            let (Some(a), Some(b)) = (row.pop_front(), row.pop_front()) else {
                return;
            };
            let d = a.total / size - b.total / size;
            let merged = Bucket {
                total: a.total + b.total,
                spread: a.spread + b.spread + size * size * d * d / (size + size),
            };
            match self.rows.get_mut(i + 1) {
                Some(next) => next.push_back(merged),
                None => self.rows.push_back(VecDeque::from([merged])),
            }
            size *= 2.0;
        }
    }

    /// Removes the oldest bucket.
    fn drop_oldest(&mut self) {
        let size = 2_f64.powi(self.rows.len() as i32 - 1);
        let Some(oldest) = self.rows.back_mut().and_then(VecDeque::pop_front) else {
            return;
        };
        self.width -= size;
        self.total -= oldest.total;
        let d = oldest.total / size - self.total / self.width;
        self.spread -= oldest.spread + size * self.width * d * d / (size + self.width);
        if self.rows.len() > 1 && self.rows.back().is_some_and(VecDeque::is_empty) {
            self.rows.pop_back();
        }
    }

    /// Whether some cut into an older and a newer part has means that differ by more than chance.
    fn has_cut(&self) -> bool {
        let min = self.settings.min_window as f64;
        let (mut old, mut old_total) = (0.0, 0.0);
        let (mut new, mut new_total) = (self.width, self.total);
        for (i, row) in self.rows.iter().enumerate().rev() {
            let size = 2_f64.powi(i as i32);
            for bucket in row {
                old += size;
                new -= size;
                old_total += bucket.total;
                new_total -= bucket.total;
                let difference = old_total / old - new_total / new;
                if new >= min && old >= min && self.is_significant(old, new, difference) {
                    return true;
                }
            }
        }
        false
    }

    fn is_significant(&self, old: f64, new: f64, difference: f64) -> bool {
        let min = self.settings.min_window as f64;
        let ln = (2.0 * self.width.ln() / self.settings.delta).ln();
        let m = 1.0 / (old - min + 1.0) + 1.0 / (new - min + 1.0);
        let epsilon = (2.0 * m * (self.spread / self.width) * ln).sqrt() + 2.0 / 3.0 * ln * m;
        difference.abs() > epsilon
    }
}

impl Default for Adwin {
    fn default() -> Self {
        Self::new(AdwinSettings::default())
    }
}

#[cfg(test)]
mod tests {
    use super::Adwin;

    #[test]
    fn the_window_grows_while_nothing_changes_and_is_cut_by_a_change() {
        let mut window = Adwin::default();
        assert!((0..4000).all(|i| !window.update(f64::from(i % 2))));
        assert_eq!((window.width(), window.mean()), (4000, Some(0.5)));
        assert!(
            window
                .rows
                .iter()
                .map(std::collections::VecDeque::len)
                .sum::<usize>()
                < 70,
            "logarithmic memory"
        );
        let found = (0..500)
            .position(|i| window.update(2.0 + f64::from(i % 2)))
            .expect("found");
        assert!(found < 64, "{found}");
        assert!(window.width() < 4500);
        assert!(!window.update(f64::NAN));
    }
}
