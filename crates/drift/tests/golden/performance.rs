//! The performance of classifiers, and the risk tracker, against row-by-row computations in Python.

use plumbline_drift::Profile;
use plumbline_drift::performance::{Estimated, Labelled, Measure, Performance, Task, calibration_bins};
use plumbline_drift::profile::Calibration;
use plumbline_drift::sequential::{RiskSettings, RiskTracker, SourceRisk};
use serde_json::Value;

use super::{Comparison, numbers};

/// Scores are kept in bins with their means. Where the calibration curve bends inside a bin, its correction is off by a part of that.
const CURVE: f64 = 2e-4;

fn file() -> Value {
    serde_json::from_str(include_str!("performance_golden.json")).expect("JSON")
}

/// The example's profile with these classes, `b` or the second the positive one.
fn profile(classes: &[&str], curve: Option<&Value>) -> Profile {
    let mut profile = Profile::from_json(include_bytes!("../../schema/example.profile.json"))
        .expect("the example is valid");
    let probability = |o: &plumbline_drift::profile::Subject| o.class.is_some();
    let template = profile
        .outputs
        .iter()
        .find(|o| probability(o))
        .expect("a probability")
        .clone();
    profile.outputs.retain(|o| !probability(o));
    for class in classes {
        let mut output = template.clone();
        output.name = format!("p_{class}");
        output.class = Some((*class).to_owned());
        profile.outputs.push(output);
    }
    let target = profile.target.as_mut().expect("a target");
    target.classes = classes.iter().map(|c| (*c).to_owned()).collect();
    target.positive_class = None;
    profile.calibration = curve.map(|bins| {
        vec![Calibration {
            output: "p_1".to_owned(),
            bins: serde_json::from_value(bins.clone()).expect("bins"),
        }]
    });
    profile
}

fn value(measure: Option<Measure>) -> Option<f64> {
    measure.map(|m| m.value)
}

/// Adds rows of probabilities with their predicted and true class to both accumulators.
fn observe(
    task: &Task,
    rows: impl Iterator<Item = (Vec<f64>, Option<usize>, usize)>,
) -> (Estimated, Labelled) {
    let (mut estimated, mut labelled) = (Estimated::new(task), Labelled::new(task));
    for (mut probabilities, predicted, truth) in rows {
        let answer = task
            .prediction(predicted, &mut probabilities)
            .expect("probabilities");
        estimated.observe(task, answer);
        labelled.observe(task, answer, truth);
    }
    (estimated, labelled)
}

fn binary_rows(golden: &Value) -> impl Iterator<Item = (Vec<f64>, Option<usize>, usize)> {
    let [p, predicted, truth] = [0, 1, 2].map(|i| numbers(&golden["rows"][i]));
    let rows = p.into_iter().zip(predicted).zip(truth);
    rows.map(|((p, predicted), truth)| (vec![f64::NAN, p], Some(predicted as usize), truth as usize))
}

#[test]
fn labelled_performance_agrees_with_scikit_learn() {
    let golden = &file()["binary"];
    let task = Task::new(&profile(&["0", "1"], None)).expect("a classifier");
    let (_, labelled) = observe(&task, binary_rows(golden));
    let ours = labelled.performance(&task).expect("rows");
    let expected = &golden["labels"];
    let mut c = Comparison::default();
    let shares = [
        ("accuracy", Some(ours.accuracy)),
        ("precision", ours.precision),
        ("recall", ours.recall),
    ];
    for (name, measure) in shares {
        let m = measure.expect("rows");
        for (i, x) in [m.value, m.lower, m.upper].into_iter().enumerate() {
            c.number(name, &expected[name][i], Some(x));
        }
    }
    c.number("f1", &expected["f1"], value(ours.f1));
    c.number("log_loss", &expected["log_loss"], value(ours.log_loss));
    let loss = ours.log_loss.expect("rows");
    c.number(
        "log_loss_error",
        &expected["log_loss_error"],
        Some((loss.upper - loss.value) / 1.959_963_984_540_054),
    );
    // The area within the bound that the bins state, and that one small.
    let bound = ours.auc_bound.expect("both classes");
    assert!(bound < 0.01, "{bound}");
    c.within("auc", &expected["auc"], value(ours.auc), 0.0, bound);
    let auc = ours.auc.expect("both classes");
    let error = expected["auc_variance"].as_f64().expect("a number").sqrt();
    let half = (auc.upper - auc.lower) / 2.0 / 1.959_963_984_540_054;
    assert!((half / error - 1.0).abs() < 0.05, "{half} for {error}");
    assert_eq!(c.finish(), (13, 0));
}

