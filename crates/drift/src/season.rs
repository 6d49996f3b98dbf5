//! The hour of the week: what a subject looks like at each, and how a row is compared with its own hour.
//!
//! What a window is compared with is the mixture of its hours. A stratum alone has few rows, so each is drawn towards what it belongs
//! to: the hour of the week to the hour of the day, that to all hours. How far is for the counts to say: by how much more the strata
//! differ than chance makes them, and where one differs far more than the others, by how much it does itself. The sequential
//! test takes each row's rank within its own hour, among the rows of the reference and all since: exactly uniform however few these are,
//! which a rank among estimated shares is not.

mod parents;

use std::fmt;

use parents::{parent_rows, shrunk};
use serde::{Deserialize, Serialize};

use crate::SubjectBuilder;
use crate::binner::Binner;
use crate::profile::{SeasonalCounts, Subject};

/// Hours of a week.
pub const HOURS: usize = 168;
/// Hours of a day.
const DAY: usize = 24;
/// The share that 1 in a table stands for is one of this many.
const SHARES: f64 = u16::MAX as f64;
/// Equal cells of the seasonal rank that the sequential test works on.
const RANK_CELLS: usize = 32;
/// Most cells that an hour's rows are ranked in.
const CELLS: usize = 18;
/// Rows of an hour at which its pool is halved; the reference takes up half of them at most.
const FULL: u32 = 1 << 15;

/// An hour of the week in UTC; 0 starts on Monday at midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HourOfWeek(u8);

impl HourOfWeek {
    /// The hour at this time, in milliseconds since 1970.
    pub fn at_unix_ms(unix_ms: i64) -> Self {
        // The first of January 1970 was a Thursday.
        const THURSDAY: i64 = 3 * DAY as i64;
        let hours = unix_ms.div_euclid(3_600_000) + THURSDAY;
        Self(hours.rem_euclid(HOURS as i64) as u8)
    }

    /// The hour with this index; `None` from 168 on.
    pub fn new(index: usize) -> Option<Self> {
        (index < HOURS).then_some(Self(index as u8))
    }

    /// Its index, below 168.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// `Mon 09:00`.
impl fmt::Display for HourOfWeek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; HOURS / DAY] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        write!(f, "{} {:02}:00", DAYS[self.index() / DAY], self.index() % DAY)
    }
}

/// Collects the values of one column with their hours, for a subject that has a season.
///
/// One [`SubjectBuilder`] per hour: the subject is that of all of them merged, the counts are theirs in its bins.
#[derive(Clone, Debug)]
pub struct SeasonBuilder {
    without_hour: SubjectBuilder,
    hours: Vec<SubjectBuilder>,
}

impl SeasonBuilder {
    /// A column as `empty` describes it.
    pub fn new(empty: SubjectBuilder) -> Self {
        let hours = vec![empty.emptied(); HOURS];
        Self {
            without_hour: empty,
            hours,
        }
    }

    /// The builder of the rows whose hour is not known: they count for the subject alone.
    pub fn without_hour(&mut self) -> &mut SubjectBuilder {
        &mut self.without_hour
    }

    /// The builder of the rows of an hour.
    pub fn hour(&mut self, hour: HourOfWeek) -> &mut SubjectBuilder {
        &mut self.hours[hour.index()]
    }

    /// Adds everything that `other` saw of the same column.
    pub fn merge(&mut self, other: Self) {
        self.without_hour.merge(other.without_hour);
        for (own, hour) in self.hours.iter_mut().zip(other.hours) {
            own.merge(hour);
        }
    }

    /// The subject of all rows, and its counts per hour.
    pub fn finish(self) -> (Subject, SeasonalCounts) {
        let mut all = self.without_hour;
        for hour in &self.hours {
            all.merge(hour.clone());
        }
        let subject = all.finish();
        let binner = Binner::new(&subject);
        let counts = self
            .hours
            .iter()
            .map(|hour| hour.tally(&subject, &binner))
            .collect();
        let counts = SeasonalCounts {
            subject: subject.name.clone(),
            counts,
        };
        (subject, counts)
    }
}

