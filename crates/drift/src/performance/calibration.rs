//! What a model's probabilities are worth, as the reference showed it.

use crate::describe::{quantile, sort};
use crate::fsum::fsum;
use crate::profile::{Calibration, CalibrationBin};

/// Reference rows that a part of the curve needs to be trusted.
const MIN_ROWS: u64 = 20;

/// A calibration curve: `p + δ(p)`, where `δ` is the difference of observed share and mean prediction of each bin, linear between
/// the bins' mean predictions and constant beyond the outer ones.
///
/// The correction is smooth and keeps the order of scores within a bin, which a step function would lose.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Calibrator {
    knots: Vec<Knot>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Knot {
    lower: f64,
    upper: f64,
    rows: u64,
    predicted: f64,
    correction: f64,
    /// Variance of the observed share.
    variance: f64,
}

impl Calibrator {
    /// `None` when no bin of the curve has rows.
    pub(super) fn new(curve: &Calibration) -> Option<Self> {
        let mut knots: Vec<Knot> = curve
            .bins
            .iter()
            .filter(|bin| bin.count > 0)
            .map(|bin| {
                let n = bin.count as f64;
                // With half a row of each kind, so that a bin without any is not beyond doubt.
                let share = (bin.observed * n + 0.5) / (n + 1.0);
                Knot {
                    lower: bin.lower,
                    upper: bin.upper,
                    rows: bin.count,
                    predicted: bin.predicted,
                    correction: bin.observed - bin.predicted,
                    variance: share * (1.0 - share) / n,
                }
            })
            .collect();
        knots.sort_by(|a, b| a.predicted.total_cmp(&b.predicted));
        (!knots.is_empty()).then_some(Self { knots })
    }

    /// The share of rows with probability `p` that have the class.
    pub(super) fn calibrated(&self, p: f64) -> f64 {
        let correction: f64 = self
            .weights(p)
            .into_iter()
            .filter_map(|(knot, weight)| Some(weight * self.knots.get(knot)?.correction))
            .sum();
        (p + correction).clamp(0.0, 1.0)
    }

    /// The two bins that the correction at `p` comes from, with their weights; these sum to 1.
    pub(super) fn weights(&self, p: f64) -> [(usize, f64); 2] {
        let right = self.knots.partition_point(|knot| knot.predicted < p);
        match (
            right.checked_sub(1).and_then(|i| self.knots.get(i)),
            self.knots.get(right),
        ) {
            (Some(a), Some(b)) => {
                let t = (p - a.predicted) / (b.predicted - a.predicted);
                [(right - 1, 1.0 - t), (right, t)]
            }
            (None, _) => [(0, 1.0), (0, 0.0)],
            (Some(_), None) => [(right - 1, 1.0), (right - 1, 0.0)],
        }
    }

    /// Variance of the correction of each bin.
    pub(super) fn variances(&self) -> impl Iterator<Item = f64> {
        self.knots.iter().map(|knot| knot.variance)
    }

    /// Of the rows with these mean probabilities, those that lie where the reference had too few rows to say anything.
    ///
    /// That is: between the curve's bins, in a bin with less than twenty rows, or so far from a bin's mean prediction that
    /// live and reference rows share no more than half of it.
    pub(super) fn unsupported(&self, rows: impl Iterator<Item = (f64, u64)> + Clone) -> u64 {
        let mut outside = 0;
        let mut inside = vec![(0_u64, 0.0); self.knots.len()];
        for (p, n) in rows {
            let place = self
                .knots
                .iter()
                .position(|k| p >= k.lower && (p < k.upper || (p == 1.0 && k.upper == 1.0)));
            match place.and_then(|i| inside.get_mut(i)) {
                Some((count, sum)) => {
                    *count += n;
                    *sum += p * n as f64;
                }
                None => outside += n,
            }
        }
        let alien = |(knot, (count, sum)): (&Knot, &(u64, f64))| {
            let distance = (sum / *count as f64 - knot.predicted).abs();
            let far = distance > 0.5 * (knot.upper - knot.lower);
            if *count > 0 && (knot.rows < MIN_ROWS || far) {
                *count
            } else {
                0
            }
        };
        outside + self.knots.iter().zip(&inside).map(alien).sum::<u64>()
    }
}

