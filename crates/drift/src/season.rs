//! The hour of the week: what a subject looks like at each, and how a row is compared with its own hour.
//!
//! What a window is compared with is the mixture of its hours. A stratum alone has few rows, so each is drawn towards what it belongs
//! to: the hour of the week to the hour of the day, that to all hours. How far is for the counts to say: by how much more the strata
//! differ than chance makes them, and where one differs far more than the others, by how much it does itself. The sequential
//! test takes each row's rank within its own hour, among the rows of the reference and all since: exactly uniform however few these are,
//! which a rank among estimated shares is not.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::SubjectBuilder;
use crate::binner::Binner;
use crate::profile::{SeasonalCounts, Subject};

/// Hours of a week.
pub const HOURS: usize = 168;
/// Hours of a day.
const DAY: usize = 24;
/// Most rows that the parent of a stratum counts as much as: strata that do not differ at all.
const MAX_PARENT_ROWS: f64 = 1e6;
/// Fewest rows that it counts as much as: strata that have nothing in common. One without rows still needs shares.
const MIN_PARENT_ROWS: f64 = 1.0;
/// Standard deviations of a stratum's statistic above its mean from which the stratum is judged by itself.
const FAR: f64 = 3.0;
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

/// Rows that a parent counts as much as for each of its strata, given their rows and the parents' shares, stratum `i` belonging to
/// parent `i mod parents`.
///
/// With strata drawn from a Dirichlet law of concentration `k` around their parent, Pearson's statistic of a stratum of `n` rows is on average
/// `(B − 1)(1 + (n − 1)/(k + 1))` (Mosimann 1962; Brier 1980, "Analysis of contingency tables under cluster sampling"). The mean over the
/// strata gives `k`. A stratum that is far from that law, such as the hour of a nightly batch, has a `k` of its own from its own
/// statistic: drawn as much as the others, it would be expected to have what only they have.
fn parent_rows(strata: &[Vec<f64>], parents: &[Vec<f64>]) -> Vec<f64> {
    let pearson: Vec<Pearson> = strata
        .iter()
        .zip(parents.iter().cycle())
        .map(|(stratum, parent)| Pearson::new(stratum, parent))
        .collect();
    let (mut statistic, mut freedom, mut rows, mut used) = (0.0, 0.0, 0.0, 0.0);
    let mut live = vec![false; parents.len()];
    for (i, own) in pearson.iter().enumerate().filter(|(_, own)| own.rows > 0.0) {
        statistic += own.statistic;
        // The shares of each parent come from its own strata: one of them is not free.
        freedom += if std::mem::replace(&mut live[i % parents.len()], true) {
            own.freedom
        } else {
            0.0
        };
        rows += own.rows;
        used += 1.0;
    }
    let of_all = concentration(statistic, freedom, rows / used);
    let of_stratum = |own: &Pearson| {
        let spread = 1.0 + (own.rows - 1.0) / (of_all + 1.0);
        let usual = own.freedom + FAR * (2.0 * own.freedom).sqrt();
        if own.statistic > spread.max(1.0) * usual {
            concentration(own.statistic, own.freedom, own.rows).min(of_all)
        } else {
            of_all
        }
    };
    pearson.iter().map(of_stratum).collect()
}

/// Pearson's statistic of a stratum against the shares of its parent.
struct Pearson {
    statistic: f64,
    /// Bins that the parent has rows in, less one.
    freedom: f64,
    rows: f64,
}

impl Pearson {
    fn new(stratum: &[f64], parent: &[f64]) -> Self {
        let rows: f64 = stratum.iter().sum();
        let (mut statistic, mut bins) = (0.0, 0.0);
        for (count, share) in stratum.iter().zip(parent).filter(|(_, share)| **share > 0.0) {
            bins += 1.0;
            if rows > 0.0 {
                statistic += (count - rows * share).powi(2) / (rows * share);
            }
        }
        Self {
            statistic,
            freedom: bins - 1.0,
            rows,
        }
    }
}

/// The `k` at which strata of `rows` rows have this statistic on average.
fn concentration(statistic: f64, freedom: f64, rows: f64) -> f64 {
    let spare = rows - 1.0;
    // Also where there are no rows at all.
    if !(freedom > 0.0 && spare > 0.0) {
        return MAX_PARENT_ROWS;
    }
    let spread = (statistic / freedom - 1.0) / spare;
    if spread <= 0.0 {
        return MAX_PARENT_ROWS;
    }
    (1.0 / spread - 1.0).clamp(MIN_PARENT_ROWS, MAX_PARENT_ROWS)
}

