//! Peak-sensitive moving average of latency, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time constant of the decay. Finagle and linkerd have 10 s, with which an endpoint that was 10× slower than its peers
/// is tried again after 23 s (`τ·ln 10`); with 2 s it is tried after 4.6 s, at the price of one request in that time.
const DECAY_NANOSECONDS: f64 = 2e9;

/// Exponentially weighted moving average that follows a rise at once and a fall slowly: a slower answer replaces the
/// estimate, a faster one is averaged in with weight `1 − exp(−Δt/τ)`, τ = 2 s. While nobody waits, the estimate decays
/// with the same constant, so that an endpoint that was slow once is tried again.
///
/// Source: Finagle's peak-EWMA load metric, as used by linkerd. Two racing updates may lose the older one, which the
/// next answer repairs.
#[derive(Debug, Default)]
pub(super) struct PeakEwma {
    /// Nanoseconds as the bits of an `f64`; zero bits before the first answer.
    estimate: AtomicU64,
    /// When it was true, in nanoseconds of the owner's clock.
    at: AtomicU64,
}

/// An estimate never reaches zero, which means "none".
const LEAST: f64 = 1.0;

impl PeakEwma {
    /// The estimate as the last answer left it, in nanoseconds; nothing before the first answer.
    pub(super) fn last(&self) -> Option<f64> {
        let bits = self.estimate.load(Ordering::Relaxed);
        (bits != 0).then(|| f64::from_bits(bits))
    }

    /// The estimate at `now`, in nanoseconds; nothing before the first answer.
    pub(super) fn decayed(&self, now: u64) -> Option<f64> {
        let elapsed = now.saturating_sub(self.at.load(Ordering::Relaxed)) as f64;
        Some((self.last()? * (-elapsed / DECAY_NANOSECONDS).exp()).max(LEAST))
    }

    /// An answer at `now` that took `took`.
    pub(super) fn observe(&self, took: Duration, now: u64) {
        let took = took.as_nanos() as f64;
        let estimate = match self.last() {
            Some(before) if took < before => {
                let elapsed = now.saturating_sub(self.at.load(Ordering::Relaxed)) as f64;
                let weight = (-elapsed / DECAY_NANOSECONDS).exp();
                before * weight + took * (1.0 - weight)
            }
            _ => took,
        };
        self.estimate
            .store(estimate.max(LEAST).to_bits(), Ordering::Relaxed);
        self.at.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn milliseconds(ewma: &PeakEwma, now: u64) -> f64 {
        ewma.decayed(now).expect("an estimate") / 1e6
    }

    #[test]
    fn a_rise_counts_at_once_and_a_fall_slowly() {
        let ewma = PeakEwma::default();
        assert_eq!(ewma.decayed(0), None);
        ewma.observe(Duration::from_millis(10), 0);
        ewma.observe(Duration::from_millis(100), SECOND);
        assert_eq!(milliseconds(&ewma, SECOND), 100.0);
        ewma.observe(Duration::from_millis(10), SECOND + SECOND / 5);
        // 100·e^(−0.1) + 10·(1 − e^(−0.1))
        assert!((milliseconds(&ewma, SECOND + SECOND / 5) - 91.435).abs() < 0.001);
        for second in 2..60 {
            ewma.observe(Duration::from_millis(10), second * SECOND);
        }
        assert!((milliseconds(&ewma, 59 * SECOND) - 10.0).abs() < 0.01);
    }

    #[test]
    fn an_endpoint_that_is_not_asked_becomes_attractive_again() {
        let ewma = PeakEwma::default();
        ewma.observe(Duration::from_secs(1), 0);
        // 1 s · e^(−7)
        assert!((milliseconds(&ewma, 14 * SECOND) - 0.912).abs() < 0.001);
        assert_eq!(ewma.last(), Some(1e9));
        assert!(milliseconds(&ewma, u64::MAX) > 0.0);
    }
}
