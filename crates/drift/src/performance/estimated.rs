//! Performance without labels.

use serde::{Deserialize, Serialize};

use super::calibration::Calibrator;
use super::interval::Measure;
use super::scores::{Ranking, ScoreBin, Scores};
use super::task::{Prediction, Task};
use super::{ClassPerformance, Doubt, Performance, PerformanceError, Source, Split, Table, macro_average};
use crate::profile::Profile;

/// Share of rows off the calibration curve from which on an estimate is unreliable.
const MAX_UNSUPPORTED: f64 = 0.05;
/// Probabilities are kept this far from 0 and 1 in logarithms.
const LOG_FLOOR: f64 = 1e-15;

/// Rows by score and predicted class: what confidence-based performance estimation (CBPE) needs.
///
/// With `c(p)` the calibrated probability of the class and `ŷ` the prediction, the expected table is `TP = Σ c·[ŷ]`,
/// `FP = Σ (1 − c)·[ŷ]`, and so on; the area under the ROC curve follows from the expected positives and negatives per score bin.
/// Source: `NannyML`'s CBPE, and Kivimäki, Białek, Nurminen, Kuberski (2024), arXiv 2407.08649, for its bias and variance.
///
/// An interval covers two errors: labels are drawn once, each with its own `c(1 − c)`, and the calibration curve was
/// itself measured on so many rows. Both enter by the measure's derivative (delta method).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimated {
    rows: u64,
    /// Per counted class.
    classes: Vec<Split>,
}

/// The calibration curves of a task's counted classes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curves(Vec<Option<Calibrator>>);

impl Curves {
    pub(super) fn new(task: &Task, profile: &Profile) -> Self {
        let curve = |class| {
            let output = task.output(class)?;
            let curve = profile
                .calibration
                .iter()
                .flatten()
                .find(|c| c.output == output)?;
            Calibrator::new(curve)
        };
        Self(task.counted().map(curve).collect())
    }
}

impl Estimated {
    /// No rows yet.
    pub fn new(task: &Task) -> Self {
        Self {
            rows: 0,
            classes: task.counted().map(|_| Split::default()).collect(),
        }
    }

    /// Adds a row; one without probabilities says nothing.
    pub fn observe(&mut self, task: &Task, prediction: Prediction<'_>) {
        if prediction.probabilities().is_empty() {
            return;
        }
        self.rows += 1;
        for (class, split) in task.counted().zip(&mut self.classes) {
            if let Some(p) = prediction.probabilities().get(class) {
                split.observe(prediction.class() == class, *p);
            }
        }
    }

    /// Adds everything that `other` saw. States of different tasks do not mix: then nothing is added.
    pub fn merge(&mut self, other: &Self) {
        if self.classes.len() == other.classes.len() {
            self.rows += other.rows;
            for (a, b) in self.classes.iter_mut().zip(&other.classes) {
                a.merge(b);
            }
        }
    }

    /// Rows with probabilities.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The estimate; `None` without rows. `profile` holds the calibration curves of the model that `task` is of.
    pub fn performance(&self, task: &Task, profile: &Profile) -> Option<Performance> {
        self.evaluate(task, &Curves::new(task, profile))
    }

    pub(super) fn check(&self, task: &Task) -> Result<(), PerformanceError> {
        super::expect_length("estimated.classes", self.classes.len(), task.counted().count())
    }

    pub(super) fn evaluate(&self, task: &Task, curves: &Curves) -> Option<Performance> {
        let expectations: Vec<Expectation<'_>> = self
            .classes
            .iter()
            .zip(&curves.0)
            .map(|(split, curve)| Expectation::new(split, curve.as_ref()))
            .collect();
        let classes: Vec<ClassPerformance> = task
            .counted()
            .zip(&expectations)
            .map(|(class, e)| e.performance(task.name(class)))
            .collect();
        let accuracy = accuracy(&expectations, task.positive().is_some())?;
        let bounds = expectations
            .iter()
            .filter_map(|e| Some(e.ranking.as_ref()?.bound()));
        Some(Performance {
            source: Source::Estimated,
            rows: self.rows,
            accuracy,
            precision: macro_average(&classes, |c| c.precision),
            recall: macro_average(&classes, |c| c.recall),
            f1: macro_average(&classes, |c| c.f1),
            auc: macro_average(&classes, |c| c.auc),
            auc_bound: bounds.reduce(f64::max),
            log_loss: task
                .positive()
                .and_then(|_| expectations.first().and_then(Expectation::log_loss)),
            calibration_error: None,
            classes,
            doubts: self.doubts(curves),
        })
    }

