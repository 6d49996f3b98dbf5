//! What interleaved rounds say about two servers: a figure with a bootstrap interval, and whether it meets a goal.

use std::fmt;

use crate::table::{figure, median};

/// Resamples of the rounds; the ends of an interval are then good to about a tenth of its width.
const RESAMPLES: usize = 2_000;

/// Same rounds, same interval.
const SEED: u64 = 1;

/// A figure, and between which values it lies with 95 % confidence; NaN for none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// From all rounds.
    pub value: f64,
    /// The 2.5 % quantile over resampled rounds.
    pub low: f64,
    /// The 97.5 % quantile.
    pub high: f64,
}

/// Whether a figure is at most what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval is.
    Met,
    /// The figure is, a part of the interval is not, or the other way round.
    Open,
    /// Nothing of the interval is.
    Missed,
}

impl Interval {
    /// `statistic` of `rounds` rounds, given by their indices. The rounds are resampled as a whole, so that what was
    /// measured in the same round stays together (percentile bootstrap; Efron and Tibshirani, 1993, chapter 13).
    pub fn of(rounds: usize, statistic: impl Fn(&[usize]) -> f64) -> Self {
        if rounds == 0 {
            let [value, low, high] = [f64::NAN; 3];
            return Self { value, low, high };
        }
        let mut random = fastrand::Rng::with_seed(SEED);
        let all: Vec<usize> = (0..rounds).collect();
        let value = statistic(&all);
        let mut resampled: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let some: Vec<usize> = all.iter().map(|_| random.usize(0..rounds)).collect();
                statistic(&some)
            })
            .collect();
        resampled.sort_by(f64::total_cmp);
        let at = |share: f64| resampled[(share * (RESAMPLES - 1) as f64).round() as usize];
        Self {
            value,
            low: at(0.025),
            high: at(0.975),
        }
    }

    /// The median of `over` divided by the median of `under`, which are figures of the same rounds.
    pub fn of_ratio(over: &[f64], under: &[f64]) -> Self {
        let rounds = over.len().min(under.len());
        Self::of(rounds, |rounds| middle(over, rounds) / middle(under, rounds))
    }

    /// The median of `over` less `times` the median of `under`. For goals that say `over ≤ times · under`, also where
    /// `under` is near zero and a ratio says nothing.
    pub fn of_excess(over: &[f64], times: f64, under: &[f64]) -> Self {
        let rounds = over.len().min(under.len());
        Self::of(rounds, |rounds| {
            middle(over, rounds) - times * middle(under, rounds)
        })
    }

    /// Whether it is at most `goal`.
    pub fn at_most(&self, goal: f64) -> Verdict {
        if self.high <= goal {
            Verdict::Met
        } else if self.low > goal {
            Verdict::Missed
        } else {
            Verdict::Open
        }
    }
}

fn middle(values: &[f64], rounds: &[usize]) -> f64 {
    let some: Vec<f64> = rounds.iter().map(|round| values[*round]).collect();
    median(&some)
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.value.is_finite() {
            return f.write_str("-");
        }
        let [value, low, high] = [self.value, self.low, self.high].map(figure);
        write!(f, "{value} ({low} to {high})")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Met => "met",
            Verdict::Open => "open: the interval has the goal in it",
            Verdict::Missed => "missed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_of_equal_rounds_is_certain() {
        let ratio = Interval::of_ratio(&[3.0; 5], &[2.0; 5]);
        assert_eq!(
            ratio,
            Interval {
                value: 1.5,
                low: 1.5,
                high: 1.5
            }
        );
        assert_eq!(ratio.to_string(), "1.50 (1.50 to 1.50)");
        assert_eq!(
            (ratio.at_most(1.5), ratio.at_most(1.49)),
            (Verdict::Met, Verdict::Missed)
        );
    }

    /// What the rounds have in common, such as a slow minute of the machine, does not widen the interval.
    #[test]
    fn rounds_stay_together() {
        let under: Vec<f64> = (1..=20).map(f64::from).collect();
        let over: Vec<f64> = under.iter().map(|value| value * 1.2).collect();
        let ratio = Interval::of_ratio(&over, &under);
        assert!((ratio.high - ratio.low) < 1e-9, "{ratio:?}");
        let shuffled: Vec<f64> = over.iter().rev().copied().collect();
        let ratio = Interval::of_ratio(&shuffled, &under);
        assert!(ratio.low < 1.0 && ratio.high > 1.3, "{ratio:?}");
        assert_eq!(ratio.at_most(1.2), Verdict::Open);
    }

    /// 200 samples of a known distribution: the interval has its median about 95 times in 100.
    #[test]
    fn the_interval_covers_the_truth() {
        let mut random = fastrand::Rng::with_seed(3);
        let covered = (0..200)
            .filter(|_| {
                let values: Vec<f64> = (0..15).map(|_| random.f64()).collect();
                let interval = Interval::of(values.len(), |rounds| middle(&values, rounds));
                (interval.low..=interval.high).contains(&0.5)
            })
            .count();
        // Binomial(200, 0.95) is within 176 and 200 with probability 0.999; small samples cover a little less or more.
        assert!((176..=200).contains(&covered), "{covered}");
    }

    #[test]
    fn an_excess_tells_also_where_there_is_nothing_to_divide_by() {
        let excess = Interval::of_excess(&[2.0, 3.0, 4.0], 1.1, &[0.0, -1.0, 0.0]);
        assert_eq!(excess.value, 3.0);
        assert_eq!(excess.at_most(0.0), Verdict::Missed);
        assert_eq!(Interval::of_ratio(&[1.0], &[0.0]).to_string(), "-");
        let nothing = Interval::of_ratio(&[], &[]);
        assert_eq!(
            (nothing.to_string(), nothing.at_most(1.0)),
            ("-".to_owned(), Verdict::Open)
        );
    }
}