/// Shares of `counts`, with `rows` more that are spread as `parent`.
fn shrunk(counts: &[f64], parent: &[f64], rows: f64) -> Vec<f64> {
    let total = counts.iter().sum::<f64>() + rows;
    counts
        .iter()
        .zip(parent)
        .map(|(n, share)| (n + rows * share) / total)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{CELLS, FULL, HOURS, HourOfWeek, RANK_CELLS, Season, SeasonBuilder, Strata};
    use crate::comparison::compare;
    use crate::profile::{Datatype, Kind};
    use crate::sequential::{Bets, ConformalDetector};
    use crate::stats::binned::Pair;
    use crate::{SplitMix64, SubjectBuilder};

    fn normal(rng: &mut SplitMix64) -> f64 {
        (0..12).map(|_| rng.uniform()).sum::<f64>() - 6.0
    }

    /// A value that swings by three standard deviations within a day.
    fn value(rng: &mut SplitMix64, hour: usize) -> f64 {
        3.0 * (std::f64::consts::TAU * (hour % 24) as f64 / 24.0).sin() + normal(rng)
    }

    fn builder() -> SubjectBuilder {
        SubjectBuilder::new("load", "load", 0, Datatype::Fp64, Kind::Numeric)
    }

    fn filled(weeks: usize, per_hour: usize) -> SeasonBuilder {
        let mut season = SeasonBuilder::new(builder());
        let mut rng = SplitMix64::new(11);
        for hour in (0..weeks * HOURS).flat_map(|hour| std::iter::repeat_n(hour % HOURS, per_hour)) {
            let x = value(&mut rng, hour);
            season
                .hour(HourOfWeek::new(hour).expect("an hour"))
                .push_number(x);
        }
        season
    }

    #[test]
    fn hours_start_on_monday() {
        let hour = HourOfWeek::at_unix_ms(0);
        assert_eq!(hour.index(), 72, "the first of January 1970, a Thursday");
        assert_eq!(HourOfWeek::at_unix_ms(-1).index(), 71);
        assert_eq!(HourOfWeek::at_unix_ms(4 * 86_400_000).index(), 0);
        // Monday, the 30th of November 2026.
        assert_eq!(HourOfWeek::at_unix_ms(1_795_996_800_000).index(), 0);
        let names = [0, 33, 167].map(|index| HourOfWeek(index).to_string());
        assert_eq!(names, ["Mon 00:00", "Tue 09:00", "Sun 23:00"]);
        assert_eq!(
            (HourOfWeek::new(167).map(HourOfWeek::index), HourOfWeek::new(168)),
            (Some(167), None)
        );
    }

    #[test]
    fn counts_per_hour_sum_to_those_of_the_subject() {
        let mut season = filled(2, 3);
        season.hour(HourOfWeek(5)).push_missing();
        let mut more = SeasonBuilder::new(builder());
        more.hour(HourOfWeek(7)).push_number(100.0);
        season.merge(more);
        let (subject, counts) = season.finish();
        let sums: Vec<u64> = (0..subject.reference_counts().len())
            .map(|bin| counts.counts.iter().map(|hour| hour[bin]).sum())
            .collect();
        assert_eq!(sums, subject.reference_counts());
        assert_eq!(counts.counts[5].last(), Some(&1));

        let mut texts = SeasonBuilder::new(SubjectBuilder::new(
            "t",
            "t",
            0,
            Datatype::Bytes,
            Kind::Categorical,
        ));
        for i in 0..900_u32 {
            let hour = HourOfWeek((i % 168) as u8);
            texts.hour(hour).push_text(if i % 3 == 0 { "a" } else { "b" });
        }
        let (subject, counts) = texts.finish();
        assert_eq!(
            counts.counts.iter().map(|hour| hour[0]).sum::<u64>(),
            600,
            "b is the more frequent"
        );
        assert_eq!(subject.count, 900);
    }

    /// A feature that tells the hour: no hour of the day is like another, so that none says anything about one without rows.
    #[test]
    fn hours_without_rows_are_compared_with_all_rows_and_hide_no_others() {
        let mut season = SeasonBuilder::new(builder());
        for hour in (0..HOURS).filter(|hour| (8..20).contains(&(hour % 24))) {
            let at = HourOfWeek::new(hour).expect("an hour");
            for _ in 0..40 {
                season.hour(at).push_number((hour % 24) as f64);
            }
        }
        let (subject, counts) = season.finish();
        let season = Season::new(&counts, subject.reference_counts().len()).expect("rows");
        let window = |rows: &[(usize, u32)]| {
            let mut hours = [0; HOURS];
            for (hour, rows) in rows {
                hours[*hour] = *rows;
            }
            season.expected(&hours).expect("a window with rows")
        };
        let night = window(&[(3, 500)]);
        assert!(
            night.iter().sum::<u64>() <= 2,
            "nothing is known of the night: {night:?}"
        );
        let morning: u64 = window(&[(9, 500)]).iter().sum();
        assert!(morning >= 40, "the rows of the hour: {morning}");
        let mixed: u64 = window(&[(9, 490), (3, 10)]).iter().sum();
        assert!(mixed >= 40, "ten rows of the night hide the others: {mixed}");
    }

    /// A nightly batch: three hours of the day have values of their own, all others are alike.
    #[test]
    fn an_hour_unlike_all_others_is_expected_to_have_its_own_rows() {
        let mut season = SeasonBuilder::new(builder());
        let mut rng = SplitMix64::new(3);
        for hour in (0..2 * HOURS).map(|hour| hour % HOURS) {
            let range = if hour % 24 < 3 { 12.0 } else { 72.0 };
            let at = HourOfWeek::new(hour).expect("an hour");
            for _ in 0..30 {
                season.hour(at).push_number(rng.uniform() * range);
            }
        }
        let (subject, counts) = season.finish();
        let season = Season::new(&counts, subject.reference_counts().len()).expect("rows");
        let edges = &subject.numeric.as_ref().expect("numeric").edges;
        let beyond = edges.partition_point(|edge| *edge < 12.0) + 1;
        let mut hours = [0; HOURS];
        hours[25] = 500;
        let expected = season.expected(&hours).expect("rows");
        let strange: u64 = expected[beyond..].iter().sum();
        let all: u64 = expected.iter().sum();
        assert!(all > 300, "the rows of the hour of the day: {expected:?}");
        assert!(
            strange * 50 < all,
            "{strange} of {all} rows have values of other hours: {expected:?}"
        );
    }

    /// Largest evidence and largest effect over `weeks` weeks of 30 rows an hour, with the season and without.
    fn run(shift: f64, weeks: usize) -> [(f64, f64); 2] {
        let (subject, counts) = filled(4, 10).finish();
        let reference = subject.reference_counts();
        let season = Season::new(&counts, reference.len()).expect("rows");
        let mut strata = season.strata(&counts);
        let edges = subject.numeric.as_ref().expect("numbers").edges.clone();
        let mut seasonal = ConformalDetector::new(&season.rank_reference(), Bets::Ranks);
        let mut plain = ConformalDetector::new(&reference, Bets::Ranks);
        let mut rng = SplitMix64::new(3);
        let mut found = [(f64::NEG_INFINITY, 0.0_f64); 2];
        let (mut window, mut hours) = (vec![0_u64; reference.len()], [0_u32; HOURS]);
        for hour in (0..weeks * HOURS).flat_map(|hour| std::iter::repeat_n(hour % HOURS, 30)) {
            let x = value(&mut rng, hour) + shift;
            let bin = edges.partition_point(|e| *e <= x);
            let cell = season.rank_cell(&mut strata, HourOfWeek(hour as u8), bin, rng.uniform(), true);
            seasonal.update(cell, rng.uniform());
            plain.update(bin, rng.uniform());
            window[bin] += 1;
            hours[hour] += 1;
            found[0].0 = found[0].0.max(seasonal.ln_evidence());
            found[1].0 = found[1].0.max(plain.ln_evidence());
            if window.iter().sum::<u64>() == 500 {
                let expected = season.expected(&hours).expect("rows");
                for (found, against) in found.iter_mut().zip([&expected, &reference]) {
                    let compared = compare(against, &window, true, 1.0, 1e-4)
                        .expect("rows")
                        .statistics;
                    found.1 = found.1.max(compared.effect - 2.0 * compared.effect_error);
                }
                window.fill(0);
                hours = [0; HOURS];
            }
        }
        found
    }

    #[test]
    fn a_daily_cycle_raises_nothing_and_a_shift_within_it_does() {
        let alarm = 1e6_f64.ln();
        let [seasonal, plain] = run(0.0, 3);
        println!("unchanged: seasonal {seasonal:?}, plain {plain:?}");
        assert!(seasonal.0 < alarm && seasonal.1 < 0.02, "{seasonal:?}");
        assert!(
            plain.0 > alarm && plain.1 > 0.1,
            "without strata the cycle itself is drift: {plain:?}"
        );
        let [seasonal, _] = run(0.7, 1);
        println!("shifted: seasonal {seasonal:?}");
        assert!(seasonal.0 > alarm && seasonal.1 > 0.1, "{seasonal:?}");
    }

    #[test]
    fn an_hour_is_drawn_to_its_day_as_far_as_weekdays_are_alike() {
        let (_, counts) = filled(4, 10).finish();
        let bins = counts.counts[0].len();
        let season = Season::new(&counts, bins).expect("rows");
        // Every day of this world is like the others: 40 rows of an hour are worth the 280 of all seven.
        assert!(
            season.worth.iter().all(|worth| *worth > 150.0),
            "{:?}",
            season.worth
        );
        // Two values that depend on the weekday alone: what other days say of an hour is worth little.
        let mut flags = SeasonBuilder::new(SubjectBuilder::new("f", "f", 0, Datatype::Bool, Kind::Boolean));
        let mut rng = SplitMix64::new(6);
        for hour in (0..HOURS).flat_map(|hour| std::iter::repeat_n(hour, 40)) {
            let share = if hour / 24 < 5 { 0.6 } else { 0.1 };
            flags
                .hour(HourOfWeek(hour as u8))
                .push_boolean(rng.uniform() < share);
        }
        let (_, counts) = flags.finish();
        let season = Season::new(&counts, 3).expect("rows");
        assert!(
            season.worth.iter().all(|worth| *worth < 55.0),
            "{:?}",
            season.worth
        );
        let sunday: f64 = (144..168)
            .map(|hour| season.limits(hour, 1).1 - season.limits(hour, 1).0)
            .sum();
        assert!((sunday / 24.0 - 0.1).abs() < 0.05, "{sunday}");

        assert_eq!(season.rank_reference().iter().sum::<u64>(), 40 * 168);
        assert_eq!(season.expected(&[0; HOURS]), None);
        let mut none = counts.clone();
        none.counts.iter_mut().for_each(|hour| hour.fill(0));
        assert_eq!(Season::new(&none, 3), None);
    }

    #[test]
    fn ranks_within_an_hour_are_uniform_however_few_rows_it_has() {
        // Three rows of reference an hour: shares that were estimated from them would be far off.
        let (subject, counts) = filled(1, 3).finish();
        let season = Season::new(&counts, subject.reference_counts().len()).expect("rows");
        let edges = &subject.numeric.as_ref().expect("numbers").edges;
        let (mut rng, mut found) = (SplitMix64::new(5), [0_u64; RANK_CELLS]);
        for seed in 0..200 {
            // Rows of a new reference from the same world, then those to rank.
            let mut draws = SplitMix64::new(100 + seed);
            let mut strata = Strata {
                pool: vec![0; HOURS * CELLS].into(),
            };
            for i in 0..13 {
                let bin = edges.partition_point(|e| *e <= value(&mut draws, 6));
                let cell = season.rank_cell(&mut strata, HourOfWeek(6), bin, rng.uniform(), true);
                if i >= 3 {
                    found[cell] += 1;
                }
            }
        }
        let even = [2000 / RANK_CELLS as u64; RANK_CELLS];
        let test = Pair::new(&even.map(|n| n * 1000), &found)
            .expect("rows")
            .chi_square()
            .expect("cells");
        assert!(test.p_value > 1e-3, "{found:?} {test:?}");
    }

    #[test]
    fn a_full_hour_is_halved_and_a_held_one_does_not_grow() {
        let (subject, counts) = filled(1, 3).finish();
        let season = Season::new(&counts, subject.reference_counts().len()).expect("rows");
        let mut strata = season.strata(&counts);
        let hour = HourOfWeek(9);
        let held = strata.clone();
        season.rank_cell(&mut strata, hour, 1, 0.5, false);
        assert_eq!(strata, held);
        for i in 0..100_000 {
            season.rank_cell(&mut strata, hour, 1 + i % 2, 0.5, true);
        }
        let rows: u32 = strata.pool[9 * CELLS..10 * CELLS]
            .iter()
            .map(|n| u32::from(*n))
            .sum();
        assert!(rows > FULL / 3 && rows <= FULL + 1, "{rows}");
        assert_eq!(strata.pool[..9 * CELLS], held.pool[..9 * CELLS]);
    }

    #[test]
    fn bins_beyond_the_watched_ones_share_the_last_but_one() {
        let mut texts = SeasonBuilder::new(SubjectBuilder::new(
            "t",
            "t",
            0,
            Datatype::Bytes,
            Kind::Categorical,
        ));
        for i in 0..60_000_u32 {
            let hour = texts.hour(HourOfWeek((i % 168) as u8));
            if i % 10 == 0 {
                hour.push_missing();
            } else {
                hour.push_text(&(i % 250).to_string());
            }
        }
        let (subject, counts) = texts.finish();
        assert_eq!(subject.reference_counts().len(), 227);
        let season = Season::new(&counts, 44).expect("rows");
        let expected = season.expected(&[1; HOURS]).expect("rows");
        assert_eq!(expected.len(), 44);
        let rows = expected.iter().sum::<u64>();
        let share = |bin: usize| expected[bin] as f64 / rows as f64;
        assert!((share(43) - 0.1).abs() < 0.01 && (share(42) - 0.9 * 183.0 / 225.0).abs() < 0.01);
        let bytes = season.heap_bytes() + season.strata(&counts).heap_bytes();
        assert!(
            bytes < 22 * 1024,
            "with 2 KiB of the subject's own it is 24: {bytes}"
        );
    }
}
