//! Both sources of performance side by side, per window and since the start.

use serde::{Deserialize, Serialize};

use super::estimated::Curves;
use super::{Doubt, Estimated, Labelled, Performance, PerformanceError, Prediction, Task};
use crate::cause;
use crate::profile::Profile;
use crate::report::DriftReport;
use crate::sequential::{RiskSettings, RiskTracker, SourceRisk};

/// Settings of a [`PerformanceMonitor`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerformanceSettings {
    /// Predictions, and likewise labels, after which a window is full.
    pub window_rows: u64,
    /// The test of the error rate.
    pub risk: RiskSettings,
}

impl Default for PerformanceSettings {
    fn default() -> Self {
        Self {
            window_rows: 500,
            risk: RiskSettings::default(),
        }
    }
}

/// Follows the performance of one model. Predictions and labels come in independently: whoever joins them keeps the answer until its
/// label arrives.
#[derive(Clone, Debug)]
pub struct PerformanceMonitor {
    task: Task,
    curves: Curves,
    window_rows: u64,
    state: PerformanceSnapshot,
}

/// Everything of a [`PerformanceMonitor`] that changes with rows, to be stored and [restored](PerformanceMonitor::restore).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerformanceSnapshot {
    classes: Vec<String>,
    estimated: Windowed<Estimated>,
    labelled: Windowed<Labelled>,
    risk: RiskTracker,
}

/// The open window, all before it, and the last full one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Windowed<T> {
    open: T,
    closed: T,
    last: Option<T>,
}

/// What is known about a model's performance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerformanceReport {
    /// Without labels; none before the first row with probabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated: Option<PerformanceViews>,
    /// With labels; none before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PerformanceViews>,
    /// The error rate as labels show it, against that of the source.
    pub risk: RiskReport,
}

/// One source's performance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerformanceViews {
    /// Over the last full window; none before there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Performance>,
    /// Since the start.
    pub total: Performance,
}

impl PerformanceViews {
    /// The newest figures: of the last full window, or of all rows before there is one.
    pub fn newest(&self) -> &Performance {
        self.window.as_ref().unwrap_or(&self.total)
    }
}

/// The error rate against that of the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RiskReport {
    /// Labels so far.
    pub rows: u64,
    /// Share of wrong labels; none before the first.
    pub error: Option<f64>,
    /// Limits that hold it at all times at once with 95 % confidence while it does not change.
    pub lower: f64,
    /// The upper one.
    pub upper: f64,
    /// Share of wrong labels of the source: the profile's held-out rows, or the first labels; none while it is being learned.
    pub source: Option<f64>,
    /// The source's upper limit and the tolerance: what the error rate may be; none while the source is being learned.
    pub threshold: Option<f64>,
    /// Decimal logarithm of the evidence that it is more; at least −300.
    pub log10_evidence: f64,
    /// Whether that is sufficient: the model has become worse than it was.
    pub alarm: bool,
}

impl PerformanceMonitor {
    /// A monitor of the model that `profile` belongs to. The source's error rate is that of the profile's training measures, where it
    /// has an accuracy and its rows.
    ///
    /// # Errors
    /// [`PerformanceError::Classes`] for a model that is no classifier or has too many classes,
    /// [`PerformanceError::Setting`] for a setting out of range.
    pub fn new(profile: &Profile, settings: PerformanceSettings) -> Result<Self, PerformanceError> {
        check(&settings)?;
        let task = Task::new(profile)?;
        let source = profile.training.as_ref().and_then(|training| {
            Some(SourceRisk {
                mean: 1.0 - training.accuracy?,
                rows: training.rows?,
            })
        });
        let state = PerformanceSnapshot {
            classes: task.classes().map(str::to_owned).collect(),
            estimated: Windowed::new(Estimated::new(&task)),
            labelled: Windowed::new(Labelled::new(&task)),
            risk: RiskTracker::new(source.filter(|s| s.rows > 0), settings.risk),
        };
        Ok(Self {
            curves: Curves::new(&task, profile),
            task,
            window_rows: settings.window_rows,
            state,
        })
    }