#[test]
fn estimated_performance_agrees_with_a_row_by_row_computation() {
    let golden = &file()["binary"];
    let mut c = Comparison::default();
    let mut compare = |name: &str, profile: &Profile, tolerance: f64| -> Performance {
        let task = Task::new(profile).expect("a classifier");
        let (estimated, _) = observe(&task, binary_rows(golden));
        let ours = estimated.performance(&task, profile).expect("rows");
        let expected = &golden["estimated"][name];
        let measures = [
            ("accuracy", Some(ours.accuracy.value)),
            ("precision", value(ours.precision)),
            ("recall", value(ours.recall)),
            ("f1", value(ours.f1)),
        ];
        for (measure, x) in measures {
            c.within(
                &format!("{name} {measure}"),
                &expected[measure],
                x,
                tolerance,
                0.0,
            );
        }
        c.within(
            &format!("{name} auc"),
            &expected["auc"],
            value(ours.auc),
            0.0,
            ours.auc_bound.unwrap_or(0.0),
        );
        c.within(
            &format!("{name} log-loss"),
            &expected["log_loss"],
            value(ours.log_loss),
            1e-3,
            0.0,
        );
        ours
    };
    let raw = compare("raw", &profile(&["0", "1"], None), 1e-9);
    compare(
        "calibrated",
        &profile(&["0", "1"], Some(&golden["calibration"])),
        CURVE,
    );
    assert_eq!(c.finish(), (12, 0));

    // Wilson's interval has the width of the labels' variance, but for the pull to the middle.
    let variance = golden["estimated"]["raw"]["accuracy_variance_without_curve"]
        .as_f64()
        .expect("a number");
    let half = (raw.accuracy.upper - raw.accuracy.lower) / 2.0;
    assert!(
        (half / (1.96 * variance.sqrt()) - 1.0).abs() < 0.02,
        "{half} {variance}"
    );
}

#[test]
fn three_classes_agree_with_scikit_learn() {
    let golden = &file()["multiclass"];
    let profile = profile(&["0", "1", "2"], None);
    let task = Task::new(&profile).expect("a classifier");
    let rows = golden["rows"][0].as_array().expect("rows").iter().map(numbers);
    let rows: Vec<_> = rows.zip(numbers(&golden["rows"][1])).collect();
    let (estimated, labelled) = observe(
        &task,
        rows.into_iter().map(|(p, truth)| (p, None, truth as usize)),
    );
    let labels = labelled.performance(&task).expect("rows");
    let estimate = estimated.performance(&task, &profile).expect("rows");
    let mut c = Comparison::default();
    for (ours, expected) in [(&labels, &golden["labels"]), (&estimate, &golden["estimated"])] {
        c.number("accuracy", &expected["accuracy"], Some(ours.accuracy.value));
        for (i, class) in ours.classes.iter().enumerate() {
            c.number("precision", &expected["precision"][i], value(class.precision));
            c.number("recall", &expected["recall"][i], value(class.recall));
        }
    }
    let expected = &golden["labels"];
    for (i, class) in labels.classes.iter().enumerate() {
        c.number("f1", &expected["f1"][i], value(class.f1));
    }
    c.number("macro f1", &expected["macro_f1"], value(labels.f1));
    c.number("log_loss", &expected["log_loss"], value(labels.log_loss));
    c.within(
        "auc",
        &expected["auc"],
        value(labels.auc),
        0.0,
        labels.auc_bound.unwrap_or(0.0),
    );
    assert_eq!(c.finish(), (20, 0));
}

#[test]
fn calibration_bins_equal_those_of_the_python_writer() {
    let golden = &file()["binary"];
    let p = numbers(&golden["reference"][0]);
    let rows: Vec<(f64, bool)> = p
        .into_iter()
        .zip(numbers(&golden["reference"][1]).iter().map(|y| *y == 1.0))
        .collect();
    let ours = serde_json::to_value(calibration_bins(&rows, 10)).expect("JSON");
    assert_eq!(ours, golden["calibration"]);
}

#[test]
fn the_risk_tracker_agrees_with_exact_limits() {
    let golden = &file()["risk"];
    let source: SourceRisk = serde_json::from_value(golden["source"].clone()).expect("a source");
    let mut tracker = RiskTracker::new(Some(source), RiskSettings::default());
    for loss in numbers(&golden["losses"]) {
        tracker.update(loss);
    }
    let mut c = Comparison::default();
    c.number("threshold", &golden["threshold"], tracker.threshold());
    c.number("ln evidence", &golden["ln_evidence"], Some(tracker.ln_evidence()));
    // A straight line within a grid of 0.01, to the safe side.
    let (lower, upper) = tracker.bounds();
    c.within("lower", &golden["lower"], Some(lower), 0.0, 2e-4);
    c.within("upper", &golden["upper"], Some(upper), 0.0, 2e-4);
    assert_eq!(c.finish(), (4, 0));
    let exact = |name: &str| golden[name].as_f64().expect("a number");
    assert!(lower <= exact("lower") + 1e-12 && upper >= exact("upper") - 1e-12);
}
