//! Statistics of two histograms over the same bins.
//!
//! Letters as in `r`, `c`: rows per bin of the reference and the detection window; `n`, `m`: their totals; `p = r/n`,
//! `q = c/m`: shares; `B`: bins; `B'`: bins that are not empty on both sides; `n_e = nm/(n + m)`.

use super::StatsError;
use crate::special::{chi2_critical, chi2_sf, kolmogorov_sf};

/// Two histograms over the same bins, neither without rows.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    reference: &'a [u64],
    detection: &'a [u64],
    n: f64,
    m: f64,
}

/// A chi-square or G statistic with its limit law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contingency {
    /// The statistic.
    pub statistic: f64,
    /// Degrees of freedom, `B' − 1`.
    pub dof: u64,
    /// Probability of at least this statistic when nothing changed.
    pub p_value: f64,
}

/// The Kolmogorov–Smirnov statistic of two histograms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BinnedKs {
    /// Largest difference of the cumulative shares; at most that of the values themselves.
    pub statistic: f64,
    /// Kolmogorov's limit law with Stephens' correction for small samples; conservative, since binning only lowers D.
    pub p_value: f64,
}

impl<'a> Pair<'a> {
    /// Pairs `reference` and `detection`, rows per bin, shape `[bins]`.
    ///
    /// # Errors
    /// [`StatsError::BinMismatch`] for unequal lengths, [`StatsError::EmptyWindow`] for no rows.
    pub fn new(reference: &'a [u64], detection: &'a [u64]) -> Result<Self, StatsError> {
        if reference.len() != detection.len() {
            return Err(StatsError::BinMismatch {
                reference: reference.len(),
                detection: detection.len(),
            });
        }
        let total = |counts: &[u64], side| match counts.iter().map(|c| *c as f64).sum::<f64>() {
            0.0 => Err(StatsError::EmptyWindow { side }),
            sum => Ok(sum),
        };
        let n = total(reference, "reference")?;
        let m = total(detection, "detection")?;
        Ok(Self {
            reference,
            detection,
            n,
            m,
        })
    }

    /// Bins that are not empty on both sides, `B'`.
    pub fn live_bins(&self) -> usize {
        self.counts().filter(|(r, c)| r + c > 0.0).count()
    }

    /// `1/n + 1/m`, the scale of every null law here.
    pub fn scale(&self) -> f64 {
        1.0 / self.n + 1.0 / self.m
    }

    /// Population stability index with half a row added to each bin, so that an empty one gives a finite value:
    /// `Σ (q' − p') ln(q'/p')`, `p' = (r + ½)/(n + B/2)`.
    ///
    /// Dimensionless, ≥ 0, symmetric. Source: Siddiqi (2006), *Credit Risk Scorecards*; smoothing after Jeffreys' prior.
    pub fn psi(&self) -> f64 {
        self.smoothed().map(|(p, q)| psi_term(p, q)).sum()
    }

    /// The terms of [`psi`](Self::psi), bin by bin: what each contributes.
    pub fn psi_terms(&self) -> impl Iterator<Item = f64> {
        self.smoothed().map(|(p, q)| psi_term(p, q))
    }

    /// Population stability index with shares raised to at least `floor` and not normalised again; 1e-4 is the usual one.
    pub fn psi_floored(&self, floor: f64) -> f64 {
        self.shares()
            .map(|(p, q)| psi_term(p.max(floor), q.max(floor)))
            .sum()
    }

    /// Population stability index of the bare shares; `None` when a bin is empty on one side only, where it is infinite.
    pub fn psi_raw(&self) -> Option<f64> {
        let live = || self.shares().filter(|(p, q)| p + q > 0.0);
        live()
            .all(|(p, q)| p > 0.0 && q > 0.0)
            .then(|| live().map(|(p, q)| psi_term(p, q)).sum())
    }

    /// Mean of the index when nothing changed, `(B' − 1)(1/n + 1/m)`: what sampling alone gives.
    ///
    /// `n_e · PSI` tends to a chi-square law with `B' − 1` degrees of freedom. Source: Yurdakul (2018), *Statistical
    /// Properties of Population Stability Index*.
    pub fn psi_null_mean(&self) -> f64 {
        self.dof() as f64 * self.scale()
    }

