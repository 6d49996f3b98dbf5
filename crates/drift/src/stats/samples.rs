//! Statistics of two samples of values.
//!
//! Every function takes both samples in ascending order and without NaN, `a` the reference of `n` values and `b` the
//! detection window of `m`; shape `[n]`, `[m]`. [`sorted`] prepares them.

use crate::special::{cramer_von_mises_sf, kolmogorov_sf, ks_one_sample_sf, ks_two_sample_sf};

/// Largest `n·m` for which the exact law is worked out; above it Stephens' approximation is as good.
pub const MAX_EXACT_CELLS: u64 = 400_000;

/// The Kolmogorov–Smirnov statistic with its laws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KolmogorovSmirnov {
    /// `sup |F_a − F_b|` of the right-continuous distribution functions, in `[0, 1]`.
    pub statistic: f64,
    /// Limit law at `√n_e · D`.
    pub p_limit: f64,
    /// Limit law with Stephens' correction, at `(√n_e + 0.12 + 0.11/√n_e) · D`.
    pub p_stephens: f64,
    /// Exact one-sample law at `round(n_e)`, which scipy calls asymptotic.
    pub p_one_sample: f64,
    /// Exact two-sample law; `None` when `n·m` is above [`MAX_EXACT_CELLS`].
    pub p_exact: Option<f64>,
}

impl KolmogorovSmirnov {
    /// The best p-value there is: exact, else Stephens'.
    pub fn p_value(&self) -> f64 {
        self.p_exact.unwrap_or(self.p_stephens)
    }
}

/// The Cramér–von Mises statistic with its limit law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CramerVonMises {
    /// `T = U/(nmN) − (4nm − 1)/(6N)`, by midranks.
    pub statistic: f64,
    /// Limit law after matching mean and variance; ten digits near the centre, fewer far out.
    pub p_value: f64,
}

/// The values that can be compared, ascending.
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|x| x.is_finite()).collect();
    crate::describe::sort(&mut values);
    values
}

/// Kolmogorov–Smirnov; `None` when a sample is empty.
pub fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> Option<KolmogorovSmirnov> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let (n, m) = (a.len() as f64, b.len() as f64);
    let statistic = Steps::new(a, b)
        .map(|s| (s.below_a / n - s.below_b / m).abs())
        .fold(0.0, f64::max);
    let ne = n * m / (n + m);
    let s = ne.sqrt();
    Some(KolmogorovSmirnov {
        statistic,
        p_limit: kolmogorov_sf(s * statistic),
        p_stephens: kolmogorov_sf((s + 0.12 + 0.11 / s) * statistic),
        // Half to even, as numpy rounds.
        p_one_sample: ks_one_sample_sf(statistic, ne.round_ties_even() as u64),
        p_exact: ks_two_sample_sf(statistic, a.len() as u64, b.len() as u64, MAX_EXACT_CELLS),
    })
}

/// Wasserstein-1 distance `∫ |F_a − F_b|`, in the unit of the values; `None` when a sample is empty.
pub fn wasserstein(a: &[f64], b: &[f64]) -> Option<f64> {
    distance(a, b, f64::abs)
}

/// [`wasserstein`] in units of the reference's population standard deviation, which is taken as at least 0.001 (the rule of Evidently).
pub fn wasserstein_normed(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let variance = crate::moments(a).variance.unwrap_or(0.0) * (n - 1.0) / n;
    Some(wasserstein(a, b)? / variance.sqrt().max(0.001))
}

/// Energy distance `√(2 ∫ (F_a − F_b)²)`; `None` when a sample is empty.
pub fn energy_distance(a: &[f64], b: &[f64]) -> Option<f64> {
    Some((2.0 * distance(a, b, |d| d * d)?).sqrt())
}

/// Cramér–von Mises; `None` below two values a side.
///
/// Source: Anderson (1962), *On the distribution of the two-sample Cramér–von Mises criterion*; ties by midranks.
pub fn cramer_von_mises(a: &[f64], b: &[f64]) -> Option<CramerVonMises> {
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    let (n, m) = (a.len() as f64, b.len() as f64);
    let total = n + m;
    // Σ (rank − i)² over the values of each sample, i its own index from 1.
    let (mut sum_a, mut sum_b) = (0.0, 0.0);
    let (mut i, mut j) = (0.0, 0.0);
    for step in Steps::new(a, b) {
        let (in_a, in_b) = (step.below_a - i, step.below_b - j);
        let midrank = i + j + (in_a + in_b + 1.0) / 2.0;
        for k in 1..=in_a as u64 {
            sum_a += (midrank - (i + k as f64)).powi(2);
        }
        for k in 1..=in_b as u64 {
            sum_b += (midrank - (j + k as f64)).powi(2);
        }
        (i, j) = (step.below_a, step.below_b);
    }
    let k = n * m;
    let u = n * sum_a + m * sum_b;
    let statistic = u / (k * total) - (4.0 * k - 1.0) / (6.0 * total);
    let mean = (1.0 + 1.0 / total) / 6.0;
    let variance = (total + 1.0) * (4.0 * k * total - 3.0 * (n * n + m * m) - 2.0 * k)
        / (45.0 * total * total * 4.0 * k);
    let standard = 1.0 / 6.0 + (statistic - mean) / (45.0 * variance).sqrt();
    Some(CramerVonMises {
        statistic,
        p_value: cramer_von_mises_sf(standard),
    })
}

