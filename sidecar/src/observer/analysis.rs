//! One model's comparison with its profile, and the series that show it.

mod segments;
mod state;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use plumbline_drift::Profile;
use plumbline_drift::monitor::{Monitor, MonitorError, Settings};
use plumbline_drift::performance::PerformanceReport;
use plumbline_drift::profile::Role;
use plumbline_drift::report::{DriftReport, State, SubjectReport};
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};
use serde::{Deserialize, Serialize};

use segments::Segments;
pub(crate) use state::AnalysisState;

use super::Skipped;
use super::decode::Rows;
use super::mapping::{Column, Side};
use crate::feedback::{Performance, Predictions};
use crate::metrics::{Metrics, ScoreMetrics, SubjectMetrics};
use crate::skip::SkipReason;

/// See the module.
#[derive(Debug)]
pub(crate) struct Analysis {
    monitor: Monitor,
    /// None when the profile has none.
    segments: Option<Segments>,
    profile: ProfileIdentity,
    /// Rows that a window needs for a verdict.
    min_rows: u64,
    inputs: Side,
    outputs: Side,
    confidences: Vec<Confidence>,
    subjects: Vec<Subject>,
    state: IntGauge,
    windows: IntCounter,
    /// When the open window got its first row.
    window_opened: Option<Instant>,
    /// What the last window said; shown until the next one has enough rows to say something.
    last_closed: Option<DriftReport>,
    episode: Option<Episode>,
    /// None when the model is no classifier.
    performance: Option<Performance>,
    told_missing_subjects: bool,
    /// Whether rows have come since the counters of bins were brought up to date.
    unpublished: bool,
    /// Rows or labels that have not been stored.
    changed: bool,
}

/// Which profile it is.
#[derive(Debug)]
struct ProfileIdentity {
    /// Start of its digest: what sets it apart from the model's earlier profiles.
    digest: String,
    /// Whether it was made out of the model's own rows.
    learned: bool,
}

/// One subject's series, and what they have been told.
#[derive(Debug)]
struct Subject {
    metrics: SubjectMetrics,
    bins: Vec<u64>,
    missing: u64,
    out_of_range: u64,
    unseen: u64,
}

/// The probabilities of one output tensor.
#[derive(Debug)]
struct Confidence {
    subjects: Vec<usize>,
    histogram: Histogram,
}

/// An episode that is under way: of the whole or of a segment, from when the first leaves the calm states until the last is back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Episode {
    started_at_unix_ms: i64,
    /// Rows seen before it.
    rows_before: u64,
    /// Whether it has come to drift, and that has been told.
    detected: bool,
}

/// What came of the rows of one exchange.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) changes: Vec<Change>,
    /// For labels to come, if they were wanted.
    pub(super) predictions: Option<Predictions>,
}

/// A change of a model's state that others should hear of.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// [`State::Drift`] or [`State::Recovered`].
    pub(crate) state: State,
    /// When the episode began.
    pub(crate) started_at_unix_ms: i64,
    pub(crate) standing: Standing,
}

/// How a comparison stands at some moment.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// Identity of its profile.
    pub(crate) profile: String,
    /// Rows since the episode began; 0 without one.
    pub(crate) rows: u64,
    pub(crate) report: DriftReport,
}