/// What a subject looks like at each hour of the week, ready to compare with.
///
/// A table of cumulative shares of two bytes each: 15 KiB with 44 bins.
#[derive(Clone, Debug, PartialEq)]
struct Season {
    /// Share of an hour's rows up to and with each bin, shape `[168, bins]`, in units of 1/65535.
    up_to: Box<[u16]>,
    /// Rows that an hour's shares are known as well as from.
    worth: Box<[f32]>,
    /// Reference rows.
    rows: u64,
    bins: usize,
    /// The cell of each bin in the [`Strata`].
    cells: Box<[u8]>,
}

/// A season with what changes as rows arrive.
#[derive(Clone, Debug)]
pub(crate) struct Seasonal {
    season: Season,
    pub(crate) state: SeasonState,
}

/// What of a season changes as rows arrive; all of it is in a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SeasonState {
    /// Rows of the window per hour of the week.
    hours: Box<[u32]>,
    strata: Strata,
}

/// The rows of each hour of the week, those of the reference and all since.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Strata {
    /// Shape `[168, 18]`.
    pool: Box<[u16]>,
}

impl Season {
    /// The season of a subject that is watched in `bins` bins and has these counts per hour, shape `[168, bins of the profile]`; `None`
    /// without rows in them. Bins of the profile beyond the last but one share that one; the last is for missing values.
    fn new(counts: &SeasonalCounts, bins: usize) -> Option<Self> {
        let total: u64 = counts.counts.iter().flatten().sum();
        if total == 0 || counts.counts.len() != HOURS || bins < 2 {
            return None;
        }
        let as_numbers = |rows: Vec<u64>| rows.into_iter().map(|n| n as f64).collect();
        let hours: Vec<Vec<f64>> = counts
            .counts
            .iter()
            .map(|hour| as_numbers(pool_rows(hour, bins)))
            .collect();
        let sum = |hours: &mut dyn Iterator<Item = &Vec<f64>>| {
            hours.fold(vec![0.0; bins], |mut sum, hour| {
                for (s, n) in sum.iter_mut().zip(hour) {
                    *s += n;
                }
                sum
            })
        };
        let day_rows: Vec<Vec<f64>> = (0..DAY)
            .map(|hour| sum(&mut hours.iter().skip(hour).step_by(DAY)))
            .collect();
        let all = shrunk(&sum(&mut hours.iter()), &vec![0.0; bins], 0.0);
        let of_all = parent_rows(&day_rows, std::slice::from_ref(&all));
        let days: Vec<Vec<f64>> = day_rows
            .iter()
            .zip(&of_all)
            .map(|(rows, of_all)| shrunk(rows, &all, *of_all))
            .collect();
        let of_day = parent_rows(&hours, &days);
        let (mut up_to, mut worth) = (Vec::with_capacity(HOURS * bins), Vec::with_capacity(HOURS));
        let parents = days.iter().zip(&day_rows).zip(&of_all).cycle();
        for ((hour, of_day), ((parent, day), of_all)) in hours.iter().zip(&of_day).zip(parents) {
            let mut below = 0.0;
            up_to.extend(shrunk(hour, parent, *of_day).iter().map(|share| {
                below += share;
                (below * SHARES).round().min(SHARES) as u16
            }));
            let of_parent = day.iter().sum::<f64>() + of_all.min(total as f64);
            worth.push((hour.iter().sum::<f64>() + of_day.min(of_parent)) as f32);
        }
        Some(Self {
            up_to: up_to.into(),
            worth: worth.into(),
            rows: total,
            bins,
            cells: cells(&all),
        })
    }

