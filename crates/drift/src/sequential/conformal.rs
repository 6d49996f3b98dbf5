//! The conformal Shiryaev–Roberts e-detector.
//!
//! A value's rank among the reference and all values so far is uniform and independent of the past as long as the stream is
//! exchangeable, whatever its distribution and with any ties (Vovk, Gammerman, Shafer 2005; ties broken at random). The detector bets
//! against that uniformity with what it learned from recent ranks, at four memory lengths; a bet that pays what a fair game
//! would not is evidence of change. With `M ← (M + 1)·e`, `M_t − t` is a supermartingale (Shin, Ramdas, Rinaldo 2023), so that
//! P(M reaches C within T values) ≤ T/C, for any T.
//!
//! The ranks are only uniform while every value joins the pool that the next one is ranked in: against a pool that stopped at N rows,
//! `T ≫ N` values show its sampling error as if it were a change. So the pool grows for ever, and stops only for an alarm. What it takes
//! in while it drifts slowly is left to comparisons with the reference itself.
//!
//! `M` is the sum, over all rows, of the product of the bets since that row. The greatest of these terms began where the
//! change most likely did ([`ConformalDetector::onset`]).

mod memory;

use std::cmp::Ordering;
use std::f64::consts::LN_2;

use memory::{DECAYS, Memory, Streak};
use serde::{Deserialize, Serialize};

/// Most cells with rows for which [`Bets::for_reference`] bets on each. Up to here one bet per cell finds a moved class in fewer
/// values than ten bins do; a numeric profile's sixteen quantile bins take longer to learn than ten.
const MAX_ALIGNED: usize = 12;
/// Most cells of aligned bets, those without rows included: they take memory all the same.
const MAX_ALIGNED_CELLS: usize = 16;
/// Equal bins of the ranks that [`Bets::Ranks`] bets on.
const RANK_BINS: usize = 10;
/// Prior weight of aligned bets, in values: how slowly they leave the pool's own shares.
const ALIGNED_PRIOR: f64 = 2.0;
/// The products are kept near 1 by powers of this, counted apart: 2^256.
const UNIT: f64 = f64::from_bits((1023 + 256) << 52);
const LN_UNIT: f64 = 256.0 * LN_2;
/// Rows at which the pool is halved instead of overflowing. Its shares stay what they are but for `cells / 2³¹`, far less than
/// a memory of some thousand values can bet on.
const FULL: u32 = 1 << 31;
/// The memories whose best term is followed. The longest hardly ever leads before an alarm.
const FOLLOWED: usize = 3;
/// Rows since the onset after which no more are counted; by then the effect is known well enough.
const ONSET_ROWS: u32 = u16::MAX as u32;

/// How the unit interval of the ranks is cut for betting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        if live <= MAX_ALIGNED && reference.len() <= MAX_ALIGNED_CELLS {
            Self::Aligned
        } else {
            Self::Ranks
        }
    }
}

/// Sequential test of whether values still come from the distribution of the reference. `O(cells)` a value, no allocation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConformalDetector {
    bets: Bets,
    frozen: bool,
    /// Reference and values so far, per cell.
    pool: Box<[u32]>,
    total: u32,
    /// Mean of `M` over the memories; infinite beyond the range of numbers.
    evidence: f64,
    memories: [Memory; DECAYS.len()],
    /// What each memory learned, bin by bin: shape `[4, bins]`.
    weights: Box<[f64]>,
    streaks: [Streak; FOLLOWED],
    /// Rows per cell since each streak began: shape `[3, cells]`.
    since: Box<[u16]>,
}

/// Where a change began, as far as the bets tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Onset<'a> {
    /// Values since then, the newest included.
    pub rows: u64,
    /// How they fell into the cells; of the first 65,535.
    pub counts: &'a [u16],
}

