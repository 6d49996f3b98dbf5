//! Measures with their intervals.

use serde::{Deserialize, Serialize};

/// Standard normal quantile of a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// A measure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Best estimate.
    pub value: f64,
    /// Lower end of the interval.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

impl Measure {
    /// A share of `rows` trials, with Wilson's interval; `None` without trials. `rows` need not be whole: a share that is known
    /// as well as from that many trials.
    ///
    /// Source: Wilson (1927), "Probable Inference, the Law of Succession, and Statistical Inference".
    pub(super) fn share(value: f64, rows: f64) -> Option<Self> {
        if rows.is_nan() || rows <= 0.0 {
            return None;
        }
        let value = value.clamp(0.0, 1.0);
        let (lower, upper) = wilson(value, rows, Z);
        Some(Self { value, lower, upper })
    }

    /// A share whose variance is known, with Wilson's interval for as many trials as would have that variance.
    ///
    /// The interval stays within `[0, 1]` and is lopsided near its ends. Source: Kottas, Kuss, Zapf (2014), "A modified Wald
    /// interval for the area under the ROC curve", which compares it with others. Without variance there is no doubt.
    pub(super) fn share_with_variance(value: f64, variance: f64) -> Option<Self> {
        let value = value.clamp(0.0, 1.0);
        let trials = value * (1.0 - value) / variance;
        if trials.is_finite() && trials > 0.0 {
            return Self::share(value, trials);
        }
        value.is_finite().then_some(Self {
            value,
            lower: value,
            upper: value,
        })
    }

    /// The mean of the values of `rows` rows with this sum and sum of squares; `None` below two rows.
    pub(super) fn mean(rows: u64, sum: f64, squares: f64) -> Option<Self> {
        if rows < 2 {
            return None;
        }
        let n = rows as f64;
        let value = sum / n;
        let variance = ((squares - n * value * value) / (n - 1.0)).max(0.0);
        let half = Z * (variance / n).sqrt();
        Some(Self {
            value,
            lower: value - half,
            upper: value + half,
        })
    }

    /// The mean of independent measures; `None` without any.
    ///
    /// The distances from value to limit are added in squares. Source: Zou and Donner (2008), "Construction of confidence limits
    /// about effect measures: a general approach" (MOVER).
    pub(super) fn average(measures: impl IntoIterator<Item = Self>) -> Option<Self> {
        let (mut n, mut sum, mut below, mut above) = (0.0, 0.0, 0.0, 0.0);
        for m in measures {
            n += 1.0;
            sum += m.value;
            below += (m.value - m.lower).powi(2);
            above += (m.upper - m.value).powi(2);
        }
        (n > 0.0).then(|| Self {
            value: sum / n,
            lower: sum / n - below.sqrt() / n,
            upper: sum / n + above.sqrt() / n,
        })
    }

    /// The measure `f(self)`, for an ascending `f`.
    pub(super) fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self {
            value: f(self.value),
            lower: f(self.lower),
            upper: f(self.upper),
        }
    }

    /// Whether both intervals share a value.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.lower <= other.upper && other.lower <= self.upper
    }
}

/// Wilson's limits of a share of `rows` trials, `z` standard deviations to each side.
pub(crate) fn wilson(share: f64, rows: f64, z: f64) -> (f64, f64) {
    let weight = z * z / rows;
    let centre = (share + weight / 2.0) / (1.0 + weight);
    let half = z / (1.0 + weight) * (share * (1.0 - share) / rows + weight / (4.0 * rows)).sqrt();
    // At the ends the limit is the share itself, but for its last digit.
    (
        (centre - half).clamp(0.0, share),
        (centre + half).clamp(share, 1.0),
    )
}

#[cfg(test)]
mod tests {
    use super::Measure;

    #[test]
    fn shares_have_wilsons_interval() {
        // statsmodels 0.14: proportion_confint(8, 10, method="wilson").
        let m = Measure::share(0.8, 10.0).expect("trials");
        assert!((m.lower - 0.490_162_471_536_645_3).abs() < 1e-12, "{m:?}");
        assert!((m.upper - 0.943_317_848_545_625_4).abs() < 1e-12, "{m:?}");
        let none = Measure::share(0.0, 20.0).expect("trials");
        assert!(none.lower == 0.0 && none.upper > 0.1);
        assert_eq!(Measure::share(0.5, 0.0), None);
        let same = Measure::share_with_variance(0.8, 0.016).expect("a variance");
        assert!((same.lower - m.lower).abs() < 1e-12);
        assert_eq!(Measure::share_with_variance(1.0, 0.0).map(|m| m.lower), Some(1.0));
    }

    #[test]
    fn an_average_is_surer_than_its_parts() {
        let part = Measure::share(0.5, 100.0).expect("trials");
        let four = Measure::average([part; 4]).expect("parts");
        assert!((four.upper - four.value - (part.upper - part.value) / 2.0).abs() < 1e-12);
        assert_eq!(Measure::average([]), None);
        assert!(part.overlaps(&four) && !part.overlaps(&part.map(|x| x + 1.0)));
    }

    #[test]
    fn means_have_the_interval_of_their_standard_error() {
        let m = Measure::mean(4, 10.0, 30.0).expect("rows"); // 1, 2, 3, 4
        assert!((m.upper - 2.5 - 1.959_963_984_540_054 * (5.0_f64 / 12.0).sqrt()).abs() < 1e-12);
        assert_eq!(Measure::mean(1, 1.0, 1.0), None);
    }
}
