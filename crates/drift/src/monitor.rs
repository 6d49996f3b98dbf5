//! Watches the rows of one model: counts, tests and judges every subject of its profile.
//!
//! A row costs a bin search and a few dozen additions per subject, without allocation. Windows close after a number of rows, when
//! the caller says so, or as soon as the evidence of a subject calls for a verdict; then each subject is compared with the reference
//! and its state decided by two gates.
//!
//! The first is evidence, within a false-alarm budget that the subjects of a model share: the sequential test, after every
//! row. Where rows depend on each other it means less than it says; several windows in a row take its place, with as many rows as
//! independent ones would have to be to say as much. The second is the effect size, a change that is certain but small being no drift: of the
//! rows since the change began, as the sequential test dates it, or of windows.
//!
//! Evidence whose effect is too small is kept until the effect can be told from that of a warning; then the test starts again.

mod merge;
mod serial;
mod settings;
mod snapshot;
mod subject;
mod track;

use settings::Rules;
use subject::{Evaluation, SubjectMonitor};
use track::Track;

use crate::profile::{Datatype, Kind, Profile, ProfileError, Role};
use crate::report::{Contribution, Counters, DriftReport, Gates, State, Transition, WindowInfo};
use crate::season::HourOfWeek;

pub use merge::MergeError;
pub use settings::Settings;
pub use snapshot::RestoreError;
pub(crate) use snapshot::{MonitorState, MonitorStateRef, ProfileDigest, digest, open, seal};
pub use subject::MAX_BINS;

/// Why a monitor cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The profile contradicts itself.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A setting is out of range.
    #[error("drift setting `{setting}`: expected {expected}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What would do.
        expected: &'static str,
    },
}

/// Where a subject's values come from, and how its bins are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectInfo {
    /// Its name.
    pub name: String,
    /// The tensor.
    pub tensor: String,
    /// Index in the tensor's row.
    pub column: u32,
    /// Datatype of the tensor.
    pub datatype: Datatype,
    /// How its values are binned.
    pub kind: Kind,
    /// What it is, for an output.
    pub role: Option<Role>,
    /// The class of a probability.
    pub class: Option<String>,
    /// Names of its bins, in the order of [`Monitor::cumulative`].
    pub bins: Vec<String>,
}

impl SubjectInfo {
    /// Whether it is an output of the model.
    pub fn is_output(&self) -> bool {
        self.role.is_some()
    }
}

/// Watches the rows of one model. Subjects are addressed by their index: features, then outputs, as in the profile.
#[derive(Clone, Debug)]
pub struct Monitor {
    model: String,
    version: String,
    profile_created_at: String,
    profile_digest: ProfileDigest,
    reference_rows: u64,
    rules: Rules,
    subjects: Vec<SubjectMonitor>,
    /// The `info` of each subject, side by side for the caller.
    infos: Vec<SubjectInfo>,
    /// Importance relative to the mean feature.
    weights: Vec<f64>,
    track: Track,
    window_index: u64,
    window_rows: u64,
    window_opened_unix_ms: i64,
    /// The hour of the rows to come.
    hour: HourOfWeek,
    rows: u64,
}

impl Monitor {
    /// A monitor of the model that `profile` belongs to, from now on.
    ///
    /// # Errors
    /// [`MonitorError`] for a profile that contradicts itself and for a setting out of range.
    pub fn new(profile: &Profile, settings: Settings, now_unix_ms: i64) -> Result<Self, MonitorError> {
        settings.check()?;
        profile.validate()?;
        let rules = Rules::new(settings, profile.subjects().count());
        let track = Track::new(now_unix_ms);
        let subjects: Vec<SubjectMonitor> = profile
            .subjects()
            .enumerate()
            .map(|(i, s)| SubjectMonitor::new(s, profile.season(&s.name), &rules, i, track))
            .collect();
        Ok(Self {
            model: profile.model.name.clone(),
            version: profile.model.version.clone(),
            profile_created_at: profile.created_at.clone(),
            profile_digest: digest(profile),
            reference_rows: profile.data.rows,
            rules,
            infos: subjects.iter().map(|s| s.info.clone()).collect(),
            subjects,
            weights: weights(profile),
            track,
            window_index: 1,
            window_rows: 0,
            window_opened_unix_ms: now_unix_ms,
            hour: HourOfWeek::at_unix_ms(now_unix_ms),
            rows: 0,
        })
    }

    /// The subjects, by index.
    pub fn subjects(&self) -> &[SubjectInfo] {
        &self.infos
    }