    /// A monitor that goes on where `stored` was.
    ///
    /// # Errors
    /// As [`PerformanceMonitor::new`]; [`PerformanceError::OtherClasses`] for the state of another model,
    /// [`PerformanceError::Damaged`] for one that does not fit together.
    pub fn restore(
        profile: &Profile,
        settings: PerformanceSettings,
        stored: PerformanceSnapshot,
    ) -> Result<Self, PerformanceError> {
        let mut monitor = Self::new(profile, settings)?;
        monitor.check_state(&stored)?;
        monitor.state = stored;
        Ok(monitor)
    }

    /// Everything that changes with rows.
    pub fn snapshot(&self) -> PerformanceSnapshot {
        self.state.clone()
    }

    /// The classes, and where a row's answer is.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Adds a row's answer as it is given.
    pub fn observe(&mut self, prediction: Prediction<'_>) {
        let estimated = &mut self.state.estimated;
        estimated.open.observe(&self.task, prediction);
        if estimated.open.rows() >= self.window_rows {
            estimated.close(Estimated::new(&self.task), Estimated::merge);
        }
    }

    /// Adds a row's answer once its true class is known; true while the error rate is worse than it may be. A class that does not exist is
    /// ignored.
    pub fn observe_truth(&mut self, prediction: Prediction<'_>, truth: usize) -> bool {
        let PerformanceSnapshot { labelled, risk, .. } = &mut self.state;
        if truth >= self.task.classes().len() {
            return risk.is_alarmed();
        }
        labelled.open.observe(&self.task, prediction, truth);
        if labelled.open.rows() >= self.window_rows {
            labelled.close(Labelled::new(&self.task), Labelled::merge);
        }
        risk.update(f64::from(u8::from(prediction.class() != truth)))
    }

    /// Forgets the evidence against the error rate: a new start after an alarm has been dealt with.
    pub fn restart_risk(&mut self) {
        self.state.risk.restart();
    }

    /// What is known so far.
    pub fn report(&self) -> PerformanceReport {
        let PerformanceSnapshot {
            estimated,
            labelled,
            risk,
            ..
        } = &self.state;
        let estimated = estimated.views(Estimated::merge, |state| state.evaluate(&self.task, &self.curves));
        let labels = labelled.views(Labelled::merge, |state| state.performance(&self.task));
        let mut report = PerformanceReport {
            estimated,
            labels,
            risk: RiskReport::new(risk),
        };
        report.contradict();
        report
    }

    /// Adds what the same model's monitor saw elsewhere, such as another replica's.
    ///
    /// # Errors
    /// [`PerformanceError::OtherClasses`] and [`PerformanceError::Damaged`] as [`PerformanceMonitor::restore`]; then nothing is added.
    pub fn merge(&mut self, other: &PerformanceSnapshot) -> Result<(), PerformanceError> {
        self.check_state(other)?;
        let state = &mut self.state;
        state.estimated.open.merge(&other.estimated.open);
        state.estimated.closed.merge(&other.estimated.closed);
        state.labelled.open.merge(&other.labelled.open);
        state.labelled.closed.merge(&other.labelled.closed);
        state.risk.merge(&other.risk);
        Ok(())
    }

    fn check_state(&self, state: &PerformanceSnapshot) -> Result<(), PerformanceError> {
        if state.classes != self.state.classes {
            return Err(PerformanceError::OtherClasses {
                expected: self.state.classes.clone(),
                found: state.classes.clone(),
            });
        }
        for part in state.estimated.parts() {
            part.check(&self.task)?;
        }
        for part in state.labelled.parts() {
            part.check(&self.task)?;
        }
        Ok(())
    }
}

impl<T: Clone> Windowed<T> {
    fn new(empty: T) -> Self {
        Self {
            open: empty.clone(),
            closed: empty,
            last: None,
        }
    }

    fn parts(&self) -> impl Iterator<Item = &T> {
        [&self.open, &self.closed].into_iter().chain(&self.last)
    }

