//! A quantile of a stream, in one word.

use std::sync::atomic::{AtomicU64, Ordering};

/// Follows a quantile of positive values by stochastic approximation on their logarithm (Robbins & Monro 1951): a value
/// above the estimate raises it by `STEP·q`, one below lowers it by `STEP·(1 − q)`, so that it rests where the share of
/// values below is `q`. It moves by at most `STEP` = 5 % with a value, forgets, and needs no window.
///
/// Two racing updates may lose one, which the next ones repair.
#[derive(Debug, Default)]
pub(crate) struct Quantile {
    /// The bits of an `f64`; zero bits before the first value.
    estimate: AtomicU64,
    seen: AtomicU64,
}

const STEP: f64 = 0.05;
/// Values before an estimate is given: enough for the 95th percentile to have been passed five times.
const MIN_SEEN: u64 = 100;

impl Quantile {
    /// One more value. `q`: 0 to 1.
    pub(crate) fn observe(&self, value: f64, q: f64) {
        let bits = self.estimate.load(Ordering::Relaxed);
        let before = f64::from_bits(bits);
        let estimate = if bits == 0 {
            value
        } else if value > before {
            before * (1.0 + STEP * q)
        } else {
            before * (1.0 - STEP * (1.0 - q))
        };
        self.estimate
            .store(estimate.max(f64::MIN_POSITIVE).to_bits(), Ordering::Relaxed);
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    /// The estimate, once there is one.
    pub(crate) fn get(&self) -> Option<f64> {
        let enough = self.seen.load(Ordering::Relaxed) >= MIN_SEEN;
        enough.then(|| f64::from_bits(self.estimate.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_where_the_share_below_is_q() {
        let (quantile, mut random) = (Quantile::default(), fastrand::Rng::with_seed(7));
        for _ in 0..99 {
            quantile.observe(random.f64(), 0.95);
        }
        assert_eq!(quantile.get(), None);
        (0..10_000).for_each(|_| quantile.observe(random.f64(), 0.95));
        let mut above = 0;
        for _ in 0..10_000 {
            let value = random.f64();
            above += usize::from(value > quantile.get().expect("seen enough"));
            quantile.observe(value, 0.95);
        }
        // 5 % ± what the last estimate may be off: |ln| of a few steps over 10,000 values.
        assert!((450..=550).contains(&above), "{above}");
    }

    #[test]
    fn it_follows_a_change() {
        let quantile = Quantile::default();
        (0..200).for_each(|_| quantile.observe(1.0, 0.95));
        (0..100).for_each(|_| quantile.observe(10.0, 0.95));
        assert!(quantile.get().expect("seen enough") > 9.0);
    }
}
