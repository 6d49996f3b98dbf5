//! How soon a change is told at a false-alarm rate of one in a million rows, by the whole monitor: with its share of the budget, both gates,
//! and windows that the change falls into anywhere. And how well the begin of the change is told.

use plumbline_drift::monitor::{Monitor, Settings};
use plumbline_drift::profile::{
    DataInfo, Datatype, FORMAT, FORMAT_VERSION, Generator, Kind, ModelInfo, Profile,
};
use plumbline_drift::report::State;
use plumbline_drift::{SplitMix64, SubjectBuilder};

const RUNS: u64 = 200;
const REFERENCE: usize = 1_000;
const PATIENCE: u64 = 10_000;

fn normal(rng: &mut SplitMix64) -> f64 {
    (0..12).map(|_| rng.uniform()).sum::<f64>() - 6.0
}

/// A monitor of one number, whose reference is drawn from `before`.
fn monitor(before: fn(&mut SplitMix64) -> f64, rng: &mut SplitMix64) -> Monitor {
    let mut builder = SubjectBuilder::new("x", "x", 0, Datatype::Fp64, Kind::Numeric);
    for _ in 0..REFERENCE {
        builder.push_number(before(rng));
    }
    let profile = Profile {
        format: FORMAT.to_owned(),
        format_version: FORMAT_VERSION,
        created_at: "2026-01-31T12:00:00Z".to_owned(),
        generator: Generator {
            name: "delays".to_owned(),
            version: "1".to_owned(),
        },
        model: ModelInfo {
            name: "one".to_owned(),
            version: "1".to_owned(),
            digest: None,
        },
        data: DataInfo {
            rows: REFERENCE as u64,
            digest: None,
        },
        features: vec![builder.finish()],
        outputs: Vec::new(),
        target: None,
        training: None,
        importances: None,
        calibration: None,
        seasonality: None,
    };
    let settings = Settings {
        seed: rng.next_u64(),
        ..Settings::default()
    };
    Monitor::new(&profile, settings, 0).expect("a valid profile")
}

/// What a change of the stream looks like from outside.
#[derive(Debug)]
struct Found {
    /// Median rows from the change to the row whose verdict leaves `stable`.
    delay: u64,
    /// Median distance of the told begin from the true one, in delays.
    onset_error: f64,
    /// Runs that left `stable` before the change.
    false_alarms: u64,
}

fn find(before: fn(&mut SplitMix64) -> f64, after: impl Fn(&mut SplitMix64) -> f64) -> Found {
    let mut delays = Vec::new();
    let mut errors = Vec::new();
    let mut false_alarms = 0;
    for seed in 0..RUNS {
        let mut rng = SplitMix64::new(seed);
        let mut monitor = monitor(before, &mut rng);
        // How many rows ago the change began, once the state says that there is one.
        let mut send = |x: f64| {
            monitor.observe_number(0, x);
            if !monitor.end_row() {
                return None;
            }
            let report = monitor.close_window(0);
            (report.state != State::Stable).then(|| report.subjects[0].onset.map(|o| o.rows_ago))
        };
        let clean = 5_000 + 500 * seed / RUNS;
        if (0..clean).any(|_| send(before(&mut rng)).is_some()) {
            false_alarms += 1;
            continue;
        }
        let found = (1..=PATIENCE).find_map(|row| Some((row, send(after(&mut rng))?)));
        delays.push(found.map_or(PATIENCE, |(row, _)| row));
        errors.push(match found {
            Some((row, Some(rows_ago))) => (rows_ago as f64 - row as f64).abs() / row as f64,
            _ => 1.0,
        });
    }
    delays.sort_unstable();
    errors.sort_unstable_by(f64::total_cmp);
    Found {
        delay: delays[delays.len() / 2],
        onset_error: errors[errors.len() / 2],
        false_alarms,
    }
}

#[test]
fn changes_are_told_soon_and_with_their_begin() {
    let bernoulli = |p: f64| move |rng: &mut SplitMix64| f64::from(u8::from(rng.uniform() < p));
    let ten: fn(&mut SplitMix64) -> f64 = |rng| f64::from(u8::from(rng.uniform() < 0.1));
    let five: fn(&mut SplitMix64) -> f64 = |rng| f64::from(u8::from(rng.uniform() < 0.05));
    let bimodal = |rng: &mut SplitMix64| {
        let side = if rng.uniform() < 0.5 { -1.5 } else { 1.5 };
        (normal(rng) + side) / 1.8125
    };
    // Goals, where they are not these limits: 65 for 1 sd and 90 for 0.05 to 0.24, which the `min_rows` of a window stand against; 500 for two
    // modes, which takes finer bins than sixteenths; 1,050 and 300 for 0.10 to 0.15 and 0.20: an effect of 0.023 is barely above the gate.
    let cases = [
        ("mean + 0.25 sd", find(normal, |r| normal(r) + 0.25), 650),
        ("mean + 0.5 sd", find(normal, |r| normal(r) + 0.5), 180),
        ("mean + 1 sd", find(normal, |r| normal(r) + 1.0), 70),
        ("sd × 1.5", find(normal, |r| normal(r) * 1.5), 200),
        ("sd × 0.5", find(normal, |r| normal(r) * 0.5), 120),
        ("two modes, same mean and sd", find(normal, bimodal), 620),
        ("flag 0.10 to 0.15", find(ten, bernoulli(0.15)), 1_180),
        ("flag 0.10 to 0.20", find(ten, bernoulli(0.20)), 310),
        ("flag 0.05 to 0.24", find(five, bernoulli(0.24)), 95),
    ];
    for (name, found, most) in &cases {
        println!("{name}: {found:?}, at most {most}");
    }
    let late: Vec<_> = cases
        .iter()
        .filter(|(_, found, most)| found.delay > *most)
        .collect();
    assert!(late.is_empty(), "{late:?}");
    let inexact: Vec<_> = cases
        .iter()
        .filter(|(_, found, _)| found.onset_error > 0.25)
        .collect();
    assert!(inexact.is_empty(), "{inexact:?}");
    // 1,800 runs of 5,250 clean rows on average, the normal ones six times the same: the bound is 0.005 a run.
    let false_alarms: u64 = cases.iter().map(|(_, found, _)| found.false_alarms).sum();
    assert!(false_alarms <= 18, "{cases:?}");
}