    fn doubts(&self, curves: &Curves) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        if curves.0.iter().any(Option::is_none) {
            doubts.push(Doubt::Uncalibrated);
        }
        let off = self.classes.iter().zip(&curves.0).any(|(split, curve)| {
            let Some(curve) = curve else { return false };
            let rows = split.inside.bins().iter().chain(split.outside.bins());
            let rows = rows.filter(|bin| bin.rows > 0).map(|bin| (bin.mean(), bin.rows));
            curve.unsupported(rows) as f64 > MAX_UNSUPPORTED * self.rows as f64
        });
        if off {
            doubts.push(Doubt::OffSupport);
        }
        doubts
    }
}

/// The rows of one class, with the labels that are expected of them.
struct Expectation<'a> {
    curve: Option<&'a Calibrator>,
    /// Predicted as the class, and not: bins that are not empty.
    groups: [Vec<Expected>; 2],
    ranking: Option<Ranking>,
    table: Table,
}

/// A score bin with its calibrated probability.
#[derive(Clone, Copy, Debug)]
struct Expected {
    bin: usize,
    rows: f64,
    /// Mean score.
    p: f64,
    /// The share of its rows that have the class.
    share: f64,
}

impl<'a> Expectation<'a> {
    fn new(split: &Split, curve: Option<&'a Calibrator>) -> Self {
        let group = |scores: &Scores| -> Vec<Expected> {
            let live = |(bin, b): (usize, &ScoreBin)| {
                let p = b.mean();
                (b.rows > 0).then(|| Expected {
                    bin,
                    rows: b.rows as f64,
                    p,
                    share: curve.map_or(p, |c| c.calibrated(p)),
                })
            };
            scores.bins().iter().enumerate().filter_map(live).collect()
        };
        let groups = [group(&split.inside), group(&split.outside)];
        let positives = |group: &[Expected]| group.iter().map(|e| e.rows * e.share).sum::<f64>();
        let rows = |group: &[Expected]| group.iter().map(|e| e.rows).sum::<f64>();
        let [predicted, others] = &groups;
        let table = Table {
            true_positives: positives(predicted),
            false_positives: rows(predicted) - positives(predicted),
            false_negatives: positives(others),
            true_negatives: rows(others) - positives(others),
        };
        let mut bins = vec![(0.0, 0.0); super::scores::BINS];
        for e in groups.iter().flatten() {
            if let Some((p, n)) = bins.get_mut(e.bin) {
                *p += e.rows * e.share;
                *n += e.rows * (1.0 - e.share);
            }
        }
        Self {
            curve,
            groups,
            ranking: Ranking::new(bins.into_iter()),
            table,
        }
    }

    fn performance(&self, class: String) -> ClassPerformance {
        let t = &self.table;
        let predicted = t.true_positives + t.false_positives;
        let actual = t.true_positives + t.false_negatives;
        let ratio = |above: f64, below: f64, slope: &dyn Fn(f64, bool) -> f64| {
            let value = (below > 0.0).then(|| above / below)?;
            let variance = self.variance(|_, inside| slope(value, inside));
            Measure::share_with_variance(value, variance)
        };
        let one = |inside: bool| f64::from(u8::from(inside));
        ClassPerformance {
            class,
            table: *t,
            precision: ratio(t.true_positives, predicted, &|_, inside| one(inside) / predicted),
            recall: ratio(t.true_positives, actual, &|recall, inside| {
                (one(inside) - recall) / actual
            }),
            f1: ratio(2.0 * t.true_positives, predicted + actual, &|f1, inside| {
                (2.0 * one(inside) - f1) / (predicted + actual)
            }),
            auc: self.auc(),
        }
    }

    /// Without the pairs of a row with itself, which its expected positive and negative part would make.
    fn auc(&self) -> Option<Measure> {
        let ranking = self.ranking.as_ref()?;
        let own: f64 = self
            .groups
            .iter()
            .flatten()
            .map(|e| e.rows * e.share * (1.0 - e.share))
            .sum();
        let (positives, negatives) = (ranking.positives(), ranking.negatives());
        let pairs = positives * negatives - own;
        if pairs <= 0.0 {
            return None;
        }
        let value = ((ranking.ordered_pairs() - 0.5 * own) / pairs).clamp(0.0, 1.0);
        let slopes: Vec<f64> = ranking
            .placements()
            .map(|(below, above)| (below - above - value * (negatives - positives)) / (positives * negatives))
            .collect();
        let variance = self.variance(|bin, _| slopes.get(bin).copied().unwrap_or(0.0));
        Measure::share_with_variance(value, variance)
    }