impl ConformalDetector {
    /// A detector against `reference`, rows per cell in an order that means something (edges ascending, say).
    pub fn new(reference: &[u64], bets: Bets) -> Self {
        let bins = if bets == Bets::Ranks {
            RANK_BINS
        } else {
            reference.len()
        };
        let mut detector = Self {
            bets,
            frozen: false,
            pool: vec![0; reference.len()].into(),
            total: 0,
            evidence: 0.0,
            memories: [Memory::NEW; DECAYS.len()],
            weights: vec![0.0; DECAYS.len() * bins].into(),
            streaks: [Streak::NEW; FOLLOWED],
            since: vec![0; FOLLOWED * reference.len()].into(),
        };
        detector.rebase(reference);
        detector
    }

    /// Takes a value in `cell`, with `u` uniform in `[0, 1)` to break its ties, and returns the middle rank of the cell, in
    /// `[0, 1]`; `None` for a cell that does not exist.
    pub fn update(&mut self, cell: usize, u: f64) -> Option<f64> {
        let inside = f64::from(*self.pool.get(cell)?) + 1.0;
        let below = f64::from(self.pool.iter().take(cell).sum::<u32>());
        // The value itself is counted: that makes the rank exactly uniform.
        let all = f64::from(self.total) + 1.0;
        let rank = (below + u * inside) / all;
        let middle = (below + 0.5 * inside) / all;
        match self.bets {
            Bets::Ranks => {
                let bin = ((RANK_BINS as f64 * rank) as usize).min(RANK_BINS - 1);
                self.bet(cell, RANK_BINS, bin, RANK_BINS as f64, 1.0 / RANK_BINS as f64);
            }
            Bets::Aligned => {
                if let Some((bin, width)) = self.aligned_bin(rank) {
                    self.bet(cell, self.pool.len(), bin, ALIGNED_PRIOR, width);
                }
            }
        }
        if !self.frozen {
            self.pool[cell] += 1;
            self.total += 1;
            if self.total >= FULL {
                self.halve();
            }
        }
        Some(middle)
    }

    /// The cell that the rank falls into, and its width. Both come from the pool before the value, so that the bet is placed before the
    /// rank is known.
    fn aligned_bin(&self, rank: f64) -> Option<(usize, f64)> {
        let total = f64::from(self.total);
        let target = rank * total;
        let mut below = 0.0;
        let mut found = None;
        for (i, &count) in self.pool.iter().enumerate() {
            // Cells of no width are passed over: a rank cannot fall into them.
            if count > 0 {
                let count = f64::from(count);
                found = Some((i, count / total));
                if below + count > target {
                    break;
                }
                below += count;
            }
        }
        found
    }

    /// Settles the bets on `bin`, which has this width, and learns from it. A bin's prior weight is `prior · width`.
    fn bet(&mut self, cell: usize, bins: usize, bin: usize, prior: f64, width: f64) {
        let mut sum = 0.0;
        let cells = self.pool.len();
        for (k, (memory, weights)) in self
            .memories
            .iter_mut()
            .zip(self.weights.chunks_exact_mut(bins))
            .enumerate()
        {
            let share = (memory.weight(weights[bin]) + prior * width) / (memory.sum() + prior);
            let e = share / width;
            memory.settle(e);
            memory.learn(DECAYS[k], weights, bin);
            sum += memory.value();
            if let Some(streak) = self.streaks.get_mut(k) {
                streak.settle(e, &mut self.since[k * cells..(k + 1) * cells], cell);
            }
        }
        self.evidence = sum / DECAYS.len() as f64;
    }

    /// The evidence: the mean over the four memories of `M`; 0 before the first value, infinite beyond the range of numbers. Costs no logarithm,
    /// so that it can be looked at after every value.
    ///
    /// While the stream is exchangeable, P(this reaches C within T values) ≤ T/C.
    pub fn evidence(&self) -> f64 {
        self.evidence
    }

    /// Natural logarithm of [`evidence`](Self::evidence), beyond the range of numbers also; −∞ before the first value.
    pub fn ln_evidence(&self) -> f64 {
        let ln = self.memories.map(Memory::ln);
        let top = ln.into_iter().fold(f64::NEG_INFINITY, f64::max);
        if top == f64::NEG_INFINITY {
            return top;
        }
        top + (ln.iter().map(|x| (x - top).exp()).sum::<f64>() / ln.len() as f64).ln()
    }

