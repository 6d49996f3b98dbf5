//! One cause at a time, through the monitors that a sidecar runs: what is told of each.

use plumbline_drift::cause::{Cause, Diagnosis, Fault, Harm, diagnose, quality_share};
use plumbline_drift::monitor::{Monitor, Settings};
use plumbline_drift::performance::{Doubt, PerformanceMonitor, PerformanceSettings, calibration_bins};
use plumbline_drift::profile::{Calibration, Datatype, Kind, Profile, Role, Target, Training};
use plumbline_drift::report::DriftReport;
use plumbline_drift::{SplitMix64, SubjectBuilder};

/// What may go wrong.
#[derive(Clone, Copy)]
struct World {
    /// Spread of the feature that the model uses; 1 in the reference.
    spread: f64,
    /// Added to the feature that it does not use.
    unused: f64,
    /// Share of rows without a region.
    missing: f64,
    /// Share of regions that are new.
    unseen: f64,
    /// Share of labels that are the opposite of what they were.
    flipped: f64,
    /// Added to the model's score by a fault of its own.
    bias: f64,
}

const UNCHANGED: World = World {
    spread: 1.0,
    unused: 0.0,
    missing: 0.1,
    unseen: 0.0,
    flipped: 0.0,
    bias: 0.0,
};

struct Row {
    used: f64,
    unused: f64,
    region: &'static str,
    score: f64,
    truth: usize,
}

impl World {
    fn row(self, rng: &mut SplitMix64) -> Row {
        let mut normal = || (0..12).map(|_| rng.uniform()).sum::<f64>() - 6.0;
        let (used, unused) = (normal() * self.spread, normal() + self.unused);
        let share = 1.0 / (1.0 + (-2.0 * used).exp());
        let truth = usize::from((rng.uniform() < share) != (rng.uniform() < self.flipped));
        let region = if rng.uniform() < self.missing {
            ""
        } else if rng.uniform() < self.unseen {
            "elsewhere"
        } else {
            ["north", "south", "west"][(rng.next_u64() % 3) as usize]
        };
        Row {
            used,
            unused,
            region,
            score: (share + self.bias).clamp(0.0, 1.0),
            truth,
        }
    }
}

fn profile() -> Profile {
    const ROWS: u64 = 10_000;
    let number = |name: &str| SubjectBuilder::new(name, name, 0, Datatype::Fp64, Kind::Numeric);
    let (mut used, mut unused) = (number("used"), number("unused"));
    let mut region = SubjectBuilder::new("region", "region", 0, Datatype::Bytes, Kind::Categorical);
    let mut score = number("score").role(Role::Probability, Some("yes"));
    let mut rng = SplitMix64::new(1);
    let (mut scores, mut right) = (Vec::new(), 0);
    for _ in 0..ROWS {
        let row = UNCHANGED.row(&mut rng);
        used.push_number(row.used);
        unused.push_number(row.unused);
        region.push_text(row.region);
        score.push_number(row.score);
        scores.push((row.score, row.truth == 1));
        right += u64::from((row.score > 0.5) == (row.truth == 1));
    }
    Profile {
        target: Some(Target {
            name: "answer".to_owned(),
            classes: vec!["no".to_owned(), "yes".to_owned()],
            positive_class: Some("yes".to_owned()),
        }),
        training: Some(Training {
            rows: Some(ROWS),
            accuracy: Some(right as f64 / ROWS as f64),
            ..Training::default()
        }),
        calibration: Some(vec![Calibration {
            output: "score".to_owned(),
            bins: calibration_bins(&scores, 10),
        }]),
        ..Profile::new(
            "simulated",
            "1",
            ROWS,
            vec![used.finish(), unused.finish(), region.finish()],
            vec![score.finish()],
        )
    }
}

/// Both monitors after `rows` rows of an unchanged world and as many of `world`; labels only when `labelled`.
fn run(world: World, labelled: bool) -> (DriftReport, Diagnosis, Vec<Doubt>) {
    let profile = profile();
    let mut monitor = Monitor::new(&profile, Settings::default(), 0).expect("a valid profile");
    let mut performance =
        PerformanceMonitor::new(&profile, PerformanceSettings::default()).expect("a classifier");
    let task = performance.task().clone();
    let mut rng = SplitMix64::new(2);
    let mut report = monitor.report(0);
    for i in 0..6000 {
        let row = if i < 2000 { UNCHANGED } else { world }.row(&mut rng);
        monitor.observe_number(0, row.used);
        monitor.observe_number(1, row.unused);
        monitor.observe_text(2, row.region.as_bytes());
        monitor.observe_number(3, row.score);
        let mut probabilities = [f64::NAN, row.score];
        let answer = task.prediction(None, &mut probabilities).expect("a probability");
        performance.observe(answer);
        if labelled {
            performance.observe_truth(answer, row.truth);
        }
        let _ = monitor.end_row();
        if monitor.open_rows() >= 500 {
            report = monitor.close_window(i);
        }
    }
    let mut told = performance.report();
    told.doubt_inputs(&report);
    let doubts = told
        .estimated
        .as_ref()
        .map(|e| e.newest().doubts.clone())
        .unwrap_or_default();
    let diagnosis = diagnose(&report, Some(&told));
    (report, diagnosis, doubts)
}

