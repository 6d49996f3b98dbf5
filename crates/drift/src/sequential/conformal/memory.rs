//! One memory of the detector: what it learned, what its bets have won, and since when.

use serde::{Deserialize, Serialize};

use super::{LN_UNIT, ONSET_ROWS, UNIT};

/// What a value weighs one value later, for half-lives of 64, 256, 1,024 and 4,096 values: `2^(−1 / half-life)`.
pub(super) const DECAYS: [f64; 4] = [
    0.989_228_013_193_975_5,
    0.997_296_056_085_470_1,
    0.999_323_327_502_650_8,
    0.999_830_788_931_929_1,
];

/// What was learned over one half-life, and the `M` of its bets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Sum of the weights, the newest value weighing 1.
    sum: f64,
    /// What the newest value weighs in the weights, and its inverse: growing it forgets all others at once, without touching
    /// them.
    newest: f64,
    newest_inverse: f64,
    /// `M = mantissa · UNIT^exponent`.
    mantissa: f64,
    exponent: u32,
}

impl Memory {
    pub(super) const NEW: Self = Self {
        sum: 0.0,
        newest: 1.0,
        newest_inverse: 1.0,
        mantissa: 0.0,
        exponent: 0,
    };

    /// Sum of the weights.
    pub(super) fn sum(&self) -> f64 {
        self.sum
    }

    /// How often a bin with this stored weight came up, recent values weighing most.
    pub(super) fn weight(&self, stored: f64) -> f64 {
        stored * self.newest_inverse
    }

    /// `M ← (M + 1)·e`.
    pub(super) fn settle(&mut self, e: f64) {
        let one = match self.exponent {
            0 => 1.0,
            1 => 1.0 / UNIT,
            _ => 0.0, // below the last digit of the mantissa
        };
        self.mantissa = (self.mantissa + one) * e;
        if self.mantissa > UNIT {
            self.mantissa /= UNIT;
            self.exponent += 1;
        } else if self.exponent > 0 && self.mantissa < 1.0 / UNIT {
            self.mantissa *= UNIT;
            self.exponent -= 1;
        }
    }

    /// `M`; infinite beyond the range of numbers.
    pub(super) fn value(self) -> f64 {
        if self.exponent == 0 {
            self.mantissa
        } else {
            self.mantissa * UNIT.powi(self.exponent.min(8) as i32)
        }
    }

    /// `ln M`.
    pub(super) fn ln(self) -> f64 {
        self.mantissa.ln() + f64::from(self.exponent) * LN_UNIT
    }

    /// Forgets a little, and adds a value to a bin.
    pub(super) fn learn(&mut self, decay: f64, weights: &mut [f64], bin: usize) {
        self.sum = self.sum * decay + 1.0;
        self.newest /= decay;
        self.newest_inverse *= decay;
        if self.newest > UNIT {
            for weight in weights.iter_mut() {
                *weight /= self.newest;
            }
            (self.newest, self.newest_inverse) = (1.0, 1.0);
        }
        weights[bin] += self.newest;
    }
}

/// The greatest term of a memory's `M`: the product of its bets since the row from which on it is greatest. That is the CUSUM
/// recursion `W ← max(W, 1)·e`, which begins anew where nothing was won.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Streak {
    wealth: f64,
    rows: u32,
}

impl Streak {
    pub(super) const NEW: Self = Self { wealth: 0.0, rows: 0 };

    /// Takes a bet that paid `e` on a value in `cell`; `since` are the rows per cell of this streak.
    pub(super) fn settle(&mut self, e: f64, since: &mut [u16], cell: usize) {
        if self.wealth <= 1.0 {
            *self = Self { wealth: 1.0, rows: 0 };
            since.fill(0);
        }
        // Beyond this no stream comes back to 1.
        self.wealth = (self.wealth * e).min(UNIT);
        self.rows = self.rows.saturating_add(1);
        if self.rows <= ONSET_ROWS {
            since[cell] += 1;
        }
    }

    pub(super) fn rows(self) -> u64 {
        u64::from(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::{DECAYS, Memory, Streak};

    #[test]
    fn weights_halve_in_a_half_life() {
        for (decay, half_life) in DECAYS.into_iter().zip([64.0, 256.0, 1024.0, 4096.0]) {
            // Mathematical libraries differ in the last digit.
            assert!((decay - 2_f64.powf(-1.0 / half_life)).abs() < 1e-15);
        }
    }

    #[test]
    fn a_product_keeps_its_size_far_beyond_the_range_of_numbers() {
        let mut memory = Memory::NEW;
        for _ in 0..2_000 {
            memory.settle(8.0);
        }
        // 8 + 8² + … + 8ⁿ = 8ⁿ⁺¹ / 7, but for a digit that is not there.
        let expected = 2_001.0 * 8_f64.ln() - 7_f64.ln();
        assert!((memory.ln() - expected).abs() < 1e-9, "{}", memory.ln());
        assert_eq!(memory.value(), f64::INFINITY);
        for _ in 0..2_000 {
            memory.settle(0.125);
        }
        assert!(memory.value() < 2.0, "{memory:?}");
    }

    #[test]
    fn a_streak_begins_where_the_bets_begin_to_win() {
        let mut streak = Streak::NEW;
        let mut since = [0_u16; 2];
        for _ in 0..50 {
            streak.settle(0.9, &mut since, 0);
        }
        for _ in 0..20 {
            streak.settle(1.5, &mut since, 1);
        }
        assert_eq!((streak.rows(), since), (20, [0, 20]));
        for _ in 0..100_000 {
            streak.settle(1.5, &mut since, 1);
        }
        assert_eq!((streak.rows(), since), (100_020, [0, u16::MAX]));
    }
}