    /// Where the greatest term of `M` began, in the shortest memory that has this much evidence by itself: the likeliest begin of a change. Longer
    /// memories go on with a term from before it. With less evidence in each, it is that of the memory that has most: a memory without
    /// evidence has a greatest term too, but one that chance began. `None` when the longest memory leads, which is not followed.
    pub fn onset(&self, evidence: f64) -> Option<Onset<'_>> {
        let ln = self.memories.map(Memory::ln);
        let sure = self.memories.iter().position(|m| m.value() >= evidence);
        let most = || (0..ln.len()).max_by(|a, b| ln[*a].total_cmp(&ln[*b]));
        let leader = sure.or_else(most)?;
        let cells = self.pool.len();
        Some(Onset {
            rows: self.streaks.get(leader)?.rows(),
            counts: &self.since[leader * cells..(leader + 1) * cells],
        })
    }

    /// Forgets all evidence and bets, and keeps the pool: a new start after an alarm has been dealt with.
    pub fn restart(&mut self) {
        self.evidence = 0.0;
        self.memories = [Memory::NEW; DECAYS.len()];
        self.weights.fill(0.0);
        self.streaks = [Streak::NEW; FOLLOWED];
        self.since.fill(0);
    }

    /// Stops the pool from growing: after an alarm the new values must not become the reference.
    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Puts the pool back to `reference` and lets it grow again. Nothing happens when the cells are not those of the pool.
    pub fn rebase(&mut self, reference: &[u64]) {
        if reference.len() != self.pool.len() {
            return;
        }
        let divisor = divisor(reference);
        for (count, rows) in self.pool.iter_mut().zip(reference) {
            *count = rows.div_ceil(divisor) as u32;
        }
        self.total = self.pool.iter().sum();
        self.frozen = false;
    }

    fn halve(&mut self) {
        for count in &mut self.pool {
            *count = count.div_ceil(2);
        }
        self.total = self.pool.iter().sum();
    }

    /// Takes in what another detector against the same `reference` saw of other values. Pools add up: exactly, in any order, up to 2³⁰
    /// rows.
    ///
    /// Bets and evidence are those of the detector that has more of it. The two share the reference, so their evidence must not be multiplied; the
    /// higher one keeps the bound for the values of both, P ≤ t₁/C + t₂/C = T/C, whatever they have to do with each other, and is never
    /// below their mean. Nothing happens when the cells are not the same.
    pub fn merge(&mut self, other: &Self, reference: &[u64]) {
        if self.bets != other.bets
            || self.pool.len() != other.pool.len()
            || reference.len() != self.pool.len()
        {
            return;
        }
        let order = |d: &Self| (d.ln_evidence(), d.streaks.map(Streak::rows));
        if order(other).partial_cmp(&order(self)) == Some(Ordering::Greater) {
            self.evidence = other.evidence;
            self.memories = other.memories;
            self.weights.copy_from_slice(&other.weights);
            self.streaks = other.streaks;
            self.since.copy_from_slice(&other.since);
        }
        let divisor = divisor(reference);
        let both = self.pool.iter().zip(&other.pool).zip(reference);
        let joined: Vec<u64> = both
            .map(|((a, b), reference)| {
                (u64::from(*a) + u64::from(*b)).saturating_sub(reference.div_ceil(divisor))
            })
            .collect();
        self.frozen |= other.frozen;
        let frozen = self.frozen;
        self.rebase(&joined);
        self.frozen = frozen;
    }

    /// Whether a state read from elsewhere has the shape of this one.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        self.bets == other.bets
            && self.pool.len() == other.pool.len()
            && self.weights.len() == other.weights.len()
            && self.since.len() == other.since.len()
    }

    /// Bytes that one detector takes.
    pub fn size_bytes(&self) -> usize {
        size_of_val(self) + size_of_val(&*self.pool) + size_of_val(&*self.weights) + size_of_val(&*self.since)
    }
}