    /// The rows of the reference, `counts` as in [`new`](Self::new), to begin with.
    fn strata(&self, counts: &SeasonalCounts) -> Strata {
        let mut pool = vec![0; HOURS * CELLS];
        for (hour, strata) in counts.counts.iter().zip(pool.chunks_exact_mut(CELLS)) {
            let rows = pool_rows(hour, self.bins);
            // A pool has room for so many; where there are more, the shares are what counts.
            let divisor = (rows.iter().sum::<u64>() * 2).div_ceil(u64::from(FULL)).max(1);
            for (n, cell) in rows.iter().zip(&self.cells) {
                if let Some(count) = strata.get_mut(usize::from(*cell)) {
                    *count += n.div_ceil(divisor) as u16;
                }
            }
        }
        Strata { pool: pool.into() }
    }

    /// The cell, of [`RANK_CELLS`] equal ones, of a row's rank among the rows of its hour: any as likely as another while the rows of the
    /// hour are exchangeable. `u`, uniform in `[0, 1)`, breaks ties. The row joins its hour unless that `grows` no more.
    fn rank_cell(&self, strata: &mut Strata, hour: HourOfWeek, bin: usize, u: f64, grows: bool) -> usize {
        let cell = self.cells.get(bin).map_or(0, |cell| usize::from(*cell));
        let rank = strata.rank(hour, cell, u, grows);
        ((rank * RANK_CELLS as f64) as usize).min(RANK_CELLS - 1)
    }

    /// The pool that the ranks of the reference's own rows make: evenly spread, as many as there are rows.
    fn rank_reference(&self) -> Vec<u64> {
        let up_to = |cell: u64| self.rows * cell / RANK_CELLS as u64;
        (0..RANK_CELLS as u64)
            .map(|cell| up_to(cell + 1) - up_to(cell))
            .collect()
    }

    /// Reference rows per bin as a window with `hours` rows per hour would have them, shape `[168]`; `None` for a window without
    /// rows.
    ///
    /// Their number is what the strata are worth together, `1 / Σ (wₕ² / nₕ)` with the window's weights `w` and the rows `n` that each is known as
    /// well as from (Kish 1965), so that few rows of an hour are not taken for many.
    fn expected(&self, hours: &[u32]) -> Option<Vec<u64>> {
        let total: f64 = hours.iter().map(|n| f64::from(*n)).sum();
        if total <= 0.0 {
            return None;
        }
        let mut doubt = 0.0;
        let mut shares = vec![0.0; self.bins];
        for (hour, (in_window, worth)) in hours.iter().zip(&self.worth).enumerate() {
            let weight = f64::from(*in_window) / total;
            if weight == 0.0 {
                continue;
            }
            doubt += weight * weight / f64::from(*worth);
            for (bin, share) in shares.iter_mut().enumerate() {
                let (below, to) = self.limits(hour, bin);
                *share += weight * (to - below);
            }
        }
        let worth = (1.0 / doubt).min(self.rows as f64);
        Some(
            shares
                .into_iter()
                .map(|share| (worth * share).round() as u64)
                .collect(),
        )
    }

    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.up_to) + size_of_val(&*self.worth) + size_of_val(&*self.cells)
    }

    /// Shares below a bin, and up to and with it.
    fn limits(&self, hour: usize, bin: usize) -> (f64, f64) {
        let at = hour * self.bins + bin;
        let share = |i: usize| self.up_to.get(i).map_or(0.0, |n| f64::from(*n) / SHARES);
        (if bin > 0 { share(at - 1) } else { 0.0 }, share(at))
    }
}

impl Seasonal {
    /// As [`Season::new`].
    pub(crate) fn new(counts: &SeasonalCounts, bins: usize) -> Option<Self> {
        let season = Season::new(counts, bins)?;
        let state = SeasonState {
            hours: vec![0; HOURS].into(),
            strata: season.strata(counts),
        };
        Some(Self { season, state })
    }

    /// The pool that the sequential test begins with.
    pub(crate) fn rank_reference(&self) -> Vec<u64> {
        self.season.rank_reference()
    }

    /// Counts a row, and returns the cell of its rank; as [`Season::rank_cell`].
    pub(crate) fn observe(&mut self, hour: HourOfWeek, bin: usize, u: f64, grows: bool) -> usize {
        let SeasonState { hours, strata } = &mut self.state;
        if let Some(rows) = hours.get_mut(hour.index()) {
            *rows += 1;
        }
        self.season.rank_cell(strata, hour, bin, u, grows)
    }