    /// Subjects that are compared by the hour of the week.
    pub fn seasonal_subjects(&self) -> usize {
        self.subjects.iter().filter(|s| s.season.is_some()).count()
    }

    /// Says when the rows to come are of, milliseconds since 1970: subjects with a season are compared with that hour of the week. Before, and
    /// after a window is closed, it is the time that was told then.
    pub fn set_time(&mut self, unix_ms: i64) {
        self.hour = HourOfWeek::at_unix_ms(unix_ms);
    }

    /// Adds a number to a subject's row. Not finite or above 1e300: missing. On a categorical subject it is looked up as the class
    /// of that number. An index that does not exist is ignored, here and below.
    pub fn observe_number(&mut self, subject: usize, value: f64) {
        if let Some(s) = self.subjects.get_mut(subject) {
            s.observe_number(value, self.hour);
        }
    }

    /// Adds an integer to a subject's row. Beyond 2⁵³ neighbours fall together, which no bin can tell apart.
    pub fn observe_integer(&mut self, subject: usize, value: i64) {
        self.observe_number(subject, value as f64);
    }

    /// Adds a text to a subject's row; the empty one is missing. On a numeric subject it is parsed.
    pub fn observe_text(&mut self, subject: usize, text: &[u8]) {
        if let Some(s) = self.subjects.get_mut(subject) {
            s.observe_text(text, self.hour);
        }
    }

    /// Adds a truth value to a subject's row.
    pub fn observe_boolean(&mut self, subject: usize, value: bool) {
        if let Some(s) = self.subjects.get_mut(subject) {
            s.observe_boolean(value, self.hour);
        }
    }

    /// Adds a row without a value.
    pub fn observe_missing(&mut self, subject: usize) {
        if let Some(s) = self.subjects.get_mut(subject) {
            s.observe_missing(self.hour);
        }
    }

    /// Ends a row; true when the window should be [closed](Self::close_window): it is full, or it has `min_rows` and a subject's
    /// evidence has come up, so that a verdict is due.
    pub fn end_row(&mut self) -> bool {
        self.rows += 1;
        self.window_rows += 1;
        let Settings {
            window_rows,
            min_rows,
            ..
        } = self.rules.settings;
        self.window_rows >= window_rows
            || (self.window_rows >= min_rows && self.subjects.iter().any(|s| s.is_due(&self.rules)))
    }

    /// Natural logarithm of a subject's evidence after the last row; −∞ before the first one. While nothing changes, P(this reaches `ln C` within
    /// T rows) ≤ T/C.
    pub fn ln_evidence(&self, subject: usize) -> f64 {
        self.subjects
            .get(subject)
            .map_or(f64::NEG_INFINITY, SubjectMonitor::ln_evidence)
    }

    /// Rows since the start.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows in the open window.
    pub fn open_rows(&self) -> u64 {
        self.window_rows
    }

    /// Judges the window and opens the next. One with less than `min_rows` stays open, and no state changes; the report says
    /// so.
    pub fn close_window(&mut self, now_unix_ms: i64) -> DriftReport {
        self.set_time(now_unix_ms);
        let evaluations = self.evaluate();
        if self.window_rows < self.rules.settings.min_rows {
            return self.build_report(&evaluations, now_unix_ms);
        }
        let mut report = self.build_report(&evaluations, now_unix_ms);
        report.window.closed = true;
        for (subject, evaluation) in self.subjects.iter_mut().zip(&evaluations) {
            if let Some(from) = subject.close(evaluation, &self.rules, now_unix_ms) {
                report.transitions.push(Transition {
                    subject: Some(subject.info.name.clone()),
                    from,
                    to: subject.state.track.state,
                    episode: subject.state.track.episode,
                });
            }
        }
        if let Some(from) = self.step_model(now_unix_ms) {
            let Track { state, episode, .. } = self.track;
            report.transitions.push(Transition {
                subject: None,
                from,
                to: state,
                episode,
            });
        }
        self.stamp(&mut report);
        self.window_index += 1;
        self.window_rows = 0;
        self.window_opened_unix_ms = now_unix_ms;
        report
    }

    /// The open window as far as it is, with the states of the last close. Changes nothing.
    pub fn report(&self, now_unix_ms: i64) -> DriftReport {
        self.build_report(&self.evaluate(), now_unix_ms)
    }

    /// Rows per bin of a subject since the start, in the order of [`SubjectInfo::bins`].
    pub fn cumulative(&self, subject: usize) -> &[u64] {
        self.subjects.get(subject).map_or(&[], SubjectMonitor::totals)
    }