impl Analysis {
    /// A comparison with `profile`, whose series carry `labels`: model and version.
    pub(crate) fn new(
        profile: &Profile,
        settings: Settings,
        metrics: &Metrics,
        labels: [&str; 2],
    ) -> Result<Self, MonitorError> {
        let (now, shared) = (super::now_unix_ms(), shared(profile, settings));
        let monitor = Monitor::new(profile, shared, now)?;
        let segments = Segments::new(profile, shared, metrics, labels, now)?;
        metrics.reference(labels, profile);
        let subjects = monitor.subjects();
        let inputs = Side::new(subjects, |subject| subject.role.is_none());
        let outputs = Side::new(subjects, |subject| subject.role.is_some());
        let mut probabilities: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, subject) in subjects.iter().enumerate() {
            if subject.role == Some(Role::Probability) {
                probabilities.entry(&subject.tensor).or_default().push(index);
            }
        }
        let confidences = probabilities
            .into_iter()
            .map(|(tensor, subjects)| Confidence {
                subjects,
                histogram: metrics.confidence(labels, tensor),
            })
            .collect();
        let subjects = metrics
            .subjects(labels, subjects)
            .into_iter()
            .map(|metrics| {
                let bins = vec![0; metrics.bins.len()];
                Subject {
                    metrics,
                    bins,
                    missing: 0,
                    out_of_range: 0,
                    unseen: 0,
                }
            })
            .collect();
        Ok(Self {
            monitor,
            segments,
            profile: ProfileIdentity {
                digest: identity(profile),
                learned: profile.generator.name == super::LEARNED_BY,
            },
            min_rows: settings.min_rows,
            inputs,
            outputs,
            confidences,
            subjects,
            state: metrics.model_state(labels),
            windows: metrics.windows(labels),
            window_opened: None,
            last_closed: None,
            episode: None,
            performance: Performance::new(profile, settings.window_rows, metrics.performance(labels)),
            told_missing_subjects: false,
            changed: false,
            unpublished: false,
        })
    }

    /// Adds rows, and closes the window when it has enough of them.
    /// `keep`: whether the predictions are wanted for labels to come.
    pub(super) fn observe(&mut self, rows: &Rows, keep: bool, now_unix_ms: i64) -> Result<Observed, Skipped> {
        let count = usize::try_from(rows.count()).unwrap_or(usize::MAX);
        let mut columns = self.inputs.columns(&rows.inputs, count);
        let inputs = columns.len();
        columns.extend(self.outputs.columns(&rows.outputs, count));
        if columns.is_empty() {
            return Err(Skipped {
                reason: SkipReason::NoSubject,
                rows: rows.count().max(1),
            });
        }
        self.tell_missing_subjects(inputs, columns.len() - inputs);
        let performance = self.performance.as_mut();
        let predictions = performance.and_then(|performance| performance.observe(&columns, count, keep));
        let confidences: Vec<RowConfidence<'_>> = self
            .confidences
            .iter()
            .map(|confidence| confidence.of(&columns))
            .collect();
        self.unpublished = true;
        self.changed = true;
        let mut changes = Vec::new();
        self.monitor.set_time(now_unix_ms);
        let by = self
            .segments
            .as_ref()
            .and_then(|segments| segments.column(&columns));
        for row in 0..count {
            let mut segment = self
                .segments
                .as_mut()
                .and_then(|segments| segments.of_row(by, row, now_unix_ms));
            for column in &columns {
                let value = column.value(row);
                value.observe(&mut self.monitor, column.subject);
                if let Some((_, monitor)) = &mut segment {
                    value.observe(monitor, column.subject);
                }
            }
            for confidence in &confidences {
                confidence.observe(row);
            }
            let due = segment.and_then(|(segment, monitor)| monitor.end_row().then_some(segment));
            if self.monitor.end_row() {
                changes.extend(self.close_window(now_unix_ms));
            }
            if let Some(segment) = due {
                changes.extend(self.close_segment(segment, now_unix_ms));
            }
        }
        if self.monitor.open_rows() > 0 {
            self.window_opened.get_or_insert_with(Instant::now);
        }
        if let Some(segments) = &mut self.segments {
            segments.note_opened();
        }
        Ok(Observed { changes, predictions })
    }

    /// Whether the profile was learned from the model's own rows.
    pub(crate) fn is_learned(&self) -> bool {
        self.profile.learned
    }

    /// Features and outputs that are compared by the hour of the week.
    pub(crate) fn seasonal_subjects(&self) -> usize {
        self.monitor.seasonal_subjects()
    }

    /// Takes back what the states say: rows are compared with something else from now on. Returns how it stood.
    pub(crate) fn retire(self) -> Standing {
        self.state.set(0);
        for scores in self
            .subjects
            .iter()
            .filter_map(|subject| subject.metrics.scores.as_ref())
        {
            scores.state.set(0);
        }
        if let Some(segments) = &self.segments {
            segments.retire();
        }
        self.standing()
    }

    /// How it stands now.
    pub(crate) fn standing(&self) -> Standing {
        let report = self.report(super::now_unix_ms());
        Standing {
            profile: self.profile.digest.clone(),
            rows: rows_of(self.episode, report.rows_total),
            report,
        }
    }

    /// Identity of the profile.
    pub(crate) fn profile(&self) -> &str {
        &self.profile.digest
    }

    /// How well the model does, when it is a classifier.
    pub(crate) fn performance(&mut self) -> Option<&mut Performance> {
        self.performance.as_mut()
    }

    /// What is known about that.
    pub(crate) fn performance_report(&self) -> Option<PerformanceReport> {
        let performance = self.performance.as_ref()?;
        Some(performance.report(self.last_closed.as_ref()))
    }

    /// Closes the windows that have been open for `window_time`.
    pub(super) fn close_by_time(
        &mut self,
        now: Instant,
        window_time: Duration,
        now_unix_ms: i64,
    ) -> Vec<Change> {
        let is_due = |opened: Instant| now.saturating_duration_since(opened) >= window_time;
        let mut changes = Vec::new();
        if self.window_opened.is_some_and(is_due) {
            changes.extend(self.close_window(now_unix_ms));
        }
        let due = self
            .segments
            .as_ref()
            .map(|segments| segments.due(now, window_time));
        for segment in due.into_iter().flatten() {
            changes.extend(self.close_segment(segment, now_unix_ms));
        }
        changes
    }

    /// The comparison as it stands, without closing the window: of the open window once it has enough rows for one, of the
    /// last closed one before. Counts since the start are up to date in both.
    pub(crate) fn report(&self, now_unix_ms: i64) -> DriftReport {
        let mut report = self.report_of_whole(now_unix_ms);
        report.segments = self.segments.as_ref().map(Segments::report);
        report
    }

    fn report_of_whole(&self, now_unix_ms: i64) -> DriftReport {
        let current = self.monitor.report(now_unix_ms);
        let Some(last) = self
            .last_closed
            .as_ref()
            .filter(|_| current.window.rows < self.min_rows)
        else {
            return current;
        };
        let mut report = last.clone();
        report.rows_total = current.rows_total;
        for (subject, now) in report.subjects.iter_mut().zip(current.subjects) {
            subject.counters = now.counters;
            subject.evidence = now.evidence;
            for (bin, now) in subject.bins.iter_mut().zip(now.bins) {
                bin.total = now.total;
            }
        }
        report
    }

    fn close_window(&mut self, now_unix_ms: i64) -> Option<Change> {
        self.changed = true;
        let report = self.monitor.close_window(now_unix_ms);
        if !report.window.closed {
            // Too few rows for a verdict: it goes on, and is looked at again after the same time.
            self.window_opened = Some(Instant::now());
            return None;
        }
        self.window_opened = None;
        self.windows.inc();
        self.show(&report);
        self.last_closed = Some(report.clone());
        self.follow(report)
    }

    fn close_segment(&mut self, segment: usize, now_unix_ms: i64) -> Option<Change> {
        self.changed = true;
        let report = self.segments.as_mut()?.close_window(segment, now_unix_ms)?;
        self.follow(report)
    }

    /// Follows the model's episode, of which the whole and its segments are part, after a window of one of them; returns a change
    /// that others should hear of.
    fn follow(&mut self, mut report: DriftReport) -> Option<Change> {
        if let Some(change) = report.transitions.iter().find(|change| change.subject.is_none()) {
            tracing::info!(
                model.name = report.model,
                model.version = report.version,
                segment.name = report.segment,
                from = ?change.from,
                to = ?change.to,
                window.rows = report.window.rows,
                "drift state changed"
            );
        }
        let of_segments = self.segments.as_ref().map(Segments::state).unwrap_or_default();
        let level = self.monitor.state().level().max(of_segments.level());
        if level > 0 && self.episode.is_none() {
            self.episode = Some(Episode {
                started_at_unix_ms: report.window.closed_at_unix_ms,
                rows_before: self.monitor.rows().saturating_sub(report.window.rows),
                detected: false,
            });
        }
        let episode = self.episode.as_mut()?;
        let state = if level == State::Drift.level() && !episode.detected {
            episode.detected = true;
            State::Drift
        } else if level == 0 && episode.detected {
            State::Recovered
        } else {
            self.episode = self.episode.filter(|_| level > 0);
            return None;
        };
        report.segments = self.segments.as_ref().map(Segments::report);
        let change = Change {
            state,
            started_at_unix_ms: episode.started_at_unix_ms,
            standing: Standing {
                profile: self.profile.digest.clone(),
                rows: rows_of(self.episode, self.monitor.rows()),
                report,
            },
        };
        if state == State::Recovered {
            self.episode = None;
        }
        Some(change)
    }

    /// Brings the counters of bins up to date; they only ever rise.
    pub(super) fn publish(&mut self) {
        // Labels come without rows.
        if let Some(performance) = &mut self.performance {
            performance.publish(self.last_closed.as_ref());
        }
        if !std::mem::take(&mut self.unpublished) {
            return;
        }
        for (index, subject) in self.subjects.iter_mut().enumerate() {
            subject.publish(&self.monitor, index);
        }
    }

    fn show(&self, report: &DriftReport) {
        self.state.set(i64::from(report.state.level()));
        for (subject, told) in self.subjects.iter().zip(&report.subjects) {
            if let Some(scores) = &subject.metrics.scores {
                scores.show(told);
            }
        }
    }

    fn tell_missing_subjects(&mut self, inputs: usize, outputs: usize) {
        let all = inputs == self.inputs.len() && outputs == self.outputs.len();
        if !all && !std::mem::replace(&mut self.told_missing_subjects, true) {
            tracing::warn!(
                features = inputs,
                features.expected = self.inputs.len(),
                outputs,
                outputs.expected = self.outputs.len(),
                "an exchange has not all subjects of the profile; the others are not observed (told once)"
            );
        }
    }
}

