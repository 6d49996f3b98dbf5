//! The hour of the week: what a subject looks like at each, and how a row is compared with its own hour.
//!
//! A stratum alone has few rows, so each is drawn towards what it belongs to: the hour of the week to the hour of the day, that to
//! all hours (Dirichlet weights, worth 32 rows each). With one week of reference the hours of the day decide; the hours of the week take
//! over as rows come in.

use crate::SubjectBuilder;
use crate::binner::Binner;
use crate::profile::{SeasonalCounts, Subject};

/// Hours of a week.
pub const HOURS: usize = 168;
/// Hours of a day.
const DAY: usize = 24;
/// Rows that the parent of a stratum counts as much as.
const PARENT_ROWS: f64 = 32.0;
/// Most cells of a season: bins beyond share the last ones, so that a subject takes no more than 24 KiB.
const MAX_CELLS: usize = 64;
/// The share that 1 in a table stands for is one of this many.
const SHARES: f64 = u16::MAX as f64;
/// Equal cells of the seasonal rank that the sequential test works on.
pub const RANK_CELLS: usize = 32;

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

/// Collects the values of one column with their hours, for a subject that has a season.
///
/// One [`SubjectBuilder`] per hour: the subject is that of all of them merged, the counts are theirs in its bins.
#[derive(Clone, Debug)]
pub struct SeasonBuilder {
    empty: SubjectBuilder,
    hours: Vec<SubjectBuilder>,
}

impl SeasonBuilder {
    /// A column as `empty` describes it; what that has seen already is of no hour, and counts for the subject alone.
    pub fn new(empty: SubjectBuilder) -> Self {
        let hours = vec![empty.emptied(); HOURS];
        Self { empty, hours }
    }

    /// The builder of the rows of an hour.
    pub fn hour(&mut self, hour: HourOfWeek) -> &mut SubjectBuilder {
        &mut self.hours[hour.index()]
    }

    /// Adds everything that `other` saw of the same column.
    pub fn merge(&mut self, other: Self) {
        self.empty.merge(other.empty);
        for (own, hour) in self.hours.iter_mut().zip(other.hours) {
            own.merge(hour);
        }
    }