    fn close(&mut self, empty: T, merge: fn(&mut T, &T)) {
        merge(&mut self.closed, &self.open);
        self.last = Some(std::mem::replace(&mut self.open, empty));
    }

    fn views(
        &self,
        merge: fn(&mut T, &T),
        evaluate: impl Fn(&T) -> Option<Performance>,
    ) -> Option<PerformanceViews> {
        let mut all = self.closed.clone();
        merge(&mut all, &self.open);
        Some(PerformanceViews {
            total: evaluate(&all)?,
            window: self.last.as_ref().and_then(evaluate),
        })
    }
}

impl PerformanceReport {
    /// Marks the estimates where `report` shows a broken feed: scores that are made from faulty inputs are not those that were
    /// calibrated.
    pub fn doubt_inputs(&mut self, report: &DriftReport) {
        if cause::broken_inputs(report).next().is_none() {
            return;
        }
        if let Some(views) = &mut self.estimated {
            for estimate in views.window.iter_mut().chain([&mut views.total]) {
                estimate.doubts.push(Doubt::InputsOffRange);
            }
        }
    }

    /// An estimate whose accuracy the labels of a window, or of all rows, exclude is not to be relied on.
    fn contradict(&mut self) {
        let (Some(estimated), Some(labels)) = (&mut self.estimated, &self.labels) else {
            return;
        };
        let mark = |estimate: &mut Performance, labels: &Performance| {
            if !estimate.accuracy.overlaps(&labels.accuracy) {
                estimate.doubts.push(Doubt::Contradicted);
            }
        };
        mark(&mut estimated.total, &labels.total);
        if let (Some(estimate), Some(labels)) = (&mut estimated.window, &labels.window) {
            mark(estimate, labels);
        }
    }
}

impl RiskReport {
    fn new(risk: &RiskTracker) -> Self {
        let (lower, upper) = risk.bounds();
        Self {
            rows: risk.rows(),
            error: risk.mean(),
            lower,
            upper,
            source: risk.source().map(|source| source.mean),
            threshold: risk.threshold(),
            log10_evidence: (risk.ln_evidence() / std::f64::consts::LN_10).max(-300.0),
            alarm: risk.is_alarmed(),
        }
    }
}