/// The Anderson–Darling k-sample statistic for two samples, midrank version, normalised to mean 0 and variance 1; `None`
/// for an empty sample, fewer than four values, or fewer than two distinct ones.
///
/// Source: Scholz and Stephens (1987), *K-sample Anderson–Darling tests*, equation 7.
pub fn anderson_darling(a: &[f64], b: &[f64]) -> Option<f64> {
    let (n, m) = (a.len() as f64, b.len() as f64);
    let total = n + m;
    let distinct = Steps::new(a, b).take(2).count();
    if a.is_empty() || b.is_empty() || total < 4.0 || distinct < 2 {
        return None;
    }
    let (mut sum_a, mut sum_b) = (0.0, 0.0);
    let (mut i, mut j) = (0.0, 0.0);
    for step in Steps::new(a, b) {
        let (in_a, in_b) = (step.below_a - i, step.below_b - j);
        let tied = in_a + in_b;
        let below = i + j + tied / 2.0;
        let weight = tied / total / (below * (total - below) - total * tied / 4.0);
        sum_a += weight * (total * (i + in_a / 2.0) - below * n).powi(2);
        sum_b += weight * (total * (j + in_b / 2.0) - below * m).powi(2);
        (i, j) = (step.below_a, step.below_b);
    }
    let raw = (sum_a / n + sum_b / m) * (total - 1.0) / total;
    let variance = anderson_variance(n, m)?;
    Some((raw - 1.0) / variance.sqrt())
}

/// Variance of the two-sample statistic when nothing changed: Scholz and Stephens, equation 4 with k = 2.
fn anderson_variance(n: f64, m: f64) -> Option<f64> {
    let total = n + m;
    let inverse = 1.0 / n + 1.0 / m;
    let (mut h, mut g) = (0.0, 0.0);
    // h = Σ 1/i for i < N; g = Σ_{i<j<N} 1/((N − i) j).
    let last = total as u64 - 1;
    for j in 2..=last {
        h += 1.0 / (total - (j as f64 - 1.0));
        g += h / j as f64;
    }
    h += 1.0;
    let a = 4.0 * g - 6.0 + (10.0 - 6.0 * g) * inverse;
    let b = (2.0 * g - 4.0) * 4.0 + 16.0 * h + (2.0 * g - 14.0 * h - 4.0) * inverse - 8.0 * h + 4.0 * g - 6.0;
    let c = (6.0 * h + 2.0 * g - 2.0) * 4.0
        + (4.0 * h - 4.0 * g + 6.0) * 2.0
        + (2.0 * h - 6.0) * inverse
        + 4.0 * h;
    let d = (2.0 * h + 6.0) * 4.0 - 8.0 * h;
    let variance = (a * total.powi(3) + b * total.powi(2) + c * total + d)
        / ((total - 1.0) * (total - 2.0) * (total - 3.0));
    (variance > 0.0).then_some(variance)
}

/// `∫ f(F_a − F_b)` over the pooled order statistics.
fn distance(a: &[f64], b: &[f64], f: impl Fn(f64) -> f64) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let (n, m) = (a.len() as f64, b.len() as f64);
    let mut previous: Option<Step> = None;
    let mut sum = 0.0;
    for step in Steps::new(a, b) {
        if let Some(p) = previous {
            sum += f(p.below_a / n - p.below_b / m) * (step.at - p.at);
        }
        previous = Some(step);
    }
    Some(sum)
}

/// A distinct value of the pooled samples, and how many values of each are at or below it.
#[derive(Clone, Copy)]
struct Step {
    at: f64,
    below_a: f64,
    below_b: f64,
}

/// Walks the distinct values of two ascending samples.
struct Steps<'a> {
    a: &'a [f64],
    b: &'a [f64],
    i: usize,
    j: usize,
}

impl<'a> Steps<'a> {
    fn new(a: &'a [f64], b: &'a [f64]) -> Self {
        Self { a, b, i: 0, j: 0 }
    }
}

impl Iterator for Steps<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let at = match (self.a.get(self.i), self.b.get(self.j)) {
            (Some(x), Some(y)) => x.min(*y),
            (Some(x), None) | (None, Some(x)) => *x,
            (None, None) => return None,
        };
        while self.a.get(self.i).is_some_and(|x| *x <= at) {
            self.i += 1;
        }
        while self.b.get(self.j).is_some_and(|x| *x <= at) {
            self.j += 1;
        }
        Some(Step {
            at,
            below_a: self.i as f64,
            below_b: self.j as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        anderson_darling, cramer_von_mises, energy_distance, kolmogorov_smirnov, sorted, wasserstein,
    };

    #[test]
    fn empty_and_tiny_samples_give_none_instead_of_nan() {
        assert_eq!(kolmogorov_smirnov(&[], &[1.0]), None);
        assert_eq!(wasserstein(&[1.0], &[]), None);
        assert_eq!(energy_distance(&[], &[]), None);
        assert_eq!(cramer_von_mises(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(anderson_darling(&[1.0], &[2.0, 3.0]), None);
        assert_eq!(anderson_darling(&[2.0; 9], &[2.0; 5]), None);
    }

    #[test]
    fn distances_by_hand() {
        let a = sorted([3.0, 1.0, f64::NAN, 2.0]);
        let b = sorted([4.0, 2.0, 3.0]);
        assert_eq!(wasserstein(&a, &b), Some(1.0));
        let d = kolmogorov_smirnov(&a, &b).expect("values").statistic;
        assert!((d - 1.0 / 3.0).abs() < 1e-15);
        // Each of the three unit steps differs by 1/3: √(2 · 3/9).
        let e = energy_distance(&a, &b).expect("values");
        assert!((e - (2.0_f64 / 3.0).sqrt()).abs() < 1e-15);
    }
}
