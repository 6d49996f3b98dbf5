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