#[test]
fn nothing_is_said_of_an_unchanged_world() {
    let (_, diagnosis, doubts) = run(UNCHANGED, true);
    assert_eq!((diagnosis.cause, diagnosis.harm), (Cause::None, Harm::None));
    assert!(diagnosis.subjects.is_empty() && doubts.is_empty());
    assert_eq!(run(UNCHANGED, false).1.harm, Harm::Unknown);
}

#[test]
fn a_concept_that_changes_alone_is_told_from_data_drift() {
    let (_, diagnosis, doubts) = run(
        World {
            flipped: 0.25,
            ..UNCHANGED
        },
        true,
    );
    assert_eq!(
        (diagnosis.cause, diagnosis.harm),
        (Cause::ConceptDrift, Harm::Worse)
    );
    assert!(diagnosis.also.is_empty() && diagnosis.subjects.is_empty());
    assert_eq!(doubts, [Doubt::Contradicted]);
    let (expected, observed) = (
        diagnosis.expected_accuracy.expect("rows"),
        diagnosis.observed_accuracy.expect("labels"),
    );
    assert!(expected.lower > observed.upper);
    // Without labels nothing can be seen of it.
    assert_eq!(
        run(
            World {
                flipped: 0.25,
                ..UNCHANGED
            },
            false
        )
        .1
        .cause,
        Cause::None
    );
}

#[test]
fn data_drift_that_harms_nobody_is_told_as_such() {
    let (_, diagnosis, doubts) = run(
        World {
            unused: 1.5,
            ..UNCHANGED
        },
        true,
    );
    assert_eq!((diagnosis.cause, diagnosis.harm), (Cause::DataDrift, Harm::None));
    assert_eq!(diagnosis.subjects, ["unused"]);
    assert!(diagnosis.faults.is_empty() && doubts.is_empty());
}

#[test]
fn a_loss_that_the_inputs_explain_is_data_drift() {
    // All rows come near the boundary: the model is as good as it can be there.
    let (_, diagnosis, doubts) = run(
        World {
            spread: 0.35,
            ..UNCHANGED
        },
        true,
    );
    assert_eq!((diagnosis.cause, diagnosis.harm), (Cause::DataDrift, Harm::Worse));
    assert!(
        diagnosis.also.is_empty() && !doubts.contains(&Doubt::Contradicted),
        "{doubts:?}"
    );
}

#[test]
fn both_at_once_are_told_as_both() {
    let (_, diagnosis, _) = run(
        World {
            unused: 1.5,
            flipped: 0.25,
            ..UNCHANGED
        },
        true,
    );
    assert_eq!(
        (diagnosis.cause, diagnosis.also.as_slice()),
        (Cause::ConceptDrift, &[Cause::DataDrift][..])
    );
}

#[test]
fn a_feed_that_breaks_upstream_is_a_fault_of_the_data() {
    let (report, diagnosis, doubts) = run(
        World {
            missing: 0.4,
            ..UNCHANGED
        },
        true,
    );
    assert_eq!(
        (diagnosis.cause, diagnosis.harm),
        (Cause::DataQuality, Harm::None)
    );
    assert_eq!(diagnosis.subjects, ["region"]);
    let fault = diagnosis.faults.first().expect("a fault");
    assert_eq!((fault.fault, fault.subject.as_str()), (Fault::Missing, "region"));
    assert!(
        (fault.reference - 0.1).abs() < 0.02 && (fault.window - 0.4).abs() < 0.08,
        "{fault:?}"
    );
    let region = report
        .subjects
        .iter()
        .find(|s| s.name == "region")
        .expect("a subject");
    assert!(
        quality_share(region) > 0.95,
        "the values that are there have their old shape"
    );
    assert_eq!(doubts, [Doubt::InputsOffRange]);

    let (_, diagnosis, _) = run(
        World {
            unseen: 0.3,
            ..UNCHANGED
        },
        false,
    );
    assert_eq!(diagnosis.cause, Cause::DataQuality);
    assert_eq!(diagnosis.faults.first().map(|f| f.fault), Some(Fault::Unseen));
}

#[test]
fn outputs_that_change_alone_are_told_without_a_guess() {
    let (_, diagnosis, _) = run(
        World {
            bias: 0.2,
            ..UNCHANGED
        },
        false,
    );
    assert_eq!(
        (diagnosis.cause, diagnosis.subjects.as_slice()),
        (Cause::Unknown, &["score".to_owned()][..])
    );
}