/// By how much rows have to be divided to leave half of the pool to values to come; 1 but for billions.
fn divisor(rows: &[u64]) -> u64 {
    let total: u128 = rows.iter().map(|n| u128::from(*n)).sum();
    let divisor = total.div_ceil(u128::from(FULL / 2)).max(1);
    u64::try_from(divisor).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Bets, ConformalDetector, FULL};
    use crate::SplitMix64;

    const CELLS: usize = 16;

    fn cell(rng: &mut SplitMix64) -> usize {
        (rng.uniform() * CELLS as f64) as usize
    }

    /// Runs of unchanged values whose evidence ever reached 10⁶. The reference has a hundred rows, and the pool stops at `stop`.
    fn reached(runs: u64, values: u64, stop: u64) -> u64 {
        let run = |seed| {
            let mut rng = SplitMix64::new(seed);
            let mut reference = [0_u64; CELLS];
            (0..100).for_each(|_| reference[cell(&mut rng)] += 1);
            let mut detector = ConformalDetector::new(&reference, Bets::Ranks);
            (0..values).any(|t| {
                if t == stop {
                    detector.freeze();
                }
                detector.update(cell(&mut rng), rng.uniform());
                detector.evidence() >= 1e6
            })
        };
        (0..runs).filter(|seed| run(*seed)).count() as u64
    }

    #[test]
    fn a_pool_that_grows_keeps_the_bound_far_beyond_the_reference() {
        // 50,000 values are 500 references. The bound is 0.05 a run; 200 runs stay below 20 with probability 0.998 if it is met.
        let growing = reached(200, 50_000, u64::MAX);
        assert!(growing < 20, "{growing} of 200");
        // What it is for: a pool of 20 references shows its own sampling error as a change.
        let stopped = reached(20, 50_000, 1_900);
        assert!(stopped > 10, "{stopped} of 20");
    }

    #[test]
    fn a_full_pool_is_halved_and_keeps_its_shares() {
        let quarter = u64::from(FULL / 8);
        let reference = [quarter, 2 * quarter, 0, quarter];
        let mut detector = ConformalDetector::new(&reference, Bets::Aligned);
        assert_eq!(u64::from(detector.total), 4 * quarter, "half full, as it came");
        for count in &mut detector.pool {
            *count *= 2;
        }
        detector.total = FULL - 1;
        detector.update(2, 0.5);
        assert_eq!(detector.pool.iter().sum::<u32>(), detector.total);
        assert_eq!(*detector.pool, [FULL / 8, FULL / 4, 1, FULL / 8]);
        // A reference beyond what fits keeps its shares, and every category that it knows.
        let huge = ConformalDetector::new(&[u64::MAX / 2, u64::MAX / 4, 1, 0], Bets::Aligned);
        assert!(huge.total <= FULL / 2 + 4);
        assert!((f64::from(huge.pool[0]) / f64::from(huge.pool[1]) - 2.0).abs() < 1e-6);
        assert_eq!(huge.pool[2..], [1, 0]);
    }

    #[test]
    fn evidence_and_its_logarithm_agree_and_the_onset_is_where_values_changed() {
        let mut rng = SplitMix64::new(5);
        let mut detector = ConformalDetector::new(&[100; CELLS], Bets::Ranks);
        assert_eq!(
            (detector.evidence(), detector.ln_evidence()),
            (0.0, f64::NEG_INFINITY)
        );
        for t in 0..1_300 {
            // From the thousandth value on, only the upper half.
            let x = cell(&mut rng);
            detector.update(if t < 1_000 { x } else { CELLS / 2 + x / 2 }, rng.uniform());
            assert!((detector.evidence().ln() - detector.ln_evidence()).abs() < 1e-9);
        }
        let onset = detector.onset(1e6).expect("a leader");
        assert!((270..=330).contains(&onset.rows), "{onset:?}");
        assert_eq!(
            onset.counts.iter().map(|n| u64::from(*n)).sum::<u64>(),
            onset.rows
        );
        for _ in 0..20_000 {
            detector.update(CELLS - 1, rng.uniform());
        }
        let onset = detector.onset(1e6).expect("a leader");
        assert!((20_270..=20_330).contains(&onset.rows), "{onset:?}");
        assert_eq!(detector.evidence(), f64::INFINITY);
        assert!(detector.ln_evidence() > 1_000.0);
        detector.restart();
        assert_eq!(
            (detector.evidence(), detector.onset(1e6).map_or(0, |o| o.rows)),
            (0.0, 0)
        );
    }
}