impl Confidence {
    fn of<'a>(&self, columns: &'a [Column<'a>]) -> RowConfidence<'a> {
        RowConfidence {
            probabilities: columns
                .iter()
                .filter(|column| self.subjects.contains(&column.subject))
                .collect(),
            histogram: self.histogram.clone(),
        }
    }
}

/// The probabilities of one exchange.
struct RowConfidence<'a> {
    probabilities: Vec<&'a Column<'a>>,
    histogram: Histogram,
}

impl RowConfidence<'_> {
    /// The highest probability of the row; of two classes one may be left to be reckoned.
    fn observe(&self, row: usize) {
        let each = self.probabilities.iter().map(|column| column.number(row));
        let highest = each.fold(f64::NAN, f64::max);
        let highest = if self.probabilities.len() == 1 {
            highest.max(1.0 - highest)
        } else {
            highest
        };
        if highest.is_finite() {
            self.histogram.observe(highest);
        }
    }
}

impl Subject {
    /// Counts that a series need not tell: an earlier process has.
    fn take_for_told(&mut self, monitor: &Monitor, index: usize) {
        self.bins.clear();
        self.bins.extend_from_slice(monitor.cumulative(index));
        let counters = monitor.counters(index);
        (self.missing, self.out_of_range, self.unseen) =
            (counters.missing, counters.out_of_range, counters.unseen);
    }

