//! How well one model does, as its own probabilities and the labels that come back tell, and the series that show it.

use plumbline_drift::Profile;
use plumbline_drift::performance::{
    PerformanceError, PerformanceMonitor, PerformanceReport, PerformanceSettings, PerformanceSnapshot,
    Prediction,
};
use plumbline_drift::report::DriftReport;
use smallvec::SmallVec;

use super::store::Predictions;
use crate::metrics::PerformanceMetrics;
use crate::observer::Column;

/// See the module.
#[derive(Debug)]
pub(crate) struct Performance {
    monitor: PerformanceMonitor,
    settings: PerformanceSettings,
    metrics: PerformanceMetrics,
    /// Subject of the predicted class, and of the probability of each class.
    label: Option<usize>,
    probabilities: Vec<Option<usize>>,
    /// Probabilities of one row.
    row: Vec<f64>,
    /// Rows or labels that the series do not show yet.
    changed: bool,
}

impl Performance {
    /// The performance of the model of `profile`; none when it is no classifier.
    pub(crate) fn new(profile: &Profile, window_rows: u64, metrics: PerformanceMetrics) -> Option<Self> {
        let settings = PerformanceSettings {
            window_rows,
            ..PerformanceSettings::default()
        };
        let monitor = match PerformanceMonitor::new(profile, settings) {
            Ok(monitor) => monitor,
            Err(error) => {
                tracing::info!(model.name = profile.model.name, %error, "the performance of the model is not followed");
                return None;
            }
        };
        let task = monitor.task();
        let probabilities: Vec<Option<usize>> = if task.has_probabilities() {
            task.probability_subjects().collect()
        } else {
            Vec::new()
        };
        Some(Self {
            label: task.label_subject(),
            row: vec![f64::NAN; probabilities.len()],
            probabilities,
            monitor,
            settings,
            metrics,
            changed: false,
        })
    }

    /// Adds the answers of `rows` rows, and returns them when they are to be kept for their labels.
    pub(crate) fn observe(&mut self, columns: &[Column<'_>], rows: usize, keep: bool) -> Option<Predictions> {
        let of = |subject: Option<usize>| columns.iter().find(|column| Some(column.subject) == subject);
        let label = of(self.label);
        let probabilities: SmallVec<[_; 8]> = self.probabilities.iter().map(|subject| of(*subject)).collect();
        let width = 1 + probabilities.len();
        let mut kept = Vec::with_capacity(if keep { rows * width } else { 0 });
        let mut any = false;
        for row in 0..rows {
            for (p, column) in self.row.iter_mut().zip(&probabilities) {
                *p = column.map_or(f64::NAN, |column| column.number(row));
            }
            let task = self.monitor.task();
            let class = label.and_then(|label| label.class(task, row));
            let prediction = task.prediction(class, &mut self.row);
            if let Some(prediction) = prediction {
                any = true;
                self.monitor.observe(prediction);
            }
            if keep {
                kept.push(prediction.map_or(f32::NAN, |prediction| prediction.class() as f32));
                let told = prediction.map_or(&[][..], Prediction::probabilities);
                kept.extend((1..width).map(|at| told.get(at - 1).map_or(f32::NAN, |p| *p as f32)));
            }
        }
        self.changed |= any;
        (keep && any).then(|| Predictions::new(width, kept))
    }

    /// The class that a label names.
    ///
    /// # Errors
    /// The classes that there are.
    pub(super) fn class(&self, label: &str) -> Result<usize, String> {
        let task = self.monitor.task();
        task.class_of_text(label.as_bytes()).ok_or_else(|| {
            let classes: Vec<&str> = task.classes().collect();
            format!("expected one of the classes {classes:?}, got {label:?}")
        })
    }

    /// Adds the true class of a row that was kept; false when the model had not told a class for it.
    pub(super) fn label(&mut self, kept: &[f32], truth: usize) -> bool {
        let Some((class, probabilities)) = kept.split_first() else {
            return false;
        };
        if class.is_nan() || probabilities.len() != self.row.len() {
            return false;
        }
        for (p, kept) in self.row.iter_mut().zip(probabilities) {
            *p = f64::from(*kept);
        }
        let prediction = self
            .monitor
            .task()
            .prediction(Some(*class as usize), &mut self.row);
        let Some(prediction) = prediction else {
            return false;
        };
        self.monitor.observe_truth(prediction, truth);
        self.changed = true;
        true
    }

    /// Everything that changes with rows and labels.
    pub(crate) fn snapshot(&self) -> PerformanceSnapshot {
        self.monitor.snapshot()
    }

    /// Goes on where `stored` was.
    ///
    /// # Errors
    /// It is of another model, or damaged; then nothing changes.
    pub(crate) fn go_on(
        &mut self,
        profile: &Profile,
        stored: PerformanceSnapshot,
    ) -> Result<(), PerformanceError> {
        self.monitor = PerformanceMonitor::restore(profile, self.settings, stored)?;
        self.changed = true;
        Ok(())
    }

    /// What is known so far; `drift` is what the last window said about the inputs.
    pub(crate) fn report(&self, drift: Option<&DriftReport>) -> PerformanceReport {
        let mut report = self.monitor.report();
        if let Some(drift) = drift {
            report.doubt_inputs(drift);
        }
        report
    }

    /// Brings the series up to date.
    pub(crate) fn publish(&mut self, drift: Option<&DriftReport>) {
        if std::mem::take(&mut self.changed) {
            self.metrics.show(&self.report(drift));
        }
    }
}
