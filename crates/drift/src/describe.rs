//! Moments and quantiles of a sample.

use crate::fsum::fsum;

/// Moments of a sample; a value that does not exist (too few values, no spread, overflow) is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Values.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Sample variance, divisor `n − 1`; from two values on.
    pub variance: Option<f64>,
    /// `m₃ / m₂^1.5` of the population moments; with any spread.
    pub skewness: Option<f64>,
    /// Excess kurtosis `m₄ / m₂² − 3` of the population moments; with any spread.
    pub kurtosis: Option<f64>,
}

/// Moments of finite values, by correctly rounded sums.
///
/// Deviations are divided by the largest of them before they are raised, so that only the mean and the variance
/// themselves can overflow. The steps are those of `schema/README.md`, in its order, for bit-equal results.
pub fn moments(values: &[f64]) -> Moments {
    let Some(&first) = values.first() else {
        return Moments::default();
    };
    let flat = values.iter().all(|x| *x == first);
    let mean = if flat {
        first
    } else {
        fsum(values.iter().copied()) / values.len() as f64
    };
    moments_about(mean, values)
}

/// [`moments`] with deviations from `mean`, whoever computed it.
///
/// Far from 0 the last digit of the mean is a visible part of the spread, and skewness depends on how it was rounded.
pub fn moments_about(mean: f64, values: &[f64]) -> Moments {
    let n = values.len() as f64;
    let mut result = Moments {
        count: values.len() as u64,
        ..Moments::default()
    };
    if values.is_empty() || !mean.is_finite() {
        return result;
    }
    result.mean = Some(mean);
    let scale = values.iter().fold(0.0_f64, |s, x| s.max((x - mean).abs()));
    if scale == 0.0 {
        result.variance = (values.len() > 1).then_some(0.0);
        return result;
    }
    if !scale.is_finite() {
        return result;
    }
    let t = || values.iter().map(|x| (x - mean) / scale);
    let s2 = fsum(t().map(|t| t * t));
    let m2 = s2 / n;
    let m3 = fsum(t().map(|t| t * t * t)) / n;
    let m4 = fsum(t().map(|t| t * t * t * t)) / n;
    result.variance = Some(s2 / (n - 1.0) * scale * scale).filter(|v| v.is_finite());
    result.skewness = Some(m3 / (m2 * m2.sqrt()));
    result.kurtosis = Some(m4 / (m2 * m2) - 3.0);
    result
}

/// The quantile at `level` of ascending finite values: linear interpolation at `(n − 1) · level` (type 7).
///
/// `None` without values. Source: Hyndman and Fan (1996), "Sample Quantiles in Statistical Packages".
pub fn quantile(sorted: &[f64], level: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = last as f64 * level.clamp(0.0, 1.0);
    let i = (position.floor() as usize).min(last);
    let t = position - i as f64;
    let (a, b) = (sorted[i], sorted[(i + 1).min(last)]);
    // From the nearer end, as numpy does: exact at both ends.
    let value = if t == 0.0 {
        a
    } else if t < 0.5 {
        a + (b - a) * t
    } else {
        b - (b - a) * (1.0 - t)
    };
    Some(value.clamp(a, b))
}

/// Sorts finite values ascending and turns −0 into +0, so that equal values have equal bits.
pub(crate) fn sort(values: &mut [f64]) {
    for x in values.iter_mut() {
        *x += 0.0;
    }
    values.sort_unstable_by(f64::total_cmp);
}

#[cfg(test)]
mod tests {
    use super::{moments, quantile};

    #[test]
    fn extreme_values_have_shape_even_when_their_powers_overflow() {
        let m = moments(&[-1e200, 1e200, 1e200, -1e200]);
        assert_eq!(
            (m.mean, m.variance, m.skewness, m.kurtosis),
            (Some(0.0), None, Some(0.0), Some(-2.0))
        );
    }

    #[test]
    fn small_samples_leave_undefined_moments_out() {
        assert_eq!(moments(&[]).mean, None);
        let one = moments(&[3.5]);
        assert_eq!((one.mean, one.variance, one.skewness), (Some(3.5), None, None));
        let flat = moments(&[0.1; 7]);
        assert_eq!(
            (flat.mean, flat.variance, flat.kurtosis),
            (Some(0.1), Some(0.0), None)
        );
    }

    #[test]
    fn quantiles_reach_both_ends_and_survive_overflow() {
        let x = [-f64::MAX, 0.0, f64::MAX];
        assert_eq!(quantile(&x, 0.0), Some(-f64::MAX));
        assert_eq!(quantile(&x, 1.0), Some(f64::MAX));
        assert!(quantile(&[-f64::MAX, f64::MAX], 0.25).is_some_and(f64::is_finite));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
