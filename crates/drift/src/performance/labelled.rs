//! Performance with labels, whenever they arrive.

use serde::{Deserialize, Serialize};

use super::interval::Measure;
use super::scores::Ranking;
use super::task::{Prediction, Task};
use super::{ClassPerformance, Performance, PerformanceError, Source, Split, Table, macro_average};
use crate::special::chi2_critical;

/// A probability is taken for at least this in the log-loss.
const LOG_FLOOR: f64 = 1e-15;
/// Groups of rows that the calibration error compares.
const CALIBRATION_GROUPS: u64 = 10;

/// What predictions and truths add up to: a confusion matrix, scores by truth, log-loss.
///
/// All is a sum: order does not matter, and states merge. Up to 32 classes take a matrix of 8 KiB and 4 KiB a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Labelled {
    /// Rows by truth and prediction, shape `[classes · classes]`, the truth's row first.
    confusion: Vec<u64>,
    /// Per counted class: scores of rows that have it, and of all others.
    classes: Vec<Split>,
    /// Rows with probabilities.
    scored: u64,
    log_loss: f64,
    log_loss_squares: f64,
}

impl Labelled {
    /// No rows yet.
    pub fn new(task: &Task) -> Self {
        let classes = task.classes().len();
        Self {
            confusion: vec![0; classes * classes],
            classes: task.counted().map(|_| Split::default()).collect(),
            scored: 0,
            log_loss: 0.0,
            log_loss_squares: 0.0,
        }
    }

    /// Adds a row with its true class. A class that does not exist is ignored.
    pub fn observe(&mut self, task: &Task, prediction: Prediction<'_>, truth: usize) {
        let classes = task.classes().len();
        let cell = self.confusion.get_mut(truth * classes + prediction.class());
        let Some(cell) = cell.filter(|_| truth < classes) else {
            return;
        };
        *cell += 1;
        let Some(own) = prediction.probabilities().get(truth) else {
            return;
        };
        self.scored += 1;
        let loss = -own.max(LOG_FLOOR).ln();
        self.log_loss += loss;
        self.log_loss_squares += loss * loss;
        for (class, split) in task.counted().zip(&mut self.classes) {
            if let Some(p) = prediction.probabilities().get(class) {
                split.observe(truth == class, *p);
            }
        }
    }

    /// Adds everything that `other` saw. States of different tasks do not mix: then nothing is added.
    pub fn merge(&mut self, other: &Self) {
        if self.confusion.len() != other.confusion.len() || self.classes.len() != other.classes.len() {
            return;
        }
        for (a, b) in self.confusion.iter_mut().zip(&other.confusion) {
            *a += b;
        }
        for (a, b) in self.classes.iter_mut().zip(&other.classes) {
            a.merge(b);
        }
        self.scored += other.scored;
        self.log_loss += other.log_loss;
        self.log_loss_squares += other.log_loss_squares;
    }

    /// Rows with a label.
    pub fn rows(&self) -> u64 {
        self.confusion.iter().sum()
    }

    /// What the labels say; `None` without any.
    ///
    /// Shares have Wilson's intervals. F1 is `2q/(1 + q)` of the share `q = TP/(TP + FP + FN)`, and has that interval mapped. The area
    /// under the ROC curve has `DeLong`'s variance, the calibration error a bound that holds for all its groups at once.
    pub fn performance(&self, task: &Task) -> Option<Performance> {
        let rows = self.rows() as f64;
        let right: u64 = (0..task.classes().len())
            .map(|class| self.cell(task, class, class))
            .sum();
        let accuracy = Measure::share(right as f64 / rows, rows)?;
        let classes: Vec<ClassPerformance> = task
            .counted()
            .zip(&self.classes)
            .map(|(class, split)| self.class(task, class, split))
            .collect();
        let bounds = self
            .classes
            .iter()
            .filter_map(|split| Some(ranking(split)?.bound()));
        Some(Performance {
            source: Source::Labels,
            rows: self.rows(),
            accuracy,
            precision: macro_average(&classes, |c| c.precision),
            recall: macro_average(&classes, |c| c.recall),
            f1: macro_average(&classes, |c| c.f1),
            auc: macro_average(&classes, |c| c.auc),
            auc_bound: bounds.reduce(f64::max),
            log_loss: Measure::mean(self.scored, self.log_loss, self.log_loss_squares).map(|m| Measure {
                lower: m.lower.max(0.0),
                ..m
            }),
            calibration_error: Measure::average(self.classes.iter().filter_map(calibration_error)),
            classes,
            doubts: Vec::new(),
        })
    }