    fn publish(&mut self, monitor: &Monitor, index: usize) {
        let cumulative = monitor.cumulative(index);
        for (at, (&now, told)) in cumulative.iter().zip(&mut self.bins).enumerate() {
            let rise = now.saturating_sub(std::mem::replace(told, now));
            if rise == 0 {
                continue;
            }
            if let Some(bin) = self.metrics.bins.get(at) {
                bin.inc_by(rise);
            }
            if let Some(class) = self.metrics.classes.as_ref().and_then(|classes| classes.get(at)) {
                class.inc_by(rise);
            }
        }
        let counters = monitor.counters(index);
        if let Some(quality) = &self.metrics.quality {
            raise(&quality.missing, &mut self.missing, counters.missing);
            if let Some(out_of_range) = &quality.out_of_range {
                raise(out_of_range, &mut self.out_of_range, counters.out_of_range);
            }
            if let Some(unseen) = &quality.unseen {
                raise(unseen, &mut self.unseen, counters.unseen);
            }
        }
    }
}

/// The whole and its segments have half of the false-alarm budget each.
fn shared(profile: &Profile, settings: Settings) -> Settings {
    let parts = if profile.segments.is_some() { 2.0 } else { 1.0 };
    Settings {
        false_alarm_rate: settings.false_alarm_rate / parts,
        ..settings
    }
}

/// The first 8 hex digits of the SHA-256 of the profile as JSON.
pub(crate) fn identity(profile: &Profile) -> String {
    use sha2::Digest as _;

    let [a, b, c, d, ..] = sha2::Sha256::digest(profile.to_json()).0;
    format!("{:08x}", u32::from_be_bytes([a, b, c, d]))
}

/// Rows that have come since `episode` began, of `total`.
fn rows_of(episode: Option<Episode>, total: u64) -> u64 {
    episode.map_or(0, |episode| total.saturating_sub(episode.rows_before))
}

fn raise(counter: &IntCounter, told: &mut u64, now: u64) {
    counter.inc_by(now.saturating_sub(std::mem::replace(told, now)));
}

impl ScoreMetrics {
    fn show(&self, report: &SubjectReport) {
        self.state.set(i64::from(report.state.level()));
        self.log_evidence.set(report.evidence.log10);
        let Some(statistics) = &report.statistics else {
            return;
        };
        self.psi.set(statistics.psi);
        self.js.set(statistics.js_distance);
        self.chi2.set(statistics.chi_square);
        set(self.ks.as_ref(), statistics.ks);
        set(self.wasserstein.as_ref(), statistics.wasserstein_normed);
    }
}

fn set(gauge: Option<&Gauge>, value: Option<f64>) {
    if let (Some(gauge), Some(value)) = (gauge, value) {
        gauge.set(value);
    }
}