/// The bins of a calibration curve: how often what was predicted happened, in `bins` bins that split `[0, 1]` with about as many
/// rows each.
///
/// `rows`: probability in `[0, 1]`, and whether the row had the class. Cuts are the type-7 quantiles at `k/bins`, repeats and the
/// ends left out; a bin without rows predicts and observes its middle.
pub fn calibration_bins(rows: &[(f64, bool)], bins: usize) -> Vec<CalibrationBin> {
    let mut scores: Vec<f64> = rows.iter().map(|(p, _)| *p).collect();
    sort(&mut scores);
    let mut limits: Vec<f64> = (1..bins)
        .filter_map(|k| quantile(&scores, k as f64 / bins as f64))
        .filter(|cut| *cut > 0.0 && *cut < 1.0)
        .collect();
    limits.dedup();
    limits.insert(0, 0.0);
    limits.push(1.0);
    limits
        .windows(2)
        .filter_map(|pair| match pair {
            [lower, upper] => Some((*lower, *upper)),
            _ => None,
        })
        .map(|(lower, upper)| {
            let inside = || {
                rows.iter()
                    .filter(move |(p, _)| *p >= lower && (*p < upper || (upper == 1.0 && *p == 1.0)))
            };
            let count = inside().count() as u64;
            let happened = inside().filter(|(_, happened)| *happened).count();
            let middle = 0.5 * lower + 0.5 * upper;
            let (predicted, observed) = if count == 0 {
                (middle, middle)
            } else {
                let n = count as f64;
                (fsum(inside().map(|(p, _)| *p)) / n, happened as f64 / n)
            };
            CalibrationBin {
                lower,
                upper,
                count,
                predicted,
                observed,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Calibrator, calibration_bins};
    use crate::profile::Calibration;

    fn curve(rows: &[(f64, bool)], bins: usize) -> Calibrator {
        Calibrator::new(&Calibration {
            output: "p".to_owned(),
            bins: calibration_bins(rows, bins),
        })
        .expect("rows")
    }

    /// A model that says `p` where `0.25 + p/2` happens.
    fn timid(rows: u32) -> Vec<(f64, bool)> {
        (0..rows)
            .map(|i| {
                let p = f64::from(i) / f64::from(rows);
                let happened = (f64::from(i) * 0.618_033_988_75).fract() < 0.25 + p / 2.0;
                (p, happened)
            })
            .collect()
    }

    #[test]
    fn the_curve_corrects_what_the_model_gets_wrong() {
        let calibrator = curve(&timid(20_000), 10);
        for p in [0.1, 0.33, 0.5, 0.71, 0.9] {
            let difference = calibrator.calibrated(p) - (0.25 + p / 2.0);
            assert!(difference.abs() < 0.01, "{p}: {difference}");
        }
        // Beyond the outer means the correction stays what it was.
        assert!((calibrator.calibrated(0.0) - 0.225).abs() < 0.01);
        assert_eq!(calibrator.weights(0.0)[0], (0, 1.0));
    }

    #[test]
    fn bins_split_the_unit_interval_and_hold_every_row() {
        let bins = calibration_bins(&[(0.0, false), (0.0, true), (0.2, false), (1.0, true)], 4);
        let limits: Vec<(f64, f64)> = bins.iter().map(|b| (b.lower, b.upper)).collect();
        assert_eq!(limits, [(0.0, 0.1), (0.1, 0.4), (0.4, 1.0)]);
        let counts: Vec<(u64, f64)> = bins.iter().map(|b| (b.count, b.observed)).collect();
        assert_eq!(counts, [(2, 0.5), (1, 0.0), (1, 1.0)]);
        let none = calibration_bins(&[], 3);
        assert_eq!((none.len(), none[0].predicted), (1, 0.5));
        assert!(
            Calibrator::new(&Calibration {
                output: "p".to_owned(),
                bins: none
            })
            .is_none()
        );
    }

    #[test]
    fn rows_off_the_curve_are_counted() {
        let low: Vec<(f64, bool)> = (0..1000).map(|i| (f64::from(i) / 5000.0, i % 7 == 0)).collect();
        let calibrator = curve(&low, 5);
        assert_eq!(calibrator.unsupported([(0.05, 300), (0.15, 200)].into_iter()), 0);
        assert_eq!(
            calibrator.unsupported([(0.05, 300), (0.95, 200)].into_iter()),
            200,
            "the last bin reaches to 1 and has all its rows below 0.2"
        );
    }
}
