//! How soon the sequential test sees a change at a false-alarm rate of one in a million values, on the bins of a profile.

use plumbline_drift::sequential::{Bets, ConformalDetector};
use plumbline_drift::{SplitMix64, numeric};

const RUNS: u64 = 60;
const REFERENCE: usize = 1_000;
const CLEAN: usize = 5_000;
const PATIENCE: usize = 10_000;

fn normal(rng: &mut SplitMix64) -> f64 {
    (0..12).map(|_| rng.uniform()).sum::<f64>() - 6.0
}

/// Median values from the change to the alarm over the runs, and how many alarmed before it.
fn median_delay(
    before: fn(&mut SplitMix64) -> f64,
    after: impl Fn(&mut SplitMix64) -> f64,
) -> (usize, usize) {
    let mut delays = Vec::new();
    let mut false_alarms = 0;
    for seed in 0..RUNS {
        let mut rng = SplitMix64::new(seed);
        let profile = numeric((0..REFERENCE).map(|_| before(&mut rng)).collect());
        let mut detector = ConformalDetector::new(
            &profile.counts,
            Bets::for_reference(&profile.counts),
            f64::INFINITY,
        );
        let mut alarmed = |x: f64, rng: &mut SplitMix64| {
            let bin = profile.edges.partition_point(|e| *e <= x);
            detector.update(bin, rng.uniform()).expect("a bin");
            detector.ln_evidence() >= 1e6_f64.ln()
        };
        let clean = (0..CLEAN).any(|_| {
            let x = before(&mut rng);
            alarmed(x, &mut rng)
        });
        if clean {
            false_alarms += 1;
            continue;
        }
        let found = (1..=PATIENCE).find(|_| {
            let x = after(&mut rng);
            alarmed(x, &mut rng)
        });
        delays.push(found.unwrap_or(PATIENCE));
    }
    delays.sort_unstable();
    (delays[delays.len() / 2], false_alarms)
}

/// The limits are the published medians on 31 edges, with room for 60 runs and for the 16 bins of a profile.
#[test]
fn delays_stay_within_bounds() {
    let bernoulli = |p: f64| move |rng: &mut SplitMix64| f64::from(u8::from(rng.uniform() < p));
    let ten: fn(&mut SplitMix64) -> f64 = |rng| f64::from(u8::from(rng.uniform() < 0.1));
    let five: fn(&mut SplitMix64) -> f64 = |rng| f64::from(u8::from(rng.uniform() < 0.05));
    let bimodal = |rng: &mut SplitMix64| {
        let side = if rng.uniform() < 0.5 { -1.5 } else { 1.5 };
        (normal(rng) + side) / 1.8125
    };
    let cases = [
        ("mean + 0.25 sd", median_delay(normal, |r| normal(r) + 0.25), 720),
        ("mean + 0.5 sd", median_delay(normal, |r| normal(r) + 0.5), 200),
        ("mean + 1 sd", median_delay(normal, |r| normal(r) + 1.0), 70),
        ("sd × 1.5", median_delay(normal, |r| normal(r) * 1.5), 210),
        ("sd × 0.5", median_delay(normal, |r| normal(r) * 0.5), 120),
        ("two modes, same mean and sd", median_delay(normal, bimodal), 650),
        ("flag 0.10 to 0.15", median_delay(ten, bernoulli(0.15)), 1_100),
        ("flag 0.10 to 0.20", median_delay(ten, bernoulli(0.20)), 320),
        ("flag 0.05 to 0.24", median_delay(five, bernoulli(0.24)), 95),
    ];
    println!("{cases:?}");
    let late: Vec<_> = cases
        .iter()
        .filter(|(_, (delay, _), most)| delay > most)
        .collect();
    assert!(late.is_empty(), "{late:?}");
    // 540 runs of 5,000 clean values, the normal ones six times the same: the bound is 0.005 a run.
    let false_alarms: usize = cases.iter().map(|(_, (_, alarms), _)| alarms).sum();
    assert!(false_alarms <= 9, "{cases:?}");
}