    /// The index that is exceeded with probability `alpha` when nothing changed, `(1/n + 1/m) · χ²_{B'−1}(alpha)`;
    /// `None` with fewer than two live bins.
    pub fn psi_critical(&self, alpha: f64) -> Option<f64> {
        let dof = self.dof();
        (dof > 0).then(|| self.scale() * chi2_critical(alpha, dof as f64))
    }

    /// Jensen–Shannon distance in base 2, in `[0, 1]`: `√((KL₂(p‖a) + KL₂(q‖a))/2)`, `a = (p + q)/2`.
    pub fn js_distance(&self) -> f64 {
        (self.js_divergence_nats() / std::f64::consts::LN_2).sqrt()
    }

    /// Jensen–Shannon distance with natural logarithms, in `[0, √ln 2]`.
    pub fn js_distance_nats(&self) -> f64 {
        self.js_divergence_nats().sqrt()
    }

    /// Jensen–Shannon divergence in nats, in `[0, ln 2]`: the square of the distance.
    pub fn js_divergence_nats(&self) -> f64 {
        let sums = self.shares().fold((0.0, 0.0), |(left, right), (p, q)| {
            let a = f64::midpoint(p, q);
            (left + relative_entropy(p, a), right + relative_entropy(q, a))
        });
        f64::midpoint(sums.0, sums.1).max(0.0)
    }

    /// Kullback–Leibler divergence of the detection window from the reference, in nats: `Σ q' ln(q'/p')` with the
    /// smoothing of [`psi`](Self::psi).
    pub fn kl_detection_from_reference(&self) -> f64 {
        self.smoothed()
            .map(|(p, q)| q * (q / p).ln())
            .sum::<f64>()
            .max(0.0)
    }

    /// Kullback–Leibler divergence of the reference from the detection window, in nats: `Σ p' ln(p'/q')`.
    pub fn kl_reference_from_detection(&self) -> f64 {
        self.smoothed()
            .map(|(p, q)| p * (p / q).ln())
            .sum::<f64>()
            .max(0.0)
    }

    /// Hellinger distance, in `[0, 1]`: `√(½ Σ (√p − √q)²)`.
    pub fn hellinger(&self) -> f64 {
        (self
            .shares()
            .map(|(p, q)| (p.sqrt() - q.sqrt()).powi(2))
            .sum::<f64>()
            / 2.0)
            .sqrt()
    }

    /// Total variation distance, in `[0, 1]`: `½ Σ |p − q|`.
    pub fn total_variation(&self) -> f64 {
        self.shares().map(|(p, q)| (p - q).abs()).sum::<f64>() / 2.0
    }

    /// Largest difference of shares, in `[0, 1]`: `max |p − q|`.
    pub fn l_infinity(&self) -> f64 {
        self.shares().map(|(p, q)| (p - q).abs()).fold(0.0, f64::max)
    }

    /// Pearson's chi-square of the 2 × B' table, without Yates' correction; `None` with fewer than two live bins.
    pub fn chi_square(&self) -> Option<Contingency> {
        self.contingency(|observed, expected| (observed - expected).powi(2) / expected)
    }

    /// The same with Yates' correction, for two live bins; `None` with any other number.
    pub fn chi_square_yates(&self) -> Option<Contingency> {
        let corrected = |observed: f64, expected: f64| {
            let distance = (observed - expected).abs();
            (distance - distance.min(0.5)).powi(2) / expected
        };
        if self.live_bins() == 2 {
            self.contingency(corrected)
        } else {
            None
        }
    }

    /// The G statistic `2 Σ O ln(O/E)` of the same table; `None` with fewer than two live bins.
    pub fn g_test(&self) -> Option<Contingency> {
        let term = |o: f64, e: f64| if o > 0.0 { 2.0 * (o * ln_ratio(o, e)) } else { 0.0 };
        self.contingency(term)
    }