    /// The subject of all rows, and its counts per hour.
    pub fn finish(self) -> (Subject, SeasonalCounts) {
        let mut all = self.empty;
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
/// A table of cumulative shares of two bytes each: at most 22 KiB.
#[derive(Clone, Debug, PartialEq)]
pub struct Season {
    /// Cell of each bin.
    cells: Box<[u8]>,
    /// Share of an hour's rows up to and with each cell, shape `[168, cells]`, in units of 1/65535.
    up_to: Box<[u16]>,
    /// Reference rows of each hour.
    rows: Box<[u32]>,
    width: usize,
}

impl Season {
    /// The season of a subject with these counts per hour, shape `[168, bins]` as a valid profile has them; `None` without rows in
    /// them.
    pub fn new(counts: &SeasonalCounts) -> Option<Self> {
        let bins = counts.counts.first().map_or(0, Vec::len);
        let total: u64 = counts.counts.iter().flatten().sum();
        if total == 0 || counts.counts.len() != HOURS {
            return None;
        }
        let cells = cells(bins);
        let width = cells.last().map_or(0, |cell| usize::from(*cell) + 1);
        let pooled: Vec<Vec<f64>> = counts
            .counts
            .iter()
            .map(|hour| pool(hour, &cells, width))
            .collect();
        let sum = |hours: &mut dyn Iterator<Item = &Vec<f64>>| {
            hours.fold(vec![0.0; width], |mut sum, hour| {
                for (s, n) in sum.iter_mut().zip(hour) {
                    *s += n;
                }
                sum
            })
        };
        let all = shrunk(&sum(&mut pooled.iter()), &vec![1.0 / width as f64; width], 0.0);
        let days: Vec<Vec<f64>> = (0..DAY)
            .map(|hour| {
                shrunk(
                    &sum(&mut pooled.iter().skip(hour).step_by(DAY)),
                    &all,
                    PARENT_ROWS,
                )
            })
            .collect();
        let mut up_to = Vec::with_capacity(HOURS * width);
        for (hour, counts) in pooled.iter().enumerate() {
            let parent = days.get(hour % DAY).unwrap_or(&all);
            let mut below = 0.0;
            up_to.extend(shrunk(counts, parent, PARENT_ROWS).iter().map(|share| {
                below += share;
                (below * SHARES).round().min(SHARES) as u16
            }));
        }
        let rows = |hour: &Vec<u64>| u32::try_from(hour.iter().sum::<u64>()).unwrap_or(u32::MAX);
        Some(Self {
            cells: cells.into(),
            up_to: up_to.into(),
            rows: counts.counts.iter().map(rows).collect(),
            width,
        })
    }

    /// The rank of a row in `bin` among the rows of its hour, in `[0, 1]`: uniform while the season goes on as in the reference.
    /// `u`, uniform in `[0, 1)`, breaks ties.
    pub fn rank(&self, hour: HourOfWeek, bin: usize, u: f64) -> f64 {
        let cell = self.cells.get(bin).map_or(0, |cell| usize::from(*cell));
        let (below, to) = self.limits(hour.index(), cell);
        below + u * (to - below)
    }

    /// The cell of a rank among [`RANK_CELLS`] equal ones.
    pub fn rank_cell(rank: f64) -> usize {
        ((rank * RANK_CELLS as f64) as usize).min(RANK_CELLS - 1)
    }

    /// The pool that the ranks of the reference's own rows make: evenly spread, as many as there are rows.
    pub fn rank_reference(&self) -> [u64; RANK_CELLS] {
        let total: u64 = self.rows.iter().map(|n| u64::from(*n)).sum();
        let cells = RANK_CELLS as u64;
        std::array::from_fn(|i| (total * (i as u64 + 1)) / cells - (total * i as u64) / cells)
    }

    /// Reference rows per bin as a window with `hours` rows per hour would have them, the subject's `reference` rows per bin telling how a
    /// cell divides. `None` for a window without rows.
    ///
    /// Their number is what the strata are worth together, `1 / Σ wₕ² / (nₕ + 32)` with the window's weights `w` (Kish 1965), so that
    /// few rows of an hour are not taken for many.
    pub fn expected(&self, hours: &[u32; HOURS], reference: &[u64]) -> Option<Vec<u64>> {
        let total: f64 = hours.iter().map(|n| f64::from(*n)).sum();
        if total <= 0.0 {
            return None;
        }
        let weights = || hours.iter().map(|n| f64::from(*n) / total).enumerate();
        let doubt: f64 = weights()
            .zip(&self.rows)
            .map(|((_, w), n)| w * w / (f64::from(*n) + PARENT_ROWS))
            .sum();
        let all: f64 = self.rows.iter().map(|n| f64::from(*n)).sum();
        let worth = (1.0 / doubt).min(all);
        let of_cell = pool(reference, &self.cells, self.width);
        let mut shares = vec![0.0; self.width];
        for (hour, weight) in weights().filter(|(_, weight)| *weight > 0.0) {
            for (cell, share) in shares.iter_mut().enumerate() {
                let (below, to) = self.limits(hour, cell);
                *share += weight * (to - below);
            }
        }
        let rows = |(n, cell): (&u64, &u8)| {
            let cell = usize::from(*cell);
            let (inside, share) = (of_cell.get(cell)?, shares.get(cell)?);
            (*inside > 0.0).then(|| (worth * share * *n as f64 / inside).round() as u64)
        };
        Some(
            reference
                .iter()
                .zip(&self.cells)
                .map(|pair| rows(pair).unwrap_or(0))
                .collect(),
        )
    }

    /// Bytes that one season takes.
    pub fn size_bytes(&self) -> usize {
        size_of_val(self) + size_of_val(&*self.cells) + size_of_val(&*self.up_to) + size_of_val(&*self.rows)
    }

    /// Shares below a cell, and up to and with it.
    fn limits(&self, hour: usize, cell: usize) -> (f64, f64) {
        let at = hour * self.width + cell;
        let share = |i: usize| self.up_to.get(i).map_or(0.0, |n| f64::from(*n) / SHARES);
        (if cell > 0 { share(at - 1) } else { 0.0 }, share(at))
    }
}

/// The cell of each bin: its own, but for those beyond the limit, and always one apart for missing values, which come last.
fn cells(bins: usize) -> Vec<u8> {
    let last = bins.min(MAX_CELLS).saturating_sub(1);
    (0..bins)
        .map(|bin| if bin + 1 == bins { last } else { bin.min(last.saturating_sub(1)) } as u8)
        .collect()
}

fn pool(counts: &[u64], cells: &[u8], width: usize) -> Vec<f64> {
    let mut pooled = vec![0.0; width];
    for (n, cell) in counts.iter().zip(cells) {
        if let Some(sum) = pooled.get_mut(usize::from(*cell)) {
            *sum += *n as f64;
        }
    }
    pooled
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
    use super::{HOURS, HourOfWeek, RANK_CELLS, Season, SeasonBuilder};
    use crate::comparison::compare;
    use crate::profile::{Datatype, Kind};
    use crate::sequential::{Bets, ConformalDetector};
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

    /// Largest evidence and largest effect over `weeks` weeks of 30 rows an hour, with the season and without.
    fn run(shift: f64, weeks: usize) -> [(f64, f64); 2] {
        let (subject, counts) = filled(4, 10).finish();
        let season = Season::new(&counts).expect("rows");
        let reference = subject.reference_counts();
        let edges = subject.numeric.as_ref().expect("numbers").edges.clone();
        let mut seasonal = ConformalDetector::new(&season.rank_reference(), Bets::Ranks);
        let mut plain = ConformalDetector::new(&reference, Bets::Ranks);
        let mut rng = SplitMix64::new(3);
        let mut found = [(f64::NEG_INFINITY, 0.0_f64); 2];
        let (mut window, mut hours) = (vec![0_u64; reference.len()], [0_u32; HOURS]);
        for hour in (0..weeks * HOURS).flat_map(|hour| std::iter::repeat_n(hour % HOURS, 30)) {
            let x = value(&mut rng, hour) + shift;
            let bin = edges.partition_point(|e| *e <= x);
            let rank = season.rank(HourOfWeek(hour as u8), bin, rng.uniform());
            seasonal.update(Season::rank_cell(rank), rng.uniform());
            plain.update(bin, rng.uniform());
            window[bin] += 1;
            hours[hour] += 1;
            found[0].0 = found[0].0.max(seasonal.ln_evidence());
            found[1].0 = found[1].0.max(plain.ln_evidence());
            if window.iter().sum::<u64>() == 500 {
                let expected = season.expected(&hours, &reference).expect("rows");
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
    fn an_hour_with_few_rows_looks_like_its_parent() {
        let (_, counts) = filled(1, 1).finish();
        let season = Season::new(&counts).expect("rows");
        // One row of its own against 32 of its parent: the median of the hour stays that of its day.
        let middle = season.rank(HourOfWeek(6), counts.counts[0].len() / 2, 0.5);
        assert!(middle > 0.05 && middle < 0.95, "{middle}");
        let mut none = counts.clone();
        none.counts.iter_mut().for_each(|hour| hour.fill(0));
        assert_eq!(Season::new(&none), None);
        assert_eq!(season.expected(&[0; HOURS], &[1; 18]), None);
        assert_eq!(season.rank_reference().iter().sum::<u64>(), 168);
        assert_eq!(
            [Season::rank_cell(0.0), Season::rank_cell(1.0)],
            [0, RANK_CELLS - 1]
        );
    }

    #[test]
    fn the_largest_season_keeps_within_its_bytes() {
        let mut texts = SeasonBuilder::new(
            SubjectBuilder::new("t", "t", 0, Datatype::Bytes, Kind::Categorical)
                .role(crate::profile::Role::Label, None),
        );
        for i in 0..60_000_u32 {
            texts
                .hour(HourOfWeek((i % 168) as u8))
                .push_text(&(i % 300).to_string());
        }
        let (subject, counts) = texts.finish();
        assert_eq!(subject.reference_counts().len(), 258);
        let season = Season::new(&counts).expect("rows");
        // With 2 KiB of the subject's own it is 24 KiB.
        assert!(season.size_bytes() <= 22 * 1024 + 512, "{}", season.size_bytes());
        let expected = season
            .expected(&[1; HOURS], &subject.reference_counts())
            .expect("rows");
        assert_eq!(expected.len(), 258);
        assert!(expected.iter().sum::<u64>().abs_diff(60_000) < 200);
    }
}
