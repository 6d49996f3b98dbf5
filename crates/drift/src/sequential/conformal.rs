//! The conformal Shiryaev–Roberts e-detector.
//!
//! A value's rank among the reference and all values so far is uniform and independent of the past as long as the stream is
//! exchangeable, whatever its distribution and with any ties (Vovk, Gammerman, Shafer 2005; ties broken at random). The detector bets
//! against that uniformity with what it learned from recent ranks, at four memory lengths; a bet that pays what a fair game
//! would not is evidence of change. With `M ← (M + 1)·e`, `M_t − t` is a supermartingale (Shin, Ramdas, Rinaldo 2023), so that
//! P(M reaches C within T values) ≤ T/C, for any T.

use std::f64::consts::LN_2;

/// Half-lives of the four memories, in values.
const HALF_LIVES: [f64; 4] = [64.0, 256.0, 1024.0, 4096.0];
/// Most cells with rows for which [`Bets::for_reference`] bets on each: more of them take longer to learn than ten bins.
const MAX_ALIGNED: usize = 12;
/// Equal bins of the ranks that [`Bets::Ranks`] bets on.
const RANK_BINS: usize = 10;
/// Prior weight of aligned bets, in values: how slowly they leave the pool's own shares.
const ALIGNED_PRIOR: f64 = 2.0;
/// The products are kept near 1 by powers of this, counted apart: 2^256.
const UNIT: f64 = f64::from_bits((1023 + 256) << 52);
const LN_UNIT: f64 = 256.0 * LN_2;

/// How the unit interval of the ranks is cut for betting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bets {
    /// Ten equal bins: any distribution.
    Ranks,
    /// One bin per cell, as wide as the pool's share before the value: sharper for few cells, such as classes and levels.
    Aligned,
}

impl Bets {
    /// The sharper way for a reference with these rows per cell.
    pub fn for_reference(reference: &[u64]) -> Self {
        let live = reference.iter().filter(|n| **n > 0).count();
        if live <= MAX_ALIGNED {
            Self::Aligned
        } else {
            Self::Ranks
        }
    }
}

/// Sequential test of whether values still come from the distribution of the reference. `O(cells)` a value, no allocation, at
/// most 2 KiB with 64 cells.
#[derive(Clone, Debug)]
pub struct ConformalDetector {
    bets: Bets,
    /// Reference and values so far, per cell.
    pool: Box<[u64]>,
    total: u64,
    /// The pool grows no further than this: later drift must not become the reference.
    max_total: u64,
    memories: [Memory; 4],
    /// What each memory learned, bin by bin: shape `[4, bins]`.
    weights: Box<[f64]>,
}

/// What was learned over one half-life.
#[derive(Clone, Copy, Debug)]
struct Memory {
    decay: f64,
    /// Sum of the weights, the newest value weighing 1.
    sum: f64,
    /// What the newest value weighs in `weights`, and its inverse: growing it forgets all others at once, without touching
    /// them.
    newest: f64,
    newest_inverse: f64,
    /// `M = mantissa · UNIT^exponent`.
    mantissa: f64,
    exponent: u32,
}

impl ConformalDetector {
    /// A detector against `reference`, rows per cell in an order that means something (edges ascending, say).
    ///
    /// The pool stops growing at `max_growth` times the reference; `f64::INFINITY` for never.
    pub fn new(reference: &[u64], bets: Bets, max_growth: f64) -> Self {
        let bins = if bets == Bets::Ranks {
            RANK_BINS
        } else {
            reference.len()
        };
        let total: u64 = reference.iter().sum();
        Self {
            bets,
            pool: reference.into(),
            total,
            max_total: (total.max(1) as f64 * max_growth) as u64,
            memories: HALF_LIVES.map(Memory::new),
            weights: vec![0.0; HALF_LIVES.len() * bins].into(),
        }
    }