    /// Reference rows per bin for the hours of the window; `None` while it has no rows.
    pub(crate) fn expected(&self) -> Option<Vec<u64>> {
        self.season.expected(&self.state.hours)
    }

    /// Begins a new window.
    pub(crate) fn close_window(&mut self) {
        self.state.hours.fill(0);
    }

    /// Takes in what another replica saw.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (rows, other) in self.state.hours.iter_mut().zip(&other.state.hours) {
            *rows += other;
        }
        self.state.strata.merge(&other.state.strata);
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.season.heap_bytes() + self.state.strata.heap_bytes() + size_of_val(&*self.state.hours)
    }
}

impl SeasonState {
    /// Whether a state read from elsewhere has the shape of this one.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        self.hours.len() == other.hours.len() && self.strata.pool.len() == other.strata.pool.len()
    }
}

impl Strata {
    /// The rank of a row in `cell` among those of its hour, the row itself counted, in `[0, 1]`.
    fn rank(&mut self, hour: HourOfWeek, cell: usize, u: f64, grows: bool) -> f64 {
        let from = hour.index() * CELLS;
        let Some(pool) = self.pool.get_mut(from..from + CELLS) else {
            return u;
        };
        let (mut below, mut all, mut inside) = (0_u32, 1_u32, 1_u32);
        for (i, n) in pool.iter().enumerate() {
            let n = u32::from(*n);
            all += n;
            below += if i < cell { n } else { 0 };
            inside += if i == cell { n } else { 0 };
        }
        if let Some(count) = pool.get_mut(cell).filter(|_| grows) {
            *count += 1;
            if all >= FULL {
                for count in pool {
                    *count = count.div_ceil(2);
                }
            }
        }
        (f64::from(below) + u * f64::from(inside)) / f64::from(all)
    }

    /// Takes in what another replica saw: of each hour the fuller pool. Both began with the same reference, whose rows must not count twice, and
    /// ranks are uniform in either.
    fn merge(&mut self, other: &Self) {
        let hours = self
            .pool
            .chunks_exact_mut(CELLS)
            .zip(other.pool.chunks_exact(CELLS));
        let rows = |pool: &[u16]| pool.iter().map(|n| u32::from(*n)).sum::<u32>();
        for (own, other) in hours.filter(|(own, other)| rows(own) < rows(other)) {
            own.copy_from_slice(other);
        }
    }

    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.pool)
    }
}

/// The rows of an hour in `bins` bins.
fn pool_rows(hour: &[u64], bins: usize) -> Vec<u64> {
    let mut pooled = vec![0; bins];
    for (i, n) in hour.iter().enumerate() {
        let bin = if i + 1 == hour.len() {
            bins - 1
        } else {
            i.min(bins - 2)
        };
        if let Some(sum) = pooled.get_mut(bin) {
            *sum += *n;
        }
    }
    pooled
}

/// At most [`CELLS`] cells for bins with these shares: neighbours share one until it has its part, missing values have their own.
fn cells(shares: &[f64]) -> Box<[u8]> {
    let last = shares.len() - 1;
    if shares.len() <= CELLS {
        return (0..shares.len()).map(|bin| bin as u8).collect();
    }
    let part = (1.0 - shares[last]) / (CELLS - 1) as f64;
    let mut below = 0.0;
    let mut cells: Vec<u8> = Vec::with_capacity(shares.len());
    for share in &shares[..last] {
        // By the middle of the bin, so that a large one is not put to what lies before it.
        let middle: f64 = below + 0.5 * share;
        cells.push(if part > 0.0 {
            ((middle / part) as usize).min(CELLS - 2) as u8
        } else {
            0
        });
        below += share;
    }
    cells.push(CELLS as u8 - 1);
    cells.into()
}

#[cfg(test)]
mod tests;
