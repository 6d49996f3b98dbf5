//! Histograms of probabilities, and what the order of scores says about a model.

use std::f64::consts::FRAC_2_PI;

use serde::{Deserialize, Serialize};

/// Bins of a [`Scores`].
pub(super) const BINS: usize = 128;

/// Rows by probability.
///
/// The bins are equal in `asin √p`, on which scale a share has the same standard error everywhere: they are 0.012 wide in the
/// middle and 1.5e-4 at the ends, where rare classes are told apart. Each holds the sum of its probabilities too, so that
/// means are exact. All is a sum: histograms of windows and replicas merge in any order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<StoredBin>", into = "Vec<StoredBin>")]
pub(super) struct Scores {
    bins: Box<[ScoreBin]>,
}

/// One bin of a [`Scores`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ScoreBin {
    pub(super) rows: u64,
    pub(super) sum: f64,
}

/// A bin that is not empty: index, rows, sum.
type StoredBin = (usize, u64, f64);

impl Default for Scores {
    fn default() -> Self {
        Self {
            bins: vec![ScoreBin::default(); BINS].into(),
        }
    }
}

impl Scores {
    /// Adds a row with probability `p` in `[0, 1]`.
    pub(super) fn observe(&mut self, p: f64) {
        let index = (p.sqrt().asin() * FRAC_2_PI * BINS as f64) as usize;
        if let Some(bin) = self.bins.get_mut(index.min(BINS - 1)) {
            bin.rows += 1;
            bin.sum += p;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (a, b) in self.bins.iter_mut().zip(&other.bins) {
            a.rows += b.rows;
            a.sum += b.sum;
        }
    }

    pub(super) fn bins(&self) -> &[ScoreBin] {
        &self.bins
    }

    pub(super) fn rows(&self) -> u64 {
        self.bins.iter().map(|bin| bin.rows).sum()
    }
}

impl ScoreBin {
    /// Mean probability; 0 for an empty bin.
    pub(super) fn mean(self) -> f64 {
        if self.rows == 0 {
            0.0
        } else {
            (self.sum / self.rows as f64).clamp(0.0, 1.0)
        }
    }
}

impl TryFrom<Vec<StoredBin>> for Scores {
    type Error = String;

    fn try_from(stored: Vec<StoredBin>) -> Result<Self, String> {
        let mut scores = Self::default();
        for (index, rows, sum) in stored {
            let bin = scores
                .bins
                .get_mut(index)
                .ok_or_else(|| format!("expected a score bin below {BINS}, found {index}"))?;
            if !(sum >= 0.0 && sum <= rows as f64 * (1.0 + 1e-9)) {
                return Err(format!(
                    "expected {rows} probabilities to sum to at most {rows}, found {sum}"
                ));
            }
            *bin = ScoreBin { rows, sum };
        }
        Ok(scores)
    }
}

impl From<Scores> for Vec<StoredBin> {
    fn from(scores: Scores) -> Self {
        scores
            .bins
            .iter()
            .enumerate()
            .filter(|(_, bin)| bin.rows > 0)
            .map(|(index, bin)| (index, bin.rows, bin.sum))
            .collect()
    }
}

/// Positives and negatives per score bin, ascending; need not be whole numbers.
#[derive(Clone, Debug)]
pub(super) struct Ranking {
    bins: Vec<(f64, f64)>,
    positives: f64,
    negatives: f64,
}

impl Ranking {
    /// `None` without positives or without negatives: then the area is not defined.
    pub(super) fn new(bins: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        let bins: Vec<(f64, f64)> = bins.collect();
        let positives = bins.iter().map(|(p, _)| p).sum();
        let negatives = bins.iter().map(|(_, n)| n).sum();
        (positives > 0.0 && negatives > 0.0).then_some(Self {
            bins,
            positives,
            negatives,
        })
    }

    pub(super) fn positives(&self) -> f64 {
        self.positives
    }

    pub(super) fn negatives(&self) -> f64 {
        self.negatives
    }