    /// Expected log-loss of the scores as they are; the interval is that of labels drawn once.
    fn log_loss(&self) -> Option<Measure> {
        let (mut n, mut sum, mut variance) = (0.0, 0.0, 0.0);
        for e in self.groups.iter().flatten() {
            let p = e.p.clamp(LOG_FLOOR, 1.0 - LOG_FLOOR);
            n += e.rows;
            sum -= e.rows * (e.share * p.ln() + (1.0 - e.share) * (-p).ln_1p());
            variance += e.rows * e.share * (1.0 - e.share) * ((1.0 - p) / p).ln().powi(2);
        }
        (n > 0.0).then(|| {
            let half = 1.96 * variance.sqrt() / n;
            Measure {
                value: sum / n,
                lower: (sum / n - half).max(0.0),
                upper: sum / n + half,
            }
        })
    }

    /// Variance of a measure with this derivative by each row's label; arguments: score bin, predicted as the class.
    fn variance(&self, slope: impl Fn(usize, bool) -> f64) -> f64 {
        let rows = || {
            let [predicted, others] = &self.groups;
            let predicted = predicted.iter().map(|e| (e, true));
            predicted.chain(others.iter().map(|e| (e, false)))
        };
        let drawn: f64 = rows()
            .map(|(e, inside)| e.rows * e.share * (1.0 - e.share) * slope(e.bin, inside).powi(2))
            .sum();
        let Some(curve) = self.curve else { return drawn };
        let mut by_knot: Vec<(f64, f64)> = curve.variances().map(|v| (v, 0.0)).collect();
        for (e, inside) in rows() {
            for (knot, weight) in curve.weights(e.p) {
                if let Some((_, sum)) = by_knot.get_mut(knot) {
                    *sum += weight * e.rows * slope(e.bin, inside);
                }
            }
        }
        drawn + by_knot.iter().map(|(v, sum)| v * sum * sum).sum::<f64>()
    }
}