    /// Cramér's V with Bergsma's correction for bias, in `[0, 1]`; `None` with fewer than two live bins.
    ///
    /// Source: Bergsma (2013), *A bias-correction for Cramér's V and Tschuprow's T*.
    pub fn cramers_v(&self) -> Option<f64> {
        let chi2 = self.chi_square()?.statistic;
        let total = self.n + self.m;
        let bins = self.live_bins() as f64;
        let phi2 = (chi2 / total - (bins - 1.0) / (total - 1.0)).max(0.0);
        let rows = 2.0 - 1.0 / (total - 1.0);
        let columns = bins - (bins - 1.0).powi(2) / (total - 1.0);
        let smaller = (columns - 1.0).min(rows - 1.0);
        Some(if smaller > 0.0 {
            (phi2 / smaller).sqrt()
        } else {
            0.0
        })
    }

    /// Kolmogorov–Smirnov over the bins, whose order has to mean something.
    pub fn kolmogorov_smirnov(&self) -> BinnedKs {
        let (mut below_p, mut below_q, mut statistic) = (0.0, 0.0, 0.0_f64);
        for (r, c) in self.counts() {
            below_p += r;
            below_q += c;
            statistic = statistic.max((below_p / self.n - below_q / self.m).abs());
        }
        let s = (1.0 / self.scale()).sqrt();
        BinnedKs {
            statistic,
            p_value: kolmogorov_sf((s + 0.12 + 0.11 / s) * statistic),
        }
    }

    /// Degrees of freedom, `B' − 1`.
    fn dof(&self) -> u64 {
        (self.live_bins() as u64).saturating_sub(1)
    }

    fn counts(&self) -> impl Iterator<Item = (f64, f64)> {
        self.reference
            .iter()
            .zip(self.detection)
            .map(|(r, c)| (*r as f64, *c as f64))
    }

    fn shares(&self) -> impl Iterator<Item = (f64, f64)> {
        self.counts().map(|(r, c)| (r / self.n, c / self.m))
    }

    fn smoothed(&self) -> impl Iterator<Item = (f64, f64)> {
        let half_bins = 0.5 * self.reference.len() as f64;
        self.counts()
            .map(move |(r, c)| ((r + 0.5) / (self.n + half_bins), (c + 0.5) / (self.m + half_bins)))
    }

    fn contingency(&self, term: impl Fn(f64, f64) -> f64) -> Option<Contingency> {
        let dof = self.dof();
        if dof == 0 {
            return None;
        }
        let total = self.n + self.m;
        let statistic = self
            .counts()
            .filter(|(r, c)| r + c > 0.0)
            .map(|(r, c)| {
                let column = r + c;
                term(r, column * self.n / total) + term(c, column * self.m / total)
            })
            .sum::<f64>()
            .max(0.0);
        Some(Contingency {
            statistic,
            dof,
            p_value: chi2_sf(statistic, dof as f64),
        })
    }
}

fn psi_term(p: f64, q: f64) -> f64 {
    (q - p) * ln_ratio(q, p)
}

/// `ln(x/y)`; by the difference where they are close, so that it keeps its digits.
fn ln_ratio(x: f64, y: f64) -> f64 {
    let ratio = x / y;
    if ratio > 0.5 && ratio < 2.0 {
        ((x - y) / y).ln_1p()
    } else {
        ratio.ln()
    }
}

/// `x ln(x/y)`, 0 for `x = 0`.
fn relative_entropy(x: f64, y: f64) -> f64 {
    if x > 0.0 { x * ln_ratio(x, y) } else { 0.0 }
}

/// The index of a merged bin for each bin, such that each merged bin is expected to hold at least `min_expected` rows of the
/// detection window when both windows have the shares of their sum.
///
/// The limit laws of the chi-square family need about five expected rows a bin. `ordered` bins are merged with their neighbours;
/// otherwise all that are too small share one bin.
///
/// # Errors
/// As [`Pair::new`].
pub fn pool_bins(
    reference: &[u64],
    detection: &[u64],
    min_expected: f64,
    ordered: bool,
) -> Result<Vec<usize>, StatsError> {
    let pair = Pair::new(reference, detection)?;
    let share = pair.m / (pair.n + pair.m);
    let expected: Vec<f64> = pair.counts().map(|(r, c)| (r + c) * share).collect();
    Ok(if ordered {
        pool_neighbours(&expected, min_expected)
    } else {
        pool_rare(&expected, min_expected)
    })
}

