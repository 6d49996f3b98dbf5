//! What one subject's rows add up to: bin counts and moments. Everything is a sum, so windows of replicas and of
//! restarts merge exactly in any order.

use serde::{Deserialize, Serialize};

/// Bin counts and moments of the rows of one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Rows per bin, in the order of [`Subject::reference_counts`](crate::profile::Subject::reference_counts).
    bins: Box<[u64]>,
    /// Sum of the values per bin, less `centre`; empty for subjects without numbers.
    sums: Box<[f64]>,
    centre: f64,
    values: u64,
    sum: f64,
    sum_of_squares: f64,
    min: f64,
    max: f64,
}

/// Moments of the values of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowMoments {
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample variance; 0 for one value.
    pub variance: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
}

impl Window {
    /// An empty window with this many bins; `centre` is near the values (the reference's mean), so that squares keep
    /// their digits. `None` for subjects without numbers.
    pub fn new(bins: usize, centre: Option<f64>) -> Self {
        Self {
            bins: vec![0; bins].into(),
            sums: vec![0.0; if centre.is_some() { bins } else { 0 }].into(),
            centre: centre.unwrap_or(0.0),
            values: 0,
            sum: 0.0,
            sum_of_squares: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        }
    }

    /// Adds a row without a number.
    pub fn observe(&mut self, bin: usize) {
        if let Some(count) = self.bins.get_mut(bin) {
            *count += 1;
        }
    }

    /// Adds a row with a finite number.
    pub fn observe_number(&mut self, bin: usize, value: f64) {
        self.observe(bin);
        let d = value - self.centre;
        if let Some(sum) = self.sums.get_mut(bin) {
            *sum += d;
        }
        self.values += 1;
        self.sum += d;
        self.sum_of_squares += d * d;
        // Not `f64::min`, which spends instructions on NaN.
        if value < self.min {
            self.min = value;
        }
        if value > self.max {
            self.max = value;
        }
    }

    /// Adds everything that `other` saw. Windows of different bins do not mix: then nothing is added.
    pub fn merge(&mut self, other: &Self) {
        if !self.fits(other) {
            return;
        }
        for (a, b) in self.bins.iter_mut().zip(&other.bins) {
            *a += b;
        }
        for (a, b) in self.sums.iter_mut().zip(&other.sums) {
            *a += b;
        }
        self.values += other.values;
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Empties the window and keeps its memory.
    pub fn clear(&mut self) {
        self.bins.fill(0);
        self.sums.fill(0.0);
        (self.values, self.sum, self.sum_of_squares) = (0, 0.0, 0.0);
        (self.min, self.max) = (f64::INFINITY, f64::NEG_INFINITY);
    }

    /// Rows per bin.
    pub fn bins(&self) -> &[u64] {
        &self.bins
    }

    /// Rows.
    pub fn rows(&self) -> u64 {
        self.bins.iter().sum()
    }

    /// Mean value per bin; `None` for a bin without rows or a subject without numbers.
    pub fn bin_mean(&self, bin: usize) -> Option<f64> {
        let count = *self.bins.get(bin)?;
        let sum = *self.sums.get(bin)?;
        (count > 0).then(|| self.centre + sum / count as f64)
    }

    /// Whether a state read from elsewhere has the shape of this one.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        self.bins.len() == other.bins.len()
            && self.sums.len() == other.sums.len()
            && self.centre == other.centre
    }

    /// Bytes behind the fields.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.bins) + size_of_val(&*self.sums)
    }

    /// Moments of the numbers; `None` without any.
    pub fn moments(&self) -> Option<WindowMoments> {
        if self.values == 0 {
            return None;
        }
        let n = self.values as f64;
        let mean = self.sum / n;
        let variance = if self.values > 1 {
            ((self.sum_of_squares - n * mean * mean) / (n - 1.0)).max(0.0)
        } else {
            0.0
        };
        // Squares of values near 1e300 overflow; a moment that does is left at the largest number, never infinite.
        let variance = if variance.is_finite() { variance } else { f64::MAX };
        Some(WindowMoments {
            mean: self.centre + mean,
            variance,
            min: self.min,
            max: self.max,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Window;

    proptest! {
        #[test]
        fn merged_parts_equal_the_whole(values in prop::collection::vec((0_usize..5, -1000_i32..1000), 0..200), at in 0_usize..200) {
            // Whole numbers, so that sums are exact and equality means equality.
            let fill = |part: &[(usize, i32)]| {
                let mut window = Window::new(5, Some(3.0));
                for (bin, x) in part {
                    window.observe_number(*bin, f64::from(*x));
                }
                window
            };
            let whole = fill(&values);
            let (a, b) = values.split_at(at.min(values.len()));
            let mut forward = fill(a);
            forward.merge(&fill(b));
            let mut backward = fill(b);
            backward.merge(&fill(a));
            prop_assert_eq!(&forward, &whole);
            prop_assert_eq!(&backward, &whole);
        }
    }

    #[test]
    fn moments_are_those_of_the_values() {
        let mut window = Window::new(3, Some(1e9));
        assert_eq!(window.moments(), None);
        for (bin, x) in [(0, 1e9 + 1.0), (2, 1e9 + 3.0), (2, 1e9 + 5.0)] {
            window.observe_number(bin, x);
        }
        window.observe(1);
        let m = window.moments().expect("values");
        assert_eq!(
            (m.mean, m.variance, m.min, m.max),
            (1e9 + 3.0, 4.0, 1e9 + 1.0, 1e9 + 5.0)
        );
        assert_eq!(
            (window.rows(), window.bin_mean(2), window.bin_mean(9)),
            (4, Some(1e9 + 4.0), None)
        );
        window.clear();
        assert_eq!(window, Window::new(3, Some(1e9)));
        window.observe_number(0, 1e300);
        window.observe_number(0, -1e300);
        assert!(window.moments().is_some_and(|m| m.variance.is_finite()));
        window.merge(&Window::new(4, None));
        assert_eq!(window.rows(), 2);
    }
}
