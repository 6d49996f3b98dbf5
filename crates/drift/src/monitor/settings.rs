//! Settings of the monitor and what follows from them.

use super::MonitorError;

/// Settings of a [`Monitor`](super::Monitor).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Rows after which a window is full. With 500 rows and 16 bins the effect size has a standard error of about 0.012.
    pub window_rows: u64,
    /// Rows below which a window is not closed, whoever asks: when evidence comes up early in one, so many rows are waited for.
    pub min_rows: u64,
    /// False alarms per row that the whole model may raise while nothing changes: one in a million rows.
    pub false_alarm_rate: f64,
    /// Effect size of a warning, on the scale of the PSI.
    pub warning_effect: f64,
    /// Effect size of drift, on the scale of the PSI; 0.1 is the usual "some change" of credit scoring.
    pub drift_effect: f64,
    /// Windows in a row that have to be significant where the sequential test cannot be trusted.
    pub persistence: u32,
    /// Calm windows in a row after which an episode is over.
    pub recovery_windows: u32,
    /// Lag-1 correlation from which on values count as dependent.
    pub serial_correlation: f64,
    /// Seed of the tie breaking; the same rows with the same seed give the same verdicts.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window_rows: 500,
            min_rows: 100,
            false_alarm_rate: 1e-6,
            warning_effect: 0.02,
            drift_effect: 0.1,
            persistence: 3,
            recovery_windows: 2,
            serial_correlation: 0.2,
            seed: 0x7072_6f66,
        }
    }
}

impl Settings {
    /// What the budget allows one of so many subjects, per row.
    fn rate_per_subject(&self, subjects: usize) -> f64 {
        self.false_alarm_rate / subjects.max(1) as f64
    }

    /// The p-value that a window of `rows` of one of so many subjects may have by the budget of its rows.
    pub(crate) fn window_p_value(&self, subjects: usize, rows: u64) -> f64 {
        ((1.0 - SEQUENTIAL_SHARE) * self.rate_per_subject(subjects) * rows as f64).min(0.01)
    }

    /// Every value that cannot be used.
    pub(super) fn check(&self) -> Result<(), MonitorError> {
        let checks = [
            (
                "window_rows",
                self.window_rows >= self.min_rows,
                "at least min_rows",
            ),
            ("min_rows", self.min_rows >= 20, "at least 20"),
            (
                "false_alarm_rate",
                self.false_alarm_rate > 0.0 && self.false_alarm_rate < 1.0,
                "between 0 and 1",
            ),
            ("warning_effect", self.warning_effect > 0.0, "above 0"),
            (
                "drift_effect",
                self.drift_effect >= self.warning_effect,
                "at least warning_effect",
            ),
            ("persistence", self.persistence >= 1, "at least 1"),
            ("recovery_windows", self.recovery_windows >= 1, "at least 1"),
            (
                "serial_correlation",
                self.serial_correlation > 0.0 && self.serial_correlation <= 1.0,
                "in (0, 1]",
            ),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((setting, _, expected)) => Err(MonitorError::Setting { setting, expected }),
            None => Ok(()),
        }
    }
}

/// The share of the budget that belongs to the sequential tests; the rest is for windows.
const SEQUENTIAL_SHARE: f64 = 0.9;

/// The settings of one monitor, split over its subjects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) settings: Settings,
    /// The evidence that a subject needs, so that P(alarm within T rows) ≤ T · its rate.
    pub(super) evidence: f64,
    subjects: usize,
}

impl Rules {
    pub(super) fn new(settings: Settings, subjects: usize) -> Self {
        Self {
            settings,
            evidence: 1.0 / (SEQUENTIAL_SHARE * settings.rate_per_subject(subjects)),
            subjects,
        }
    }

    /// The p-value that a window of `rows` may have.
    pub(super) fn window_p_value(&self, rows: u64) -> f64 {
        self.settings.window_p_value(self.subjects, rows)
    }
}