fn check(settings: &PerformanceSettings) -> Result<(), PerformanceError> {
    let risk = &settings.risk;
    let checks = [
        ("window_rows", settings.window_rows >= 20, "at least 20"),
        (
            "risk.tolerance",
            (0.0..1.0).contains(&risk.tolerance),
            "in [0, 1)",
        ),
        (
            "risk.false_alarm_rate",
            risk.false_alarm_rate > 0.0 && risk.false_alarm_rate < 1.0,
            "between 0 and 1",
        ),
        ("risk.learn_rows", risk.learn_rows >= 100, "at least 100"),
    ];
    match checks.into_iter().find(|(_, holds, _)| !holds) {
        Some((setting, _, expected)) => Err(PerformanceError::Setting { setting, expected }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{PerformanceMonitor, PerformanceSettings, PerformanceSnapshot};
    use crate::SplitMix64;
    use crate::performance::task::tests::example;
    use crate::performance::{Doubt, PerformanceError};
    use crate::profile::Profile;

    /// A calibrated model with an accuracy of 3/4.
    fn profile() -> Profile {
        let mut profile = example();
        profile.calibration = None;
        let training = profile.training.get_or_insert_default();
        (training.accuracy, training.rows) = (Some(0.75), Some(10_000));
        profile
    }

    fn monitor() -> PerformanceMonitor {
        PerformanceMonitor::new(&profile(), PerformanceSettings::default()).expect("a classifier")
    }

    /// Rows whose labels are the opposite of what the model says with probability `flipped`.
    fn feed(monitor: &mut PerformanceMonitor, rng: &mut SplitMix64, rows: u32, flipped: f64) -> Option<u32> {
        let mut alarm = None;
        for i in 0..rows {
            let p = rng.uniform();
            let mut row = [1.0 - p, p];
            let mut truth = usize::from(rng.uniform() < p);
            if rng.uniform() < flipped {
                truth = 1 - truth;
            }
            let task = monitor.task().clone();
            let answer = task.prediction(None, &mut row).expect("probabilities");
            monitor.observe(answer);
            if monitor.observe_truth(answer, truth) {
                alarm.get_or_insert(i);
            }
        }
        alarm
    }

    #[test]
    fn estimate_and_labels_agree_until_the_concept_changes() {
        let mut monitor = monitor();
        let mut rng = SplitMix64::new(2);
        assert_eq!(feed(&mut monitor, &mut rng, 4100, 0.0), None);
        let report = monitor.report();
        let (estimated, labels) = (report.estimated.expect("rows"), report.labels.expect("labels"));
        assert_eq!(
            (
                estimated.total.rows,
                estimated.newest().rows,
                labels.newest().rows
            ),
            (4100, 500, 500)
        );
        assert!((estimated.total.accuracy.value - labels.total.accuracy.value).abs() < 0.02);
        assert_eq!(estimated.total.doubts, [Doubt::Uncalibrated]);
        assert!(!report.risk.alarm && report.risk.lower < 0.25 && report.risk.upper > 0.25);

        let alarm = feed(&mut monitor, &mut rng, 3000, 0.3).expect("found");
        assert!(alarm < 1500, "{alarm}");
        let report = monitor.report();
        let window = report.estimated.and_then(|views| views.window).expect("a window");
        assert!(window.doubts.contains(&Doubt::Contradicted) && window.is_unreliable());
        assert!(report.risk.alarm && report.risk.log10_evidence >= 6.0);
        monitor.restart_risk();
        assert!(!monitor.report().risk.alarm);
    }

    #[test]
    fn a_restored_monitor_goes_on_as_if_nothing_had_happened() {
        let mut whole = monitor();
        let mut rng = SplitMix64::new(3);
        feed(&mut whole, &mut rng, 777, 0.1);
        let json = serde_json::to_string(&whole.snapshot()).expect("JSON");
        let stored: PerformanceSnapshot = serde_json::from_str(&json).expect("read back");
        let mut restored = PerformanceMonitor::restore(&profile(), PerformanceSettings::default(), stored)
            .expect("the same model");
        let mut same = rng;
        assert_eq!(
            feed(&mut whole, &mut rng, 900, 0.4),
            feed(&mut restored, &mut same, 900, 0.4)
        );
        assert_eq!(restored.report(), whole.report());
    }

    #[test]
    fn a_state_of_another_model_is_refused() {
        let snapshot = monitor().snapshot();
        let mut other = profile();
        let target = other.target.as_mut().expect("a target");
        target.classes = vec!["x".to_owned(), "y".to_owned()];
        target.positive_class = None;
        let restored = PerformanceMonitor::restore(&other, PerformanceSettings::default(), snapshot.clone());
        assert!(matches!(restored, Err(PerformanceError::OtherClasses { .. })));
        let mut value = serde_json::to_value(&snapshot).expect("JSON");
        value["labelled"]["open"]["confusion"] = serde_json::json!([1, 2]);
        let damaged = serde_json::from_value(value).expect("the right shape");
        let error = monitor().merge(&damaged).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "stored performance: expected 4 in `labelled.confusion`, found 2"
        );
    }

    #[test]
    fn merged_replicas_count_every_row_once() {
        let (mut a, mut b) = (monitor(), monitor());
        feed(&mut a, &mut SplitMix64::new(4), 700, 0.0);
        feed(&mut b, &mut SplitMix64::new(5), 600, 0.0);
        a.merge(&b.snapshot()).expect("the same model");
        let report = a.report();
        assert_eq!(report.estimated.map(|views| views.total.rows), Some(1300));
        assert_eq!(report.labels.map(|views| views.total.rows), Some(1300));
        assert_eq!(report.risk.rows, 1300);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let mut settings = PerformanceSettings::default();
        settings.risk.false_alarm_rate = 0.0;
        let error = PerformanceMonitor::new(&profile(), settings).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "performance setting `risk.false_alarm_rate`: expected between 0 and 1"
        );
    }
}
