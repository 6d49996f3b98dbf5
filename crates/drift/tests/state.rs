//! What a restart and a fleet must not change: a restored monitor goes on as if nothing had been, and monitors of replicas add up.

use std::time::Instant;

use plumbline_drift::monitor::{MAX_BINS, Monitor, RestoreError, Settings};
use plumbline_drift::profile::{Datatype, Kind, Profile};
use plumbline_drift::report::{DriftReport, State};
use plumbline_drift::{SplitMix64, SubjectBuilder};
use proptest::prelude::*;

fn example() -> Profile {
    Profile::from_json(include_bytes!("../schema/example.profile.json")).expect("the example is valid")
}

fn monitor(profile: &Profile) -> Monitor {
    let settings = Settings {
        window_rows: 200,
        min_rows: 50,
        ..Settings::default()
    };
    Monitor::new(profile, settings, 7).expect("a valid profile")
}

fn restored(profile: &Profile, state: &[u8]) -> Result<Monitor, RestoreError> {
    let settings = Settings {
        window_rows: 200,
        min_rows: 50,
        ..Settings::default()
    };
    Monitor::restore(profile, settings, state)
}

/// A row of the example's six subjects; `drift` moves the numbers and the categories.
fn observe(monitor: &mut Monitor, rng: &mut SplitMix64, drift: f64, now: i64) -> Option<DriftReport> {
    let u = rng.uniform();
    monitor.observe_number(0, (u.powf(1.0 - drift) * 72.0).floor());
    let contract = ["Month-to-month", "Two year", "One year", "new"];
    let at = (rng.uniform() * (3.0 + drift)) as usize;
    monitor.observe_text(1, contract[at.min(3)].as_bytes());
    if rng.uniform() < 0.1 {
        monitor.observe_missing(2);
    } else {
        monitor.observe_number(2, 20.0 + u * 8_000.0);
    }
    monitor.observe_boolean(3, rng.uniform() < 0.3 + drift / 2.0);
    let score = rng.uniform().powf(1.0 + drift);
    monitor.observe_number(4, score);
    monitor.observe_number(5, 1.0 - score);
    monitor.end_row().then(|| monitor.close_window(now))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_restored_monitor_tells_what_the_uninterrupted_one_does(
        seed in any::<u64>(),
        mut cuts in prop::collection::vec(0_i64..3_000, 1..5),
        change in 200_i64..1_500,
        back in 1_500_i64..2_500,
    ) {
        cuts.sort_unstable();
        let profile = example();
        let (mut whole, mut cut) = (monitor(&profile), monitor(&profile));
        let (mut rows, mut same_rows) = (SplitMix64::new(seed), SplitMix64::new(seed));
        for row in 0..3_000 {
            if cuts.contains(&row) {
                let state = cut.snapshot();
                cut = restored(&profile, &state).expect("its own state");
                prop_assert_eq!(cut.snapshot(), state);
            }
            let drift = if (change..back).contains(&row) { 0.4 } else { 0.0 };
            let expected = observe(&mut whole, &mut rows, drift, row);
            prop_assert_eq!(observe(&mut cut, &mut same_rows, drift, row), expected, "row {}", row);
        }
        prop_assert_eq!(cut.report(3_000), whole.report(3_000));
        prop_assert_eq!(cut.snapshot(), whole.snapshot());
        for subject in 0..6 {
            prop_assert_eq!(cut.ln_evidence(subject), whole.ln_evidence(subject));
        }
    }

    #[test]
    fn sixteen_replicas_merge_in_any_order_and_grouping(
        seed in any::<u64>(),
        order in Just((0..16_usize).collect::<Vec<_>>()).prop_shuffle(),
        joins in prop::collection::vec(any::<prop::sample::Index>(), 15),
    ) {
        let profile = example();
        let settings = Settings { window_rows: 100_000, min_rows: 100_000, ..Settings::default() };
        let mut whole = Monitor::new(&profile, settings, 0).expect("a valid profile");
        let mut evidence = [f64::NEG_INFINITY; 6];
        let mut replicas = Vec::new();
        for i in 0..16 {
            let mut replica = Monitor::new(&profile, Settings { seed: i, ..settings }, 0).expect("a valid profile");
            let (mut rows, mut same_rows) = (SplitMix64::new(seed ^ i), SplitMix64::new(seed ^ i));
            // One of them sees drift.
            let drift = if i == 3 { 0.3 } else { 0.0 };
            for _ in 0..100 + 20 * i {
                observe(&mut replica, &mut rows, drift, 0);
                observe(&mut whole, &mut same_rows, drift, 0);
            }
            for (subject, top) in evidence.iter_mut().enumerate() {
                *top = top.max(replica.ln_evidence(subject));
            }
            replicas.push(replica);
        }
        let mut left: Vec<Monitor> = order.iter().map(|i| replicas[*i].clone()).collect();
        for join in joins {
            let other = left.swap_remove(join.index(left.len()));
            let into = join.index(left.len());
            left[into].merge(&other).expect("one profile");
        }
        let merged = &left[0];
        prop_assert_eq!(left.len(), 1);
        let (merged_report, whole_report) = (merged.report(0), whole.report(0));
        prop_assert_eq!(merged_report.rows_total, whole_report.rows_total);
        for (i, (a, b)) in merged_report.subjects.iter().zip(&whole_report.subjects).enumerate() {
            prop_assert_eq!((&a.name, a.counters), (&b.name, b.counters));
            prop_assert_eq!(merged.cumulative(i), whole.cumulative(i));
            prop_assert_eq!(&a.bins, &b.bins);
            prop_assert_eq!(a.evidence.log10, (evidence[i] / std::f64::consts::LN_10).max(-300.0));
            if let (Some(a), Some(b)) = (a.window_moments, b.window_moments) {
                prop_assert_eq!((a.min, a.max), (b.min, b.max));
                prop_assert!((a.mean - b.mean).abs() <= 1e-12 * (b.mean.abs() + b.sd), "{a:?} {b:?}");
                prop_assert!((a.sd - b.sd).abs() <= 1e-12 * b.sd, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn damaged_states_are_refused(at in any::<prop::sample::Index>(), bit in 0..8_u32, cut in any::<prop::sample::Index>()) {
        let profile = example();
        let mut written = monitor(&profile);
        let mut rng = SplitMix64::new(1);
        (0..150).for_each(|row| drop(observe(&mut written, &mut rng, 0.0, row)));
        let state = written.snapshot();
        let mut flipped = state.clone();
        flipped[at.index(state.len())] ^= 1 << bit;
        prop_assert!(restored(&profile, &flipped).is_err());
        prop_assert!(restored(&profile, &state[..cut.index(state.len())]).is_err());
    }
}

#[test]
fn a_refused_state_says_why() {
    let profile = example();
    let state = monitor(&profile).snapshot();
    let why = |profile: &Profile, state: &[u8]| restored(profile, state).expect_err("refused").to_string();
    assert_eq!(
        why(&profile, b"{\"state\": 1}"),
        "not a monitor's state: expected bytes that begin with \"PLMONITR\", found \"{\\\"state\\\"\""
    );
    assert_eq!(
        why(&profile, b""),
        "not a monitor's state: expected bytes that begin with \"PLMONITR\", found \"\""
    );
    let mut newer = state.clone();
    newer[8] = 9;
    assert_eq!(why(&profile, &newer), "state of version 9, expected version 1");
    assert_eq!(
        why(&profile, &state[..15]),
        "damaged state: expected at least 52 bytes, found 15"
    );
    let mut flipped = state.clone();
    flipped[60] ^= 4;
    assert!(why(&profile, &flipped).starts_with("damaged state: expected the checksum "));
    let mut other = profile.clone();
    other.model.version = "another".to_owned();
    let digests = [&profile, &other].map(|p| monitor(p).profile_digest());
    assert_eq!(
        why(&other, &state),
        format!("state of the profile {}, expected {}", digests[0], digests[1])
    );
    assert!(digests[0].starts_with("sha256:") && digests[0].len() == 71);
    let error = monitor(&profile)
        .merge(&monitor(&other))
        .expect_err("another profile");
    assert_eq!(
        error.to_string(),
        format!("monitor of the profile {}, expected {}", digests[1], digests[0])
    );
    assert!(restored(&profile, &state).is_ok());
}

/// An episode that was told before a restart is not told again after it; its end is.
#[test]
fn an_episode_outlives_a_restart() {
    let profile = example();
    let mut rng = SplitMix64::new(9);
    let mut monitor = monitor(&profile);
    let mut send = |monitor: &mut Monitor, drift: f64, rows: i64| -> Vec<(State, State, u64)> {
        let reports = (0..rows).filter_map(|row| observe(monitor, &mut rng, drift, row));
        let transitions = reports
            .flat_map(|r| r.transitions)
            .filter(|t| t.subject.is_none());
        transitions.map(|t| (t.from, t.to, t.episode)).collect()
    };
    let told = send(&mut monitor, 0.5, 2_000);
    assert!(matches!(told[..], [(State::Stable, _, 1), ..]), "{told:?}");
    let state = monitor.state();
    let mut monitor = restored(&profile, &monitor.snapshot()).expect("its own state");
    assert_eq!(monitor.state(), state);
    assert_eq!(send(&mut monitor, 0.5, 2_000), [], "nothing new");
}

#[test]
fn a_hundred_subjects_are_written_within_a_millisecond() {
    let mut profile = example();
    let template = profile.features[0].clone();
    profile.features = (0..100)
        .map(|i| {
            let mut feature = template.clone();
            feature.name = format!("feature {i}");
            feature
        })
        .collect();
    profile.outputs.clear();
    profile.importances = None;
    profile.calibration = None;
    profile.seasonality = None;
    let mut monitor = monitor(&profile);
    let mut rng = SplitMix64::new(2);
    for _ in 0..150 {
        (0..100).for_each(|subject| monitor.observe_number(subject, (rng.uniform() * 72.0).floor()));
        monitor.end_row();
    }
    // The best of some: others use this machine too.
    let best = (0..50).map(|_| {
        let start = Instant::now();
        let state = monitor.snapshot();
        (start.elapsed(), state.len())
    });
    let (time, bytes) = best.min().expect("some");
    println!("{time:?}, {bytes} bytes");
    assert!(time.as_micros() <= 1_000, "{time:?}");
    assert!(bytes <= 100 * 1_536, "{bytes} bytes");
}

/// The most bins that a profile can have: 33 edges, and more categories than are watched.
#[test]
fn the_largest_subjects_take_at_most_two_kibibytes() {
    let mut profile = example();
    let mut categories = SubjectBuilder::new("categories", "x", 0, Datatype::Bytes, Kind::Categorical);
    let mut levels = SubjectBuilder::new("levels", "x", 1, Datatype::Fp64, Kind::Numeric);
    for i in 0..10_000 {
        categories.push_text(&format!("category {}", i % 250));
        levels.push_number(f64::from(i % 32));
    }
    profile.features = vec![categories.finish(), levels.finish()];
    profile.data.rows = 10_000;
    profile.outputs.clear();
    profile.importances = None;
    profile.calibration = None;
    profile.seasonality = None;
    let mut monitor = monitor(&profile);
    let bins: Vec<usize> = monitor.subjects().iter().map(|s| s.bins.len()).collect();
    assert_eq!(bins, [MAX_BINS, 35]);
    assert!(
        monitor.subject_bytes() <= 2_048,
        "{} bytes",
        monitor.subject_bytes()
    );

    // The rarest categories share `other`; a new one is still told from them.
    let texts = [
        "category 0",
        "category 135",
        "category 136",
        "category 9",
        "never seen",
        "",
    ];
    for text in texts {
        monitor.observe_text(0, text.as_bytes());
    }
    let (names, rows) = (&monitor.subjects()[0].bins, monitor.cumulative(0));
    let told = |name: &str| names.iter().position(|n| n == name).map(|i| rows[i]);
    assert_eq!(
        ["category 0", "category 135", "category 136", "other", "missing"].map(told),
        [Some(1), Some(1), None, Some(3), Some(1)]
    );
    let counters = monitor.counters(0);
    assert_eq!((counters.observed, counters.missing, counters.unseen), (6, 1, 1));
}
