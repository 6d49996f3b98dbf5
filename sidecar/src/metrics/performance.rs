//! Series of how well a model does.

use plumbline_drift::performance::{Measure, PerformanceReport, PerformanceViews};
use plumbline_service::metrics::Metrics as Registry;
use prometheus::{GaugeVec, IntGaugeVec};

use super::MODEL;

const BY_SOURCE: [&str; 3] = ["model", "version", "source"];
const SOURCES: [&str; 2] = ["labels", "estimated"];

/// The families of all models.
#[derive(Clone, Debug)]
pub(super) struct PerformanceFamilies {
    accuracy: GaugeVec,
    precision: GaugeVec,
    recall: GaugeVec,
    f1: GaugeVec,
    auc: GaugeVec,
    log_loss: GaugeVec,
    calibration_error: GaugeVec,
    rows: IntGaugeVec,
    unreliable: IntGaugeVec,
    degraded: IntGaugeVec,
}

/// The series of one model. A measure that is not known has none: a 0 would raise alerts.
#[derive(Clone, Debug)]
pub(crate) struct PerformanceMetrics {
    families: PerformanceFamilies,
    model: String,
    version: String,
}

impl PerformanceFamilies {
    pub(super) fn declare(registry: &Registry) -> Self {
        let of = |name: &str, help: &str| registry.gauge_vec(name, help, &BY_SOURCE);
        Self {
            accuracy: of(
                "plumbline_model_accuracy",
                "Share of right predictions over the newest full window: by the labels that came back, and as estimated without any.",
            ),
            precision: of(
                "plumbline_model_precision",
                "Precision of the positive class over the same window; with more than two classes the mean over them.",
            ),
            recall: of(
                "plumbline_model_recall",
                "Recall of the positive class over the same window; with more than two classes the mean over them.",
            ),
            f1: of(
                "plumbline_model_f1",
                "F1 of the positive class over the same window; with more than two classes the mean over them.",
            ),
            auc: of(
                "plumbline_model_auc",
                "Area under the ROC curve over the same window; with more than two classes the mean over them.",
            ),
            log_loss: of(
                "plumbline_model_log_loss",
                "Mean negative logarithm of the probability of the true class over the same window.",
            ),
            calibration_error: of(
                "plumbline_model_calibration_error",
                "Mean distance of predicted probability and observed share over the same window; by labels only.",
            ),
            rows: registry.int_gauge_vec(
                "plumbline_model_performance_rows",
                "Rows that the measures of performance are of.",
                &BY_SOURCE,
            ),
            unreliable: registry.int_gauge_vec(
                "plumbline_model_estimate_unreliable",
                "1 while something speaks against the estimated performance, such as scores that the calibration curve does not cover.",
                &MODEL,
            ),
            degraded: registry.int_gauge_vec(
                "plumbline_model_degraded",
                "1 once labels have shown that the model is wrong more often than it was, beyond doubt.",
                &MODEL,
            ),
        }
    }
}

impl PerformanceMetrics {
    pub(super) fn new(families: &PerformanceFamilies, [model, version]: [&str; 2]) -> Self {
        Self {
            families: families.clone(),
            model: model.to_owned(),
            version: version.to_owned(),
        }
    }

    /// Shows what is known.
    pub(crate) fn show(&self, report: &PerformanceReport) {
        for (source, views) in SOURCES.into_iter().zip([&report.labels, &report.estimated]) {
            self.show_source(source, views.as_ref());
        }
        let model = [self.model.as_str(), self.version.as_str()];
        if let Some(estimated) = &report.estimated {
            let unreliable = self.families.unreliable.with_label_values(&model);
            unreliable.set(i64::from(estimated.newest().is_unreliable()));
        }
        if report.labels.is_some() {
            let degraded = self.families.degraded.with_label_values(&model);
            degraded.set(i64::from(report.risk.alarm));
        }
    }

    fn show_source(&self, source: &str, views: Option<&PerformanceViews>) {
        let newest = views.map(PerformanceViews::newest);
        let labels = [self.model.as_str(), self.version.as_str(), source];
        let families = &self.families;
        let measures = [
            (&families.accuracy, newest.map(|performance| performance.accuracy)),
            (
                &families.precision,
                newest.and_then(|performance| performance.precision),
            ),
            (
                &families.recall,
                newest.and_then(|performance| performance.recall),
            ),
            (&families.f1, newest.and_then(|performance| performance.f1)),
            (&families.auc, newest.and_then(|performance| performance.auc)),
            (
                &families.log_loss,
                newest.and_then(|performance| performance.log_loss),
            ),
            (
                &families.calibration_error,
                newest.and_then(|performance| performance.calibration_error),
            ),
        ];
        for (family, measure) in measures {
            match measure {
                Some(Measure { value, .. }) => family.with_label_values(&labels).set(value),
                // It had none before either, or has lost it.
                None => drop(family.remove_label_values(&labels)),
            }
        }
        if let Some(performance) = newest {
            families
                .rows
                .with_label_values(&labels)
                .set(performance.rows as i64);
        }
    }
}