    /// Takes a value in `cell`, with `u` uniform in `[0, 1)` to break its ties, and returns the middle rank of the cell, in
    /// `[0, 1]`; `None` for a cell that does not exist.
    pub fn update(&mut self, cell: usize, u: f64) -> Option<f64> {
        let inside = *self.pool.get(cell)?;
        let below: u64 = self.pool.iter().take(cell).sum();
        // The value itself is counted: that makes the rank exactly uniform.
        let rank = (below as f64 + u * (inside + 1) as f64) / (self.total + 1) as f64;
        let middle = (below as f64 + 0.5 * (inside + 1) as f64) / (self.total + 1) as f64;
        match self.bets {
            Bets::Ranks => {
                let bin = ((RANK_BINS as f64 * rank) as usize).min(RANK_BINS - 1);
                for (memory, weights) in self
                    .memories
                    .iter_mut()
                    .zip(self.weights.chunks_exact_mut(RANK_BINS))
                {
                    let e = RANK_BINS as f64 * (memory.weight(weights, bin) + 1.0)
                        / (memory.sum + RANK_BINS as f64);
                    memory.settle(e);
                    memory.learn(weights, bin);
                }
            }
            Bets::Aligned => self.update_aligned(rank),
        }
        if self.total < self.max_total {
            self.pool[cell] += 1;
            self.total += 1;
        }
        Some(middle)
    }

    /// The widths come from the pool before the value, so that the bet is placed before the rank is known.
    fn update_aligned(&mut self, rank: f64) {
        if self.total == 0 {
            return;
        }
        let target = rank * self.total as f64;
        let mut below = 0.0;
        let mut bin = 0;
        let mut count = 0.0;
        for (i, &c) in self.pool.iter().enumerate() {
            // Cells of no width are passed over: a rank cannot fall into them.
            if c > 0 {
                (bin, count) = (i, c as f64);
                if below + count > target {
                    break;
                }
                below += count;
            }
        }
        let width = count / self.total as f64;
        for (memory, weights) in self
            .memories
            .iter_mut()
            .zip(self.weights.chunks_exact_mut(self.pool.len()))
        {
            let q = (memory.weight(weights, bin) + ALIGNED_PRIOR * width) / (memory.sum + ALIGNED_PRIOR);
            memory.settle(q / width);
            memory.learn(weights, bin);
        }
    }

    /// Natural logarithm of the evidence: of the mean over the four memories of `M`. −∞ before the first value.
    ///
    /// While the stream is exchangeable, P(this reaches `ln C` within T values) ≤ T/C.
    pub fn ln_evidence(&self) -> f64 {
        let ln = self
            .memories
            .map(|m| m.mantissa.ln() + f64::from(m.exponent) * LN_UNIT);
        let top = ln.into_iter().fold(f64::NEG_INFINITY, f64::max);
        if top == f64::NEG_INFINITY {
            return top;
        }
        top + (ln.iter().map(|x| (x - top).exp()).sum::<f64>() / ln.len() as f64).ln()
    }

    /// Forgets all evidence and bets, and keeps the pool: a new start after an alarm has been dealt with.
    pub fn restart(&mut self) {
        self.memories = HALF_LIVES.map(Memory::new);
        self.weights.fill(0.0);
    }

    /// Stops the pool from growing: after an alarm the new values must not become the reference.
    pub fn freeze(&mut self) {
        self.max_total = self.total;
    }

    /// Puts the pool back to `reference` and lets it grow again, up to `max_growth` times.
    pub fn rebase(&mut self, reference: &[u64], max_growth: f64) {
        if reference.len() == self.pool.len() {
            self.pool.copy_from_slice(reference);
            self.total = reference.iter().sum();
            self.max_total = (self.total.max(1) as f64 * max_growth) as u64;
        }
    }

    /// Bytes that one detector takes.
    pub fn size_bytes(&self) -> usize {
        size_of_val(self) + size_of_val(&*self.pool) + size_of_val(&*self.weights)
    }
}

impl Memory {
    fn new(half_life: f64) -> Self {
        let decay = 2_f64.powf(-1.0 / half_life);
        Self {
            decay,
            sum: 0.0,
            newest: 1.0,
            newest_inverse: 1.0,
            mantissa: 0.0,
            exponent: 0,
        }
    }

    /// `M ← (M + 1)·e`.
    fn settle(&mut self, e: f64) {
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

    /// How often a bin came up, recent values weighing most.
    fn weight(&self, weights: &[f64], bin: usize) -> f64 {
        weights[bin] * self.newest_inverse
    }

    fn learn(&mut self, weights: &mut [f64], bin: usize) {
        self.sum = self.sum * self.decay + 1.0;
        self.newest /= self.decay;
        self.newest_inverse *= self.decay;
        if self.newest > UNIT {
            for weight in weights.iter_mut() {
                *weight /= self.newest;
            }
            (self.newest, self.newest_inverse) = (1.0, 1.0);
        }
        weights[bin] += self.newest;
    }
}
