//! What of an analysis outlives the process.

use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use plumbline_drift::Profile;
use plumbline_drift::monitor::{Monitor, RestoreError, Settings};
use plumbline_drift::performance::PerformanceSnapshot;
use plumbline_drift::report::DriftReport;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Analysis, Episode, Standing, rows_of, shared};
use crate::feedback::Performance;

/// Everything of an [`Analysis`] that rows and labels change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AnalysisState {
    /// Identity of the profile; states of before this was told have none.
    #[serde(default)]
    profile: String,
    monitor: SealedState,
    /// Of a profile with segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    segments: Option<SealedState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    episode: Option<Episode>,
    /// What the last window said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_closed: Option<DriftReport>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    performance: Option<PerformanceSnapshot>,
}

/// The bytes of a snapshot, in base64.
#[derive(Clone, Debug)]
struct SealedState(Vec<u8>);

impl Serialize for SealedState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for SealedState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

impl AnalysisState {
    /// How the comparison stood when its last window was closed; none before that.
    pub(crate) fn standing(&self) -> Option<Standing> {
        let report = self.last_closed.clone()?;
        Some(Standing {
            profile: self.profile.clone(),
            rows: rows_of(self.episode, report.rows_total),
            report,
        })
    }
}

impl Analysis {
    /// Says that there is something to be stored.
    pub(crate) fn touch(&mut self) {
        self.changed = true;
    }

    /// The state, when rows or labels have changed it since the last time.
    pub(crate) fn take_changes(&mut self) -> Option<AnalysisState> {
        std::mem::take(&mut self.changed).then(|| AnalysisState {
            profile: self.profile.digest.clone(),
            monitor: SealedState(self.monitor.snapshot()),
            segments: self.segments.as_ref().map(|s| SealedState(s.monitors.snapshot())),
            episode: self.episode,
            last_closed: self.last_closed.clone(),
            performance: self.performance.as_ref().map(Performance::snapshot),
        })
    }

    /// Goes on where `state` was: verdicts are those of an analysis that was never interrupted, an episode under way is not
    /// told again, and its end is. Counters of series begin at 0, as Prometheus expects of a new process.
    ///
    /// # Errors
    /// The state belongs to another profile, to another version of the program, or is damaged; then nothing changes.
    pub(crate) fn go_on(
        &mut self,
        profile: &Profile,
        settings: Settings,
        state: AnalysisState,
    ) -> Result<(), RestoreError> {
        let monitor = Monitor::restore(profile, shared(profile, settings), &state.monitor.0)?;
        if let (Some(segments), Some(state)) = (&mut self.segments, &state.segments) {
            segments.monitors.restore(&state.0)?;
            segments.show();
        }
        self.monitor = monitor;
        self.episode = state.episode;
        self.last_closed = state.last_closed;
        self.window_opened = (self.monitor.open_rows() > 0).then(Instant::now);
        for (index, subject) in self.subjects.iter_mut().enumerate() {
            subject.take_for_told(&self.monitor, index);
        }
        if let (Some(performance), Some(snapshot)) = (&mut self.performance, state.performance)
            && let Err(error) = performance.go_on(profile, snapshot)
        {
            tracing::warn!(model.name = profile.model.name, %error, "the stored performance is unusable; it begins anew");
        }
        self.show(&self.report(super::super::now_unix_ms()));
        Ok(())
    }
}
