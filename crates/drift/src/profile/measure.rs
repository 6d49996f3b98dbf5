//! How a classifier did on rows whose truth is known: the section [`Training`].
//!
//! Sums are [`fsum`]s and counts are whole numbers, so that writers in other languages get equal numbers; the steps are
//! those of `schema/README.md`.

use std::cmp::Ordering;

use super::Training;
use crate::fsum::fsum;

/// What a classifier answered on rows whose truth is known. Every list of rows has the same length.
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a> {
    /// The true class, shape `[rows]`.
    pub truth: &'a [&'a str],
    /// The predicted class, shape `[rows]`.
    pub labels: Option<&'a [&'a str]>,
    /// Probabilities of classes, shape `[classes][rows]`; each in `[0, 1]`.
    pub probabilities: &'a [(&'a str, &'a [f64])],
    /// All classes; with two of them, the probability of one gives that of the other.
    pub classes: &'a [&'a str],
    /// The class that precision, recall, F1 and AUC speak of.
    pub positive_class: Option<&'a str>,
}

impl Answers<'_> {
    /// Measures, as far as the answers allow: each that is not defined is left out.
    ///
    /// Accuracy, precision, recall and F1 need labels; AUC the probability of the positive class; log-loss those of every
    /// class that is true of a row. With classes `c` and `p` the probability of the true one, log-loss is
    /// `Σ −ln max(p, 2⁻⁵²) / rows`, in nats. Source of AUC: Mann and Whitney (1947), the share of pairs ranked rightly,
    /// ties half.
    pub fn measure(&self) -> Training {
        let mut measured = Training {
            rows: Some(self.truth.len() as u64),
            log_loss: self.log_loss(),
            ..Training::default()
        };
        if let Some(labels) = self.labels {
            let right = self.truth.iter().zip(labels).filter(|(t, l)| t == l).count();
            measured.accuracy = share(right, self.truth.len());
        }
        let Some(positive) = self.positive_class else {
            return measured;
        };
        let happened: Vec<bool> = self.truth.iter().map(|t| *t == positive).collect();
        if let Some(labels) = self.labels {
            let count = |wanted: (bool, bool)| {
                let found = happened.iter().zip(labels).map(|(h, l)| (*h, *l == positive));
                found.filter(|found| *found == wanted).count()
            };
            let (hits, misses, false_alarms) =
                (count((true, true)), count((true, false)), count((false, true)));
            measured.precision = share(hits, hits + false_alarms);
            measured.recall = share(hits, hits + misses);
            measured.f1 = share(2 * hits, 2 * hits + misses + false_alarms);
        }
        measured.auc = self
            .probability(positive)
            .and_then(|probabilities| auc(&probabilities, &happened));
        measured
    }

    /// Probabilities of a class, or of its only alternative taken from 1.
    fn probability(&self, class: &str) -> Option<Vec<f64>> {
        if let Some((_, own)) = self.probabilities.iter().find(|(known, _)| *known == class) {
            return Some(own.to_vec());
        }
        match (self.classes, self.probabilities) {
            ([_, _], [(_, other)]) if self.classes.contains(&class) => {
                Some(other.iter().map(|p| 1.0 - p).collect())
            }
            _ => None,
        }
    }

    fn log_loss(&self) -> Option<f64> {
        if self.truth.is_empty() {
            return None;
        }
        let classes = self
            .classes
            .iter()
            .filter_map(|class| Some((*class, self.probability(class)?)))
            .collect::<Vec<_>>();
        let mut losses = Vec::with_capacity(self.truth.len());
        for (row, truth) in self.truth.iter().enumerate() {
            let (_, own) = classes.iter().find(|(class, _)| class == truth)?;
            losses.push(-own.get(row)?.max(f64::EPSILON).ln());
        }
        Some(fsum(losses) / self.truth.len() as f64)
    }
}

fn share(part: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

/// Area under the ROC curve: `(2 · pairs ranked rightly + ties) / (2 · pairs)`. `None` unless both happened.
fn auc(scores: &[f64], happened: &[bool]) -> Option<f64> {
    let mut ranked: Vec<(f64, bool)> = scores.iter().copied().zip(happened.iter().copied()).collect();
    ranked.sort_unstable_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal));
    let (mut below, mut twice) = (0_u128, 0_u128);
    for equal in ranked.chunk_by(|a, b| a.0 == b.0) {
        let yes = equal.iter().filter(|(_, h)| *h).count() as u128;
        let no = equal.len() as u128 - yes;
        twice += yes * (2 * below + no);
        below += no;
    }
    let pairs = (ranked.len() as u128 - below) * below;
    (pairs > 0).then(|| twice as f64 / (2 * pairs) as f64)
}

#[cfg(test)]
mod tests {
    use super::{Answers, auc};
    use crate::profile::Training;

    const TRUTH: [&str; 6] = ["yes", "no", "yes", "no", "yes", "no"];
    const YES: [f64; 6] = [0.9, 0.4, 0.4, 0.1, 0.8, 0.6];

    #[test]
    fn measures_by_hand() {
        let measured = Answers {
            truth: &TRUTH,
            labels: Some(&["yes", "no", "no", "no", "yes", "yes"]),
            probabilities: &[("yes", &YES)],
            classes: &["no", "yes"],
            positive_class: Some("yes"),
        }
        .measure();
        let log_loss: f64 = [0.9_f64, 0.6, 0.4, 0.9, 0.8, 0.4].iter().map(|p| -p.ln()).sum();
        assert!(
            measured
                .log_loss
                .is_some_and(|l| (l - log_loss / 6.0).abs() < 1e-15)
        );
        let expected = Training {
            rows: Some(6),
            accuracy: Some(4.0 / 6.0),
            precision: Some(2.0 / 3.0),
            recall: Some(2.0 / 3.0),
            f1: Some(4.0 / 6.0),
            // Of the nine pairs 0.9 and 0.8 win three each; 0.4 wins one, ties one and loses one.
            auc: Some(7.5 / 9.0),
            log_loss: measured.log_loss,
        };
        assert_eq!(measured, expected);
    }

    #[test]
    fn what_is_not_defined_is_left_out() {
        let measured = Answers {
            truth: &TRUTH,
            labels: None,
            probabilities: &[("yes", &YES)],
            classes: &["maybe", "no", "yes"],
            positive_class: Some("maybe"),
        }
        .measure();
        let nothing = Training {
            rows: Some(6),
            ..Training::default()
        };
        assert_eq!(
            measured, nothing,
            "no probability of `no`, and nothing is `maybe`"
        );
        let never = Answers {
            truth: &["no"],
            labels: Some(&["no"]),
            probabilities: &[],
            classes: &["no", "yes"],
            positive_class: Some("yes"),
        }
        .measure();
        assert_eq!(
            (never.accuracy, never.precision, never.recall, never.f1),
            (Some(1.0), None, None, None)
        );
        assert_eq!(auc(&[0.1, 0.2], &[true, true]), None);
    }

    #[test]
    fn a_certain_mistake_costs_a_finite_loss() {
        let measured = Answers {
            truth: &["yes"],
            labels: None,
            probabilities: &[("yes", &[0.0]), ("no", &[1.0])],
            classes: &["no", "yes"],
            positive_class: None,
        }
        .measure();
        assert!(
            measured
                .log_loss
                .is_some_and(|l| (l - 52.0 * std::f64::consts::LN_2).abs() < 1e-12)
        );
    }
}