    pub(super) fn check(&self, task: &Task) -> Result<(), PerformanceError> {
        let classes = task.classes().len();
        super::expect_length("labelled.confusion", self.confusion.len(), classes * classes)?;
        super::expect_length("labelled.classes", self.classes.len(), task.counted().count())
    }

    fn cell(&self, task: &Task, truth: usize, predicted: usize) -> u64 {
        let index = truth * task.classes().len() + predicted;
        self.confusion.get(index).copied().unwrap_or(0)
    }

    fn class(&self, task: &Task, class: usize, split: &Split) -> ClassPerformance {
        let all = || 0..task.classes().len();
        let both = self.cell(task, class, class) as f64;
        let predicted: u64 = all().map(|truth| self.cell(task, truth, class)).sum();
        let actual: u64 = all().map(|p| self.cell(task, class, p)).sum();
        let (predicted, actual) = (predicted as f64, actual as f64);
        let either = predicted + actual - both;
        ClassPerformance {
            class: task.name(class),
            table: Table {
                true_positives: both,
                false_positives: predicted - both,
                false_negatives: actual - both,
                true_negatives: self.rows() as f64 - either,
            },
            precision: Measure::share(both / predicted, predicted),
            recall: Measure::share(both / actual, actual),
            f1: Measure::share(both / either, either).map(|m| m.map(|q| 2.0 * q / (1.0 + q))),
            auc: ranking(split).and_then(|r| auc(&r)),
        }
    }
}

fn ranking(split: &Split) -> Option<Ranking> {
    let (inside, outside) = (split.inside.bins(), split.outside.bins());
    Ranking::new(
        inside
            .iter()
            .zip(outside)
            .map(|(p, n)| (p.rows as f64, n.rows as f64)),
    )
}

/// A ranking without a fault, or with too few rows, is no surer than as many trials as the rarer side has rows.
fn auc(ranking: &Ranking) -> Option<Measure> {
    let value = ranking.auc();
    match ranking
        .delong_variance()
        .filter(|v| *v > 0.0 && value > 0.0 && value < 1.0)
    {
        Some(variance) => Measure::share_with_variance(value, variance),
        None => Measure::share(value, ranking.positives().min(ranking.negatives())),
    }
}

