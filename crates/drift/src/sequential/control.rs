//! Control charts for values with a known mean and standard deviation.

/// Two-sided tabular CUSUM on standardised values: sums what exceeds an allowance on each side.
///
/// Page (1954), *Continuous Inspection Schemes*. With allowance 0.5 and threshold 8 an unchanged normal stream alarms about
/// once in 10,000 values, and a shift by one standard deviation is found after about 17.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cusum {
    allowance: f64,
    threshold: f64,
    high: f64,
    low: f64,
}

impl Cusum {
    /// A chart with `allowance` and `threshold` in standard deviations.
    pub fn new(allowance: f64, threshold: f64) -> Self {
        Self {
            allowance,
            threshold,
            high: 0.0,
            low: 0.0,
        }
    }

    /// Takes a standardised value; true when it raises an alarm, after which both sums start again. NaN is ignored.
    pub fn update(&mut self, z: f64) -> bool {
        if z.is_nan() {
            return false;
        }
        self.high = (self.high + z - self.allowance).max(0.0);
        self.low = (self.low - z - self.allowance).max(0.0);
        let alarm = self.high > self.threshold || self.low > self.threshold;
        if alarm {
            (self.high, self.low) = (0.0, 0.0);
        }
        alarm
    }
}

impl Default for Cusum {
    fn default() -> Self {
        Self::new(0.5, 8.0)
    }
}

/// Exponentially weighted moving average of standardised values, with the exact limits of its first steps.
///
/// Roberts (1959), *Control Chart Tests Based on Geometric Moving Averages*.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ewma {
    weight: f64,
    width: f64,
    average: f64,
    steps: u32,
}

impl Ewma {
    /// A chart that gives the newest value `weight` in `(0, 1]` and alarms at `width` standard deviations of the average.
    pub fn new(weight: f64, width: f64) -> Self {
        Self {
            weight,
            width,
            average: 0.0,
            steps: 0,
        }
    }

    /// Takes a standardised value; true when it raises an alarm, after which the average starts again. NaN is ignored.
    pub fn update(&mut self, z: f64) -> bool {
        if z.is_nan() {
            return false;
        }
        self.steps = self.steps.saturating_add(1);
        self.average = (1.0 - self.weight) * self.average + self.weight * z;
        let spread = 1.0 - (1.0 - self.weight).powf(2.0 * f64::from(self.steps));
        let limit = self.width * (self.weight / (2.0 - self.weight) * spread).sqrt();
        let alarm = self.average.abs() > limit;
        if alarm {
            (self.average, self.steps) = (0.0, 0);
        }
        alarm
    }

    /// The average so far.
    pub fn average(&self) -> f64 {
        self.average
    }
}

impl Default for Ewma {
    fn default() -> Self {
        Self::new(0.1, 4.5)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cusum, Ewma};

    #[test]
    fn charts_find_a_shift_and_start_again() {
        let mut cusum = Cusum::default();
        // Each value of 2.5 adds 2: the fifth passes 8.
        let alarms: Vec<usize> = (0..10).filter(|_| cusum.update(2.5)).collect();
        assert_eq!(alarms, [4, 9]);
        assert!(!cusum.update(f64::NAN));
        let mut ewma = Ewma::default();
        assert!(ewma.update(5.0), "the first limit is width · weight");
        assert_eq!(ewma.average(), 0.0);
        assert!((0..10_000).all(|i| !ewma.update(if i % 2 == 0 { 1.0 } else { -1.0 })));
    }
}