    /// Rows of a subject since the start.
    pub fn counters(&self, subject: usize) -> Counters {
        self.subjects
            .get(subject)
            .map(SubjectMonitor::counters)
            .unwrap_or_default()
    }

    /// The state of the model: the worst of its subjects.
    pub fn state(&self) -> State {
        self.track.state
    }

    /// The most bytes that the changing state of one subject takes; the profile is not counted.
    pub fn subject_bytes(&self) -> usize {
        self.subjects
            .iter()
            .map(SubjectMonitor::state_bytes)
            .max()
            .unwrap_or(0)
    }

    fn evaluate(&self) -> Vec<Evaluation> {
        self.subjects.iter().map(|s| s.evaluate(&self.rules)).collect()
    }

    /// The model is as bad as its worst subject; it has recovered when the last one has.
    fn step_model(&mut self, now_unix_ms: i64) -> Option<State> {
        let worst = self
            .subjects
            .iter()
            .map(|s| s.state.track.state)
            .max_by_key(|s| s.level())
            .unwrap_or_default();
        let next = match (worst.level(), self.track.state) {
            (0, State::Warning | State::Drift) => State::Recovered,
            (0, _) => State::Stable,
            // Within an episode a model does not go back to warning while one subject follows another.
            (_, State::Drift) => State::Drift,
            _ => worst,
        };
        self.track.enter(next, now_unix_ms)
    }

    fn build_report(&self, evaluations: &[Evaluation], now_unix_ms: i64) -> DriftReport {
        let settings = &self.rules.settings;
        let mut report = DriftReport {
            model: self.model.clone(),
            version: self.version.clone(),
            segment: None,
            profile_created_at: self.profile_created_at.clone(),
            reference_rows: self.reference_rows,
            state: self.track.state,
            episode: self.track.episode,
            since_unix_ms: self.track.since_unix_ms,
            window: WindowInfo {
                index: self.window_index,
                rows: self.window_rows,
                opened_at_unix_ms: self.window_opened_unix_ms,
                closed_at_unix_ms: now_unix_ms,
                closed: false,
            },
            rows_total: self.rows,
            gates: Gates {
                false_alarm_rate: settings.false_alarm_rate,
                log10_evidence: self.rules.evidence.log10(),
                window_p_value: self.rules.window_p_value(self.window_rows),
                warning_effect: settings.warning_effect,
                drift_effect: settings.drift_effect,
            },
            transitions: Vec::new(),
            ranking: self.ranking(evaluations),
            subjects: self
                .subjects
                .iter()
                .zip(evaluations)
                .map(|(s, e)| s.report(e))
                .collect(),
            segments: None,
        };
        self.stamp(&mut report);
        report
    }

    /// Writes the states as they are now.
    fn stamp(&self, report: &mut DriftReport) {
        report.state = self.track.state;
        report.episode = self.track.episode;
        report.since_unix_ms = self.track.since_unix_ms;
        for (subject, own) in self.subjects.iter().zip(&mut report.subjects) {
            own.state = subject.state.track.state;
            own.episode = subject.state.track.episode;
            own.since_unix_ms = subject.state.track.since_unix_ms;
        }
    }

    fn ranking(&self, evaluations: &[Evaluation]) -> Vec<Contribution> {
        let scored = || {
            self.infos
                .iter()
                .zip(&self.weights)
                .zip(evaluations.iter().map(Evaluation::effect))
        };
        let total: f64 = scored().map(|((_, weight), effect)| weight * effect).sum();
        let mut ranking: Vec<Contribution> = scored()
            .filter(|((_, weight), effect)| *weight * effect > 0.0)
            .map(|((info, weight), effect)| Contribution {
                subject: info.name.clone(),
                share: weight * effect / total,
                effect,
                weight: *weight,
            })
            .collect();
        ranking.sort_by(|a, b| b.share.total_cmp(&a.share));
        ranking
    }
}

/// Importance of each subject relative to the mean feature; 1 for outputs and where nothing is known.
fn weights(profile: &Profile) -> Vec<f64> {
    let importances = profile.importances.as_deref().unwrap_or_default();
    let mean = importances.iter().map(|i| i.importance).sum::<f64>() / importances.len().max(1) as f64;
    profile
        .subjects()
        .map(|s| {
            let own = importances
                .iter()
                .find(|i| i.feature == s.name && s.role.is_none());
            own.filter(|_| mean > 0.0).map_or(1.0, |i| i.importance / mean)
        })
        .collect()
}