    /// Pairs of a positive and a negative that are in the right order, those of one bin counted half.
    pub(super) fn ordered_pairs(&self) -> f64 {
        self.bins
            .iter()
            .zip(self.below())
            .map(|((p, n), below)| p * (below + 0.5 * n))
            .sum()
    }

    /// Area under the ROC curve: the share of ordered pairs (Mann and Whitney 1947).
    pub(super) fn auc(&self) -> f64 {
        self.ordered_pairs() / (self.positives * self.negatives)
    }

    /// How far [`auc`](Self::auc) can be from that of the scores themselves: half the share of pairs that fall into one bin.
    pub(super) fn bound(&self) -> f64 {
        let together: f64 = self.bins.iter().map(|(p, n)| p * n).sum();
        0.5 * together / (self.positives * self.negatives)
    }

    /// Per bin: the negatives below it, and the positives above it, each with half of its own.
    pub(super) fn placements(&self) -> impl Iterator<Item = (f64, f64)> {
        let mut positives_up_to = 0.0;
        self.bins.iter().zip(self.below()).map(move |((p, n), below)| {
            positives_up_to += p;
            (below + 0.5 * n, self.positives - positives_up_to + 0.5 * p)
        })
    }

    /// Variance of [`auc`](Self::auc) over samples of such rows; `None` with fewer than two positives or negatives.
    ///
    /// Source: `DeLong`, `DeLong`, Clarke-Pearson (1988), "Comparing the Areas under Two or More Correlated Receiver Operating
    /// Characteristic Curves".
    pub(super) fn delong_variance(&self) -> Option<f64> {
        if self.positives < 2.0 || self.negatives < 2.0 {
            return None;
        }
        let auc = self.auc();
        let (mut of_positives, mut of_negatives) = (0.0, 0.0);
        for ((p, n), (below, above)) in self.bins.iter().zip(self.placements()) {
            of_positives += p * (below / self.negatives - auc).powi(2);
            of_negatives += n * (above / self.positives - auc).powi(2);
        }
        Some(
            of_positives / ((self.positives - 1.0) * self.positives)
                + of_negatives / ((self.negatives - 1.0) * self.negatives),
        )
    }

    fn below(&self) -> impl Iterator<Item = f64> {
        self.bins.iter().scan(0.0, |sum, (_, n)| {
            let below = *sum;
            *sum += n;
            Some(below)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{BINS, Ranking, Scores};

    #[test]
    fn every_probability_has_a_bin_and_bins_ascend() {
        let mut last = 0;
        for i in 0..=10_000 {
            let mut scores = Scores::default();
            scores.observe(f64::from(i) / 10_000.0);
            let bin = scores.bins().iter().position(|b| b.rows == 1).expect("a bin");
            assert!(bin >= last && bin < BINS);
            last = bin;
        }
        assert_eq!(last, BINS - 1);
    }

    #[test]
    fn stored_bins_are_read_back_and_checked() {
        let mut scores = Scores::default();
        for p in [0.0, 0.1, 0.1, 0.7, 1.0] {
            scores.observe(p);
        }
        let json = serde_json::to_string(&scores).expect("JSON");
        assert_eq!(serde_json::from_str::<Scores>(&json).expect("read back"), scores);
        let error = |text| {
            serde_json::from_str::<Scores>(text)
                .expect_err("refused")
                .to_string()
        };
        assert!(error("[[128, 1, 0.5]]").contains("below 128"));
        assert!(error("[[3, 1, 1.5]]").contains("at most 1, found 1.5"));
    }

    #[test]
    fn the_area_counts_pairs_in_order() {
        // Bins ascending: one negative, one of each, one positive; 3 of 4 pairs in order, 1 tied.
        let ranking = Ranking::new([(0.0, 1.0), (1.0, 1.0), (1.0, 0.0)].into_iter()).expect("both");
        assert_eq!((ranking.auc(), ranking.bound()), (0.875, 0.125));
        let placements: Vec<_> = ranking.placements().collect();
        assert_eq!(placements, [(0.5, 2.0), (1.5, 1.5), (2.0, 0.5)]);
        assert!(Ranking::new([(0.0, 1.0)].into_iter()).is_none());
    }
}
