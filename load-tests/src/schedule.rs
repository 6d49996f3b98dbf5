//! When requests are due: a constant rate, or a Poisson process with a seed.

use std::time::Duration;

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// Each connection sends its next request when the last answer is complete. Slows down with the server and so hides
    /// queueing: for throughput and CPU per request.
    Closed,
    /// This many a second, evenly spaced, whatever the server does.
    Constant(f64),
    /// This many a second on average, at independent times, whatever the server does.
    Poisson(f64),
}

impl Arrivals {
    /// Requests a second, `None` for a closed loop.
    pub fn rate(self) -> Option<f64> {
        match self {
            Arrivals::Closed => None,
            Arrivals::Constant(rate) | Arrivals::Poisson(rate) => Some(rate),
        }
    }

    /// A `share` of the same arrivals.
    #[must_use]
    pub fn share(self, share: f64) -> Self {
        match self {
            Arrivals::Closed => Arrivals::Closed,
            Arrivals::Constant(rate) => Arrivals::Constant(rate * share),
            Arrivals::Poisson(rate) => Arrivals::Poisson(rate * share),
        }
    }
}

/// The times, counted from the start, at which requests are due; never ends.
#[derive(Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    random: fastrand::Rng,
    /// Requests that were given out.
    given: u64,
    /// Seconds until the last Poisson arrival.
    seconds: f64,
}

impl Schedule {
    /// The same `seed` gives the same times.
    ///
    /// A closed loop has no schedule: all of its requests are due at once.
    pub fn new(arrivals: Arrivals, seed: u64) -> Self {
        Self {
            arrivals,
            random: fastrand::Rng::with_seed(seed),
            given: 0,
            seconds: 0.0,
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let seconds = match self.arrivals {
            Arrivals::Closed => 0.0,
            // Multiplied, not added up: a million arrivals do not drift.
            Arrivals::Constant(rate) => self.given as f64 / rate,
            Arrivals::Poisson(rate) => {
                // `1 - f64()` is in (0, 1], so that its logarithm is finite.
                self.seconds -= (1.0 - self.random.f64()).ln() / rate;
                self.seconds
            }
        };
        self.given += 1;
        Some(Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_are_evenly_spaced_and_do_not_drift() {
        let times: Vec<_> = Schedule::new(Arrivals::Constant(3.0), 1).take(3_001).collect();
        assert_eq!(times[0], Duration::ZERO);
        assert_eq!(times[3_000], Duration::from_secs(1_000));
        assert!(times.is_sorted());
    }

    #[test]
    fn poisson_arrivals_have_the_rate_the_spread_and_the_seed() {
        let times = |seed| -> Vec<_> {
            Schedule::new(Arrivals::Poisson(1_000.0), seed)
                .take(100_000)
                .collect()
        };
        let first = times(7);
        assert_eq!(first, times(7));
        assert_ne!(first, times(8));
        let gaps: Vec<f64> = first
            .windows(2)
            .map(|pair| pair[1].abs_diff(pair[0]).as_secs_f64() * 1_000.0)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Exponential gaps of mean 1 have variance 1; 100,000 of them are within 2 % (about 6 and 2 standard errors).
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }
}
