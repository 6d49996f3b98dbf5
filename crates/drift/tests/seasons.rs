//! A model whose inputs have a daily and weekly cycle, through the monitor: the cycle is no drift, a change within it is.

use plumbline_drift::monitor::{Monitor, Settings};
use plumbline_drift::profile::{DataInfo, Datatype, Kind, Profile, Role, Seasonality};
use plumbline_drift::report::State;
use plumbline_drift::season::{HOURS, HourOfWeek, SeasonBuilder};
use plumbline_drift::{SplitMix64, SubjectBuilder};

const HOUR_MS: i64 = 3_600_000;
/// Rows an hour: a window of 500 spans a third of a day, and is never like the week.
const PER_HOUR: usize = 60;

/// One row at this hour of the week: a number that swings by two standard deviations, and a class that is rare at the weekend.
fn row(rng: &mut SplitMix64, hour: usize) -> (f64, &'static str) {
    let noise = (0..12).map(|_| rng.uniform()).sum::<f64>() - 6.0;
    let day = std::f64::consts::TAU * (hour % 24) as f64 / 24.0;
    let business = if hour / 24 < 5 { 0.6 } else { 0.1 };
    let class = if rng.uniform() < business {
        "business"
    } else {
        "private"
    };
    (2.0 * day.sin() + noise, class)
}

/// The profile of four weeks.
fn profile() -> Profile {
    let number = SubjectBuilder::new("load", "load", 0, Datatype::Fp64, Kind::Numeric);
    let text = SubjectBuilder::new("client", "client", 0, Datatype::Bytes, Kind::Categorical);
    let (mut load, mut client) = (SeasonBuilder::new(number), SeasonBuilder::new(text));
    let mut rng = SplitMix64::new(1);
    for i in 0..4 * HOURS * 15 {
        let hour = i / 15 % HOURS;
        let (x, class) = row(&mut rng, hour);
        let at = HourOfWeek::new(hour).expect("an hour");
        load.hour(at).push_number(x);
        client.hour(at).push_text(class);
    }
    let ((load, loads), (client, clients)) = (load.finish(), client.finish());
    let example =
        Profile::from_json(include_bytes!("../schema/example.profile.json")).expect("the example is valid");
    let profile = Profile {
        data: DataInfo {
            rows: load.count,
            digest: None,
        },
        features: vec![load, client],
        outputs: Vec::new(),
        importances: None,
        calibration: None,
        seasonality: Some(Seasonality {
            hour_of_week: vec![loads, clients],
        }),
        ..example
    };
    profile.validate().expect("what the builder makes is valid");
    profile
}

/// Runs `weeks` weeks; the last has `shift` added to the number. Returns the worst state before it, the state at its end, and the
/// rows of it until drift was told.
fn run(profile: &Profile, weeks: usize, shift: f64) -> (State, State, Option<usize>) {
    // A Monday.
    let start = 4 * 24 * HOUR_MS;
    let mut monitor = Monitor::new(profile, Settings::default(), start).expect("a valid profile");
    let mut rng = SplitMix64::new(7);
    let mut worst = State::Stable;
    let mut found = None;
    for i in 0..weeks * HOURS * PER_HOUR {
        let hour = i / PER_HOUR;
        let is_last = hour >= (weeks - 1) * HOURS;
        let now = start + hour as i64 * HOUR_MS;
        monitor.set_time(now);
        let (x, class) = row(&mut rng, hour % HOURS);
        monitor.observe_number(0, x + if is_last { shift } else { 0.0 });
        monitor.observe_text(1, class.as_bytes());
        if monitor.end_row() {
            let state = monitor.close_window(now).state;
            if is_last && state == State::Drift {
                found.get_or_insert(i - (weeks - 1) * HOURS * PER_HOUR);
            }
            if !is_last && state.level() > worst.level() {
                worst = state;
            }
        }
    }
    (worst, monitor.state(), found)
}

#[test]
fn a_cycle_raises_nothing_and_a_shift_within_it_is_found() {
    let profile = profile();
    let (before, after, _) = run(&profile, 5, 0.0);
    assert_eq!((before, after), (State::Stable, State::Stable));
    let (before, after, found) = run(&profile, 3, 0.8);
    assert_eq!((before, after), (State::Stable, State::Drift));
    let rows = found.expect("found");
    println!("a shift of 0.8 standard deviations is told after {rows} rows");
    assert!(rows <= 500, "{rows}");
}

