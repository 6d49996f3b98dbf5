//! P(any false alarm within T rows) ≤ T · α, by simulation of thousands of stationary streams that are judged after every row;
//! `make false-alarms` runs ten thousand models of each shape.

#[path = "../examples/false_alarms/simulation.rs"]
mod simulation;

use plumbline_drift::sequential::ConformalDetector;
use simulation::{Case, Law, clopper_pearson, run};

/// The lower end of the interval stays under a kept promise in all but one of 2,000 tests, and the seeds are fixed.
const CONFIDENCE: f64 = 0.999;
/// P(any false alarm of a stream) that is promised: T · α.
const PROMISE: f64 = 0.05;

/// Least probability of an alarm that the streams leave in doubt: for the evidence, for the verdict.
fn at_least(case: &Case, streams: u64) -> (f64, f64) {
    let outcome = run(case, 0..streams);
    let low = |alarms| clopper_pearson(alarms, outcome.streams, CONFIDENCE).0;
    (low(outcome.evidence), low(outcome.verdict))
}

/// Ten thousand streams of one subject, and models of more, apart and together.
fn keeps_the_promise(law: Law) {
    let shapes = [
        (1, false, 500, 10_000),
        (10, false, 500, 250),
        (10, true, 500, 250),
        (50, true, 500, 50),
        (200, false, 500, 10),
    ];
    for (subjects, together, rows, streams) in shapes {
        let case = Case {
            together,
            ..Case::new(law, subjects, rows, PROMISE)
        };
        let (evidence, verdict) = at_least(&case, streams);
        assert!(
            evidence <= PROMISE,
            "{case:?}: evidence in {evidence} of the streams at least"
        );
        assert!(
            verdict <= PROMISE,
            "{case:?}: verdict in {verdict} of the streams at least"
        );
    }
}

#[test]
fn uniform_values_keep_the_promise() {
    keeps_the_promise(Law::Uniform);
}

#[test]
fn normal_values_keep_the_promise() {
    keeps_the_promise(Law::Normal);
}

#[test]
fn skewed_values_keep_the_promise() {
    keeps_the_promise(Law::Skewed);
}

#[test]
fn heavy_tailed_values_keep_the_promise() {
    keeps_the_promise(Law::HeavyTailed);
}

#[test]
fn categories_keep_the_promise() {
    keeps_the_promise(Law::Category);
}

#[test]
fn values_with_ties_keep_the_promise() {
    keeps_the_promise(Law::Levels);
}

#[test]
fn flags_keep_the_promise() {
    keeps_the_promise(Law::Flag);
}

/// The streams tell a broken test from a sound one: here ranks that are not uniform within a cell. With aligned bets the middle of
/// a cell falls into the cell's own bin, so that only bets on ranks are harmed.
#[test]
fn ties_that_are_not_broken_at_random_break_the_promise() {
    let case = Case {
        tie: Some(0.5),
        ..Case::new(Law::Uniform, 1, 500, PROMISE)
    };
    let (evidence, _) = at_least(&case, 300);
    assert!(evidence > PROMISE, "{evidence}");
}

/// Without the values so far in the pool, the error of a small reference looks like a change sooner or later.
#[test]
fn a_pool_that_does_not_grow_breaks_the_promise() {
    let case = Case {
        reference: 100,
        prepare: ConformalDetector::freeze,
        ..Case::new(Law::Normal, 1, 5_000, PROMISE)
    };
    let (evidence, _) = at_least(&case, 300);
    assert!(evidence > PROMISE, "{evidence}");
}

/// Values of R's `binom.test`.
#[test]
fn intervals_are_those_of_clopper_and_pearson() {
    for (hits, trials, low, high) in [
        (0, 10, 0.0, 0.308_497_1),
        (3, 20, 0.032_070_94, 0.378_926_8),
        (10, 10, 0.691_502_9, 1.0),
    ] {
        let (l, h) = clopper_pearson(hits, trials, 0.95);
        assert!(
            (l - low).abs() < 1e-6 && (h - high).abs() < 1e-6,
            "{hits} of {trials}: {l} to {h}"
        );
    }
}