fn pool_neighbours(expected: &[f64], min_expected: f64) -> Vec<usize> {
    let mut groups = Vec::with_capacity(expected.len());
    let (mut group, mut mass) = (0, 0.0);
    for e in expected {
        if mass >= min_expected {
            group += 1;
            mass = 0.0;
        }
        groups.push(group);
        mass += e;
    }
    if mass < min_expected && group > 0 {
        // What is left at the end joins its neighbour.
        for g in groups.iter_mut().filter(|g| **g == group) {
            *g -= 1;
        }
    }
    groups
}

fn pool_rare(expected: &[f64], min_expected: f64) -> Vec<usize> {
    let is_rare = |e: f64| e < min_expected;
    let rare_mass: f64 = expected.iter().copied().filter(|e| is_rare(*e)).sum();
    // Rare ones that are too few even together join the last one that is not.
    let kept = expected.iter().filter(|e| !is_rare(**e)).count();
    let rare_group = if rare_mass < min_expected && kept > 0 {
        kept - 1
    } else {
        kept
    };
    let mut next = 0;
    expected
        .iter()
        .map(|e| {
            if is_rare(*e) {
                return rare_group;
            }
            next += 1;
            next - 1
        })
        .collect()
}

/// Adds up `counts` by the groups of [`pool_bins`].
pub fn pooled(counts: &[u64], groups: &[usize]) -> Vec<u64> {
    let mut out = vec![0; groups.iter().max().map_or(0, |g| g + 1)];
    for (count, group) in counts.iter().zip(groups) {
        out[*group] += count;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Pair, pool_bins, pooled};
    use crate::stats::StatsError;

    #[test]
    fn histograms_that_do_not_fit_are_refused() {
        assert_eq!(
            Pair::new(&[1, 2], &[1]).err(),
            Some(StatsError::BinMismatch {
                reference: 2,
                detection: 1
            })
        );
        assert_eq!(
            Pair::new(&[0, 0], &[1, 0]).err(),
            Some(StatsError::EmptyWindow { side: "reference" })
        );
        assert_eq!(
            Pair::new(&[1, 0], &[0, 0]).err(),
            Some(StatsError::EmptyWindow { side: "detection" })
        );
        assert_eq!(
            Pair::new(&[], &[]).err(),
            Some(StatsError::EmptyWindow { side: "reference" })
        );
    }

    #[test]
    fn pooling_leaves_no_small_bin_and_loses_no_row() {
        let reference = [0, 10, 300, 5, 5, 400, 280, 0];
        let groups = pool_bins(&reference, &[0, 1, 30, 0, 1, 40, 28, 0], 5.0, true).expect("rows");
        assert_eq!(groups, [0, 0, 0, 1, 1, 1, 2, 2]);
        assert_eq!(pooled(&reference, &groups), [310, 410, 280]);
        // Rows outside the range get a bin of their own once there are enough of them.
        let groups = pool_bins(&reference, &[0, 1, 30, 0, 1, 40, 28, 60], 5.0, true).expect("rows");
        assert_eq!(groups, [0, 0, 0, 1, 1, 1, 2, 3]);
        let rare = pool_bins(&[500, 300, 180, 12, 8, 0], &[50, 30, 18, 1, 1, 0], 5.0, false).expect("rows");
        assert_eq!(
            rare,
            [0, 1, 2, 2, 2, 2],
            "2 rare rows expected: too few for a bin of their own"
        );
        let rare = pool_bins(&[500, 300, 120, 40, 40, 0], &[50, 30, 12, 4, 4, 0], 5.0, false).expect("rows");
        assert_eq!(rare, [0, 1, 2, 3, 3, 3]);
        assert_eq!(pool_bins(&[1, 1], &[2, 2], 5.0, true), Ok(vec![0, 0]));
    }
}