#[test]
fn without_the_season_the_cycle_itself_is_drift() {
    let mut profile = profile();
    profile.seasonality = None;
    assert_eq!(run(&profile, 2, 0.0).0, State::Drift);
}

#[test]
fn a_window_is_compared_with_its_own_hours() {
    let profile = profile();
    let mut monitor = Monitor::new(&profile, Settings::default(), 0).expect("a valid profile");
    let mut rng = SplitMix64::new(3);
    // Sunday at six: the crest of the load, and hardly any business.
    monitor.set_time((3 * 24 + 6) * HOUR_MS);
    for _ in 0..500 {
        let (x, class) = row(&mut rng, 6 * 24 + 6);
        monitor.observe_number(0, x);
        monitor.observe_text(1, class.as_bytes());
        let _ = monitor.end_row();
    }
    let report = monitor.report(0);
    let client = &report.subjects[1];
    let rows: u64 = client.bins.iter().map(|bin| bin.reference).sum();
    let business = client
        .bins
        .iter()
        .find(|bin| bin.name == "business")
        .expect("a bin");
    let share = business.reference as f64 / rows as f64;
    assert!(
        share < 0.35,
        "the weekend's share of a week's 0.46, drawn to that of the hour: {share}"
    );
    assert!(
        rows < 200,
        "sixty rows of the hour are not taken for the ten thousand of all: {rows}"
    );
    assert!(
        report
            .subjects
            .iter()
            .all(|s| s.statistics.is_some_and(|s| s.effect < 0.1))
    );
}

#[test]
fn a_subject_with_a_season_keeps_within_its_bytes() {
    let text =
        SubjectBuilder::new("label", "label", 0, Datatype::Bytes, Kind::Categorical).role(Role::Label, None);
    let mut label = SeasonBuilder::new(text);
    for i in 0..50_000_usize {
        let hour = HourOfWeek::new(i % HOURS).expect("an hour");
        label.hour(hour).push_text(&(i % 300).to_string());
    }
    let (label, counts) = label.finish();
    let example = profile();
    let profile = Profile {
        data: DataInfo {
            rows: 50_000,
            digest: None,
        },
        features: Vec::new(),
        outputs: vec![label],
        seasonality: Some(Seasonality {
            hour_of_week: vec![counts],
        }),
        ..example
    };
    let monitor = Monitor::new(&profile, Settings::default(), 0).expect("a valid profile");
    assert!(
        monitor.subject_bytes() <= 24 * 1024,
        "{}",
        monitor.subject_bytes()
    );
    assert!(monitor.subject_bytes() > 20 * 1024, "the season is counted");
}

#[test]
fn a_season_goes_on_after_a_restart_and_replicas_add_up() {
    let profile = profile();
    let mut whole = Monitor::new(&profile, Settings::default(), 0).expect("a valid profile");
    let feed = |monitor: &mut Monitor, rng: &mut SplitMix64, hours: std::ops::Range<usize>| {
        for hour in hours {
            monitor.set_time((4 * 24 + hour as i64) * HOUR_MS);
            for _ in 0..PER_HOUR {
                let (x, class) = row(rng, hour % HOURS);
                monitor.observe_number(0, x);
                monitor.observe_text(1, class.as_bytes());
                if monitor.end_row() {
                    monitor.close_window((4 * 24 + hour as i64) * HOUR_MS);
                }
            }
        }
    };
    let mut rng = SplitMix64::new(9);
    feed(&mut whole, &mut rng, 0..100);
    let stored = whole.snapshot();
    let mut restored = Monitor::restore(&profile, Settings::default(), &stored).expect("its own state");
    let mut same = rng;
    feed(&mut whole, &mut rng, 100..200);
    feed(&mut restored, &mut same, 100..200);
    assert_eq!(restored.report(0), whole.report(0));
    assert_eq!(restored.snapshot(), whole.snapshot());

    let mut replica = Monitor::new(&profile, Settings::default(), 0).expect("a valid profile");
    let rows = |monitor: &Monitor| monitor.counters(0).observed;
    feed(&mut replica, &mut SplitMix64::new(10), 20..22);
    let expected = rows(&whole) + rows(&replica);
    whole.merge(&replica).expect("the same profile");
    assert_eq!(rows(&whole), expected);
    let report = whole.report(0);
    assert!(
        report.subjects[0]
            .statistics
            .is_some_and(|s| s.effect - 2.0 * s.effect_error < 0.02)
    );
}