/// The share of rows whose predicted class is expected to be right.
fn accuracy(expectations: &[Expectation<'_>], is_binary: bool) -> Option<Measure> {
    let (mut right, mut rows, mut variance) = (0.0, 0.0, 0.0);
    for e in expectations {
        right += e.table.true_positives;
        if is_binary {
            right += e.table.true_negatives;
            rows += e.table.false_negatives + e.table.true_negatives;
        }
        rows += e.table.true_positives + e.table.false_positives;
        // A row counts once: where its own class is predicted, or, of two classes, where it is not.
        variance += e.variance(|_, inside| match (inside, is_binary) {
            (true, _) => 1.0,
            (false, true) => -1.0,
            (false, false) => 0.0,
        });
    }
    if rows <= 0.0 {
        return None;
    }
    Measure::share_with_variance(right / rows, variance / (rows * rows))
}

#[cfg(test)]
mod tests {
    use super::Estimated;
    use crate::SplitMix64;
    use crate::performance::task::tests::example;
    use crate::performance::{Doubt, Labelled, Task, calibration_bins};
    use crate::profile::{Calibration, Profile};

    /// `P(positive | x)` of a world, and the score that an overconfident model gives.
    fn world(x: f64) -> (f64, f64) {
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        (sigmoid(1.2 * x - 0.5), sigmoid(2.0 * x - 0.6))
    }

    fn normal(rng: &mut SplitMix64) -> f64 {
        (0..12).map(|_| rng.uniform()).sum::<f64>() - 6.0
    }

    fn profile(rows: usize) -> Profile {
        let mut rng = SplitMix64::new(1);
        let reference: Vec<(f64, bool)> = (0..rows)
            .map(|_| {
                let (truth, score) = world(normal(&mut rng));
                (score, rng.uniform() < truth)
            })
            .collect();
        let mut profile = example();
        let task = Task::new(&profile).expect("a classifier");
        let output = task
            .output(task.positive().expect("binary"))
            .expect("an output")
            .to_owned();
        profile.calibration = Some(vec![Calibration {
            output,
            bins: calibration_bins(&reference, 20),
        }]);
        profile
    }

    /// Estimate and truth of `rows` rows whose inputs are shifted and scaled.
    fn run(profile: &Profile, seed: u64, rows: u64, shift: f64, scale: f64) -> (Estimated, Labelled) {
        let task = Task::new(profile).expect("a classifier");
        let positive = task.positive().expect("binary");
        let (mut estimated, mut labelled) = (Estimated::new(&task), Labelled::new(&task));
        let mut rng = SplitMix64::new(seed);
        for _ in 0..rows {
            let (truth, score) = world(normal(&mut rng) * scale + shift);
            let mut row = [1.0 - score; 2];
            row[positive] = score;
            let answer = task.prediction(None, &mut row).expect("probabilities");
            let happened = if rng.uniform() < truth {
                positive
            } else {
                1 - positive
            };
            estimated.observe(&task, answer);
            labelled.observe(&task, answer, happened);
        }
        (estimated, labelled)
    }

    #[test]
    fn the_estimate_follows_a_shift_of_the_inputs_within_a_point() {
        let profile = profile(20_000);
        let task = Task::new(&profile).expect("a classifier");
        let mut accuracies = Vec::new();
        for (shift, scale) in [
            (0.0, 1.0),
            (0.5, 1.0),
            (-0.7, 1.0),
            (0.0, 0.6),
            (0.0, 1.3),
            (0.3, 0.8),
        ] {
            let (estimated, labelled) = run(&profile, 7, 100_000, shift, scale);
            let estimate = estimated.performance(&task, &profile).expect("rows");
            let truth = labelled.performance(&task).expect("rows");
            let pairs = [
                (Some(estimate.accuracy), Some(truth.accuracy)),
                (estimate.auc, truth.auc),
                (estimate.f1, truth.f1),
                (estimate.precision, truth.precision),
                (estimate.recall, truth.recall),
            ];
            for (i, (a, b)) in pairs.into_iter().enumerate() {
                let (a, b) = (a.expect("defined").value, b.expect("defined").value);
                let limit = if i == 0 { 0.01 } else { 0.02 };
                assert!((a - b).abs() < limit, "{shift} {scale}, measure {i}: {a} for {b}");
            }
            assert_eq!(estimate.doubts, [], "{shift} {scale}");
            accuracies.push(truth.accuracy.value);
        }
        let range = accuracies
            .iter()
            .fold(0.0_f64, |r, a| r.max((a - accuracies[0]).abs()));
        assert!(range > 0.05, "the shifts do change the accuracy: {accuracies:?}");
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let task = Task::new(&example()).expect("a classifier");
        let (mut inside, mut inside_auc) = (0, 0);
        for seed in 0..200 {
            // A new reference each time: the curve's own error is part of the interval.
            let mut rng = SplitMix64::new(1000 + seed);
            let reference: Vec<(f64, bool)> = (0..1500)
                .map(|_| {
                    let (truth, score) = world(normal(&mut rng));
                    (score, rng.uniform() < truth)
                })
                .collect();
            let mut profile = profile(100);
            if let Some(curve) = profile.calibration.iter_mut().flatten().next() {
                curve.bins = calibration_bins(&reference, 10);
            }
            let (estimated, labelled) = run(&profile, seed, 1000, 0.2, 1.0);
            let estimate = estimated.performance(&task, &profile).expect("rows");
            let truth = labelled.performance(&task).expect("rows");
            let holds = |m: crate::performance::Measure, x: f64| m.lower <= x && x <= m.upper;
            inside += u32::from(holds(estimate.accuracy, truth.accuracy.value));
            inside_auc += u32::from(holds(estimate.auc.expect("both"), truth.auc.expect("both").value));
        }
        // 95 % of 200, less three standard errors.
        assert!(inside >= 181 && inside_auc >= 181, "{inside} {inside_auc}");
    }

    #[test]
    fn without_a_curve_the_estimate_says_so_and_off_the_curve_it_is_unreliable() {
        let mut profile = profile(5000);
        let task = Task::new(&profile).expect("a classifier");
        let far = run(&profile, 3, 2000, 6.0, 0.2).0;
        let estimate = far.performance(&task, &profile).expect("rows");
        assert_eq!(estimate.doubts, [Doubt::OffSupport]);
        assert!(estimate.is_unreliable());
        profile.calibration = None;
        let estimate = run(&profile, 3, 2000, 0.0, 1.0)
            .0
            .performance(&task, &profile)
            .expect("rows");
        assert_eq!(estimate.doubts, [Doubt::Uncalibrated]);
        assert!(!estimate.is_unreliable());
        assert!(Estimated::new(&task).performance(&task, &profile).is_none());
    }

    #[test]
    fn merged_parts_estimate_as_the_whole() {
        let profile = profile(5000);
        let task = Task::new(&profile).expect("a classifier");
        let parts: Vec<Estimated> = (0..4).map(|seed| run(&profile, seed, 300, 0.1, 1.0).0).collect();
        let merged = |order: [usize; 4]| {
            let mut whole = Estimated::new(&task);
            for i in order {
                whole.merge(&parts[i]);
            }
            whole.performance(&task, &profile).expect("rows")
        };
        let (a, b) = (merged([0, 1, 2, 3]), merged([3, 1, 0, 2]));
        assert_eq!((a.rows, b.rows), (1200, 1200));
        assert!((a.accuracy.value - b.accuracy.value).abs() < 1e-12);
    }
}
