//! The segments of a model, each compared with a reference of its own beside the whole.

use std::time::{Duration, Instant};

use plumbline_drift::Profile;
use plumbline_drift::monitor::{Monitor, MonitorError, Settings};
use plumbline_drift::report::{DriftReport, SegmentsReport, State};
use plumbline_drift::segments::Segments as Monitors;
use prometheus::IntGauge;

use crate::metrics::Metrics;
use crate::observer::mapping::Column;

/// See the module. Segments are addressed by their index in the profile.
#[derive(Debug)]
pub(super) struct Segments {
    pub(super) monitors: Monitors,
    /// Index of the subject that names the segment of a row.
    subject: usize,
    states: Vec<IntGauge>,
    /// When each open window got its first row.
    opened: Vec<Option<Instant>>,
}

impl Segments {
    /// The segments of `profile`, if it has any; `labels`: model and version.
    pub(super) fn new(
        profile: &Profile,
        settings: Settings,
        metrics: &Metrics,
        labels: [&str; 2],
        now_unix_ms: i64,
    ) -> Result<Option<Self>, MonitorError> {
        let monitors = Monitors::new(profile, settings, now_unix_ms)?;
        let names = monitors.iter().flat_map(Monitors::names);
        let states = metrics.segments(labels, names);
        Ok(monitors.map(|monitors| {
            let mut features = profile.features.iter();
            let subject = features.position(|subject| subject.name == monitors.feature());
            Self {
                subject: subject.expect("a feature, as validated"),
                opened: vec![None; states.len()],
                states,
                monitors,
            }
        }))
    }

    /// The column of an exchange that names the segment of each row.
    pub(super) fn column<'a, 'b>(&self, columns: &'b [Column<'a>]) -> Option<&'b Column<'a>> {
        columns.iter().find(|column| column.subject == self.subject)
    }

    /// The segment of a row, with its monitor; a row without one is counted.
    pub(super) fn of_row(
        &mut self,
        column: Option<&Column<'_>>,
        row: usize,
        now_unix_ms: i64,
    ) -> Option<(usize, &mut Monitor)> {
        let segment = column.and_then(|column| column.value(row).segment(&self.monitors));
        let Some(segment) = segment else {
            self.monitors.skip_row();
            return None;
        };
        let monitor = self.monitors.monitor_mut(segment)?;
        monitor.set_time(now_unix_ms);
        Some((segment, monitor))
    }

    /// Says that rows have come, since when open windows have rows.
    pub(super) fn note_opened(&mut self) {
        for (segment, opened) in self.opened.iter_mut().enumerate() {
            let monitor = self.monitors.monitor_mut(segment);
            if monitor.is_some_and(|monitor| monitor.open_rows() > 0) {
                opened.get_or_insert_with(Instant::now);
            }
        }
    }

    /// The segments whose windows have been open for `window_time`.
    pub(super) fn due(&self, now: Instant, window_time: Duration) -> Vec<usize> {
        let is_due = |opened: &Option<Instant>| {
            opened.is_some_and(|opened| now.saturating_duration_since(opened) >= window_time)
        };
        let due = self.opened.iter().enumerate();
        due.filter(|(_, opened)| is_due(opened))
            .map(|(segment, _)| segment)
            .collect()
    }

    /// Closes the window of a segment; none when it has too few rows for a verdict, and goes on.
    pub(super) fn close_window(&mut self, segment: usize, now_unix_ms: i64) -> Option<DriftReport> {
        let report = self.monitors.close_window(segment, now_unix_ms);
        self.opened[segment] = report.is_none().then(Instant::now);
        self.states[segment].set(i64::from(report.as_ref()?.state.level()));
        report
    }

    /// The worst state of any.
    pub(super) fn state(&self) -> State {
        let states = self.monitors.states();
        states.max_by_key(|state| state.level()).unwrap_or_default()
    }

    /// Shows the states as they are.
    pub(super) fn show(&mut self) {
        for (gauge, state) in self.states.iter().zip(self.monitors.states()) {
            gauge.set(i64::from(state.level()));
        }
        self.note_opened();
    }

    /// Takes back what the states say.
    pub(super) fn retire(&self) {
        self.states.iter().for_each(|state| state.set(0));
    }

    pub(super) fn report(&self) -> SegmentsReport {
        self.monitors.report()
    }
}