/// Expected calibration error: `Σ |rows of the class − expected rows| / rows` over ten groups of neighbouring scores with about as many
/// rows each.
///
/// Source: Nguyen and O'Connor (2015), "Posterior calibration and exploratory analysis for natural language processing
/// models". Chance alone makes some of it: about `0.8 √(10 v / rows)` with `v` the mean of `p (1 − p)`. The interval is that of the groups' joint 95 % region: by Cauchy–Schwarz the error moves by no more than
/// `√(χ² Σ v) / rows`, with `v` the variance of a group's count.
fn calibration_error(split: &Split) -> Option<Measure> {
    let rows = split.inside.rows() + split.outside.rows();
    if rows == 0 {
        return None;
    }
    let (mut gaps, mut variance, mut groups) = (0.0, 0.0, 0_u32);
    let (mut seen, mut count, mut happened, mut expected) = (0, 0_u64, 0_u64, 0.0);
    for (yes, no) in split.inside.bins().iter().zip(split.outside.bins()) {
        count += yes.rows + no.rows;
        happened += yes.rows;
        expected += yes.sum + no.sum;
        seen += yes.rows + no.rows;
        let full = seen * CALIBRATION_GROUPS >= u64::from(groups + 1) * rows;
        if full && count > 0 {
            let (n, k) = (count as f64, happened as f64);
            gaps += (k - expected).abs();
            let share = (k + 0.5) / (n + 1.0);
            variance += n * share * (1.0 - share);
            // A bin may fill several groups at once.
            groups = (seen * CALIBRATION_GROUPS / rows) as u32;
            (count, happened, expected) = (0, 0, 0.0);
        }
    }
    let n = rows as f64;
    let value = gaps / n;
    let half = (chi2_critical(0.05, CALIBRATION_GROUPS as f64) * variance).sqrt() / n;
    Some(Measure {
        value,
        lower: (value - half).max(0.0),
        upper: (value + half).min(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::Labelled;
    use crate::SplitMix64;
    use crate::performance::Task;
    use crate::performance::task::tests::example;

    fn three_classes() -> Task {
        let mut profile = example();
        let target = profile.target.as_mut().expect("a target");
        target.classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        target.positive_class = None;
        Task::new(&profile).expect("a classifier")
    }

    #[test]
    fn measures_follow_from_the_confusion_matrix() {
        let task = three_classes();
        let mut labelled = Labelled::new(&task);
        // Truth, prediction, rows.
        for (truth, predicted, rows) in [
            (0, 0, 50),
            (0, 1, 10),
            (1, 1, 20),
            (1, 2, 20),
            (2, 2, 30),
            (2, 0, 0),
        ] {
            for _ in 0..rows {
                let answer = task.prediction(Some(predicted), &mut []).expect("a label");
                labelled.observe(&task, answer, truth);
            }
        }
        let p = labelled.performance(&task).expect("rows");
        assert_eq!((p.rows, p.accuracy.value), (130, 100.0 / 130.0));
        let values =
            |of: fn(&crate::performance::ClassPerformance) -> Option<crate::performance::Measure>| {
                p.classes
                    .iter()
                    .map(|c| of(c).map_or(f64::NAN, |m| m.value))
                    .collect::<Vec<_>>()
            };
        let close = |a: &[f64], b: [f64; 3]| a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-12);
        assert!(close(&values(|c| c.precision), [1.0, 2.0 / 3.0, 0.6]));
        assert!(close(&values(|c| c.recall), [5.0 / 6.0, 0.5, 1.0]));
        assert!(close(&values(|c| c.f1), [10.0 / 11.0, 4.0 / 7.0, 0.75]));
        let mean = p.f1.expect("classes").value;
        assert!((mean - (10.0 / 11.0 + 4.0 / 7.0 + 0.75) / 3.0).abs() < 1e-12);
        assert_eq!((p.auc, p.log_loss, p.calibration_error), (None, None, None));
        let class = &p.classes[1].table;
        assert_eq!((class.false_positives, class.true_negatives), (10.0, 80.0));
    }

    /// A calibrated model of two classes.
    fn fill(labelled: &mut Labelled, task: &Task, rng: &mut SplitMix64, rows: u32, bias: f64) {
        for _ in 0..rows {
            let p = rng.uniform();
            let mut row = [1.0 - p, p];
            let truth = usize::from(rng.uniform() < (p + bias).clamp(0.0, 1.0));
            let answer = task.prediction(None, &mut row).expect("probabilities");
            labelled.observe(task, answer, truth);
        }
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let task = Task::new(&example()).expect("a classifier");
        let mut rng = SplitMix64::new(5);
        // P(right) = E max(p, 1 − p) = 3/4; P(score of a positive > score of a negative) = 5/6; log-loss 1/2.
        let truth = [0.75, 5.0 / 6.0, 0.5];
        let (mut inside, mut uncertain) = ([0_u32; 3], 0);
        for _ in 0..400 {
            let mut labelled = Labelled::new(&task);
            fill(&mut labelled, &task, &mut rng, 300, 0.0);
            let p = labelled.performance(&task).expect("rows");
            let found = [Some(p.accuracy), p.auc, p.log_loss];
            for ((count, m), x) in inside.iter_mut().zip(found).zip(truth) {
                *count += u32::from(m.is_some_and(|m| m.lower <= x && x <= m.upper));
            }
            // A calibrated model has no error for certain.
            uncertain += u32::from(p.calibration_error.is_some_and(|ece| ece.lower == 0.0));
        }
        // 95 % of 400, less three standard errors.
        assert!(
            inside.iter().all(|n| *n >= 367) && uncertain >= 367,
            "{inside:?} {uncertain}"
        );
    }

    #[test]
    fn a_biased_model_has_its_calibration_error() {
        let task = Task::new(&example()).expect("a classifier");
        let mut labelled = Labelled::new(&task);
        fill(&mut labelled, &task, &mut SplitMix64::new(8), 50_000, 0.2);
        let ece = labelled
            .performance(&task)
            .and_then(|p| p.calibration_error)
            .expect("scores");
        // E min(0.2, 1 − p) = 0.2 − 0.02.
        assert!((ece.value - 0.18).abs() < 0.005 && ece.lower > 0.15, "{ece:?}");
    }

    #[test]
    fn a_perfect_ranking_of_few_rows_is_not_beyond_doubt() {
        let task = Task::new(&example()).expect("a classifier");
        let mut labelled = Labelled::new(&task);
        for (p, truth) in [(0.1, 0), (0.2, 0), (0.3, 0), (0.8, 1), (0.9, 1)] {
            let mut row = [1.0 - p, p];
            let answer = task.prediction(None, &mut row).expect("probabilities");
            labelled.observe(&task, answer, truth);
        }
        labelled.observe(&task, task.prediction(Some(0), &mut []).expect("a label"), 9);
        let p = labelled.performance(&task).expect("rows");
        let auc = p.auc.expect("both classes");
        assert_eq!((p.rows, auc.value), (5, 1.0));
        assert!(auc.lower < 0.5, "{auc:?}");
    }
}
