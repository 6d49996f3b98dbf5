//! The rows of one model by the value of a feature, such as country or tenant: which part of the traffic drifts?
//!
//! A segment is not the whole, so each has a reference of its own in the profile. At most
//! [`MAX_SEGMENTS`](crate::profile::MAX_SEGMENTS) have a value; all other rows share one, `other`, where there is a reference for
//! them. The segments share one false-alarm budget: it is counted by the row, a row is in one segment, and so the
//! sum of what each may raise is what the rows of all may.

use serde::{Deserialize, Serialize};

use crate::monitor::{
    Monitor, MonitorError, MonitorState, MonitorStateRef, ProfileDigest, RestoreError, Settings, digest,
    open, seal,
};
use crate::profile::{Kind, Profile, Segment as Reference};
use crate::report::{DriftReport, SegmentReport, SegmentsReport, State};

/// How a state's bytes begin.
const MAGIC: [u8; 8] = *b"PLSEGMNT";

/// A [`Monitor`] for each segment. Segments are addressed by index, in the order of the profile: `other` is the last.
#[derive(Clone, Debug)]
pub struct Segments {
    feature: String,
    kind: Kind,
    profile_digest: ProfileDigest,
    parts: Vec<Segment>,
    /// Index of the segment of all other rows.
    other: Option<usize>,
    /// Rows without a segment.
    unmonitored: u64,
}

#[derive(Clone, Debug)]
struct Segment {
    /// None for all other rows.
    value: Option<Box<[u8]>>,
    /// The value as a number: 1, "1" and 1.0 are one segment.
    numbers: Option<[f64; 2]>,
    monitor: Monitor,
    /// What its last closed window said.
    last: SegmentReport,
}

/// What rows change.
#[derive(Serialize)]
struct StateRef<'a> {
    unmonitored: u64,
    parts: Vec<(MonitorStateRef<'a>, &'a SegmentReport)>,
}

/// The same, read.
#[derive(Deserialize)]
struct SavedState {
    unmonitored: u64,
    parts: Vec<(MonitorState, SegmentReport)>,
}

impl Segments {
    /// Monitors of the segments of `profile`; none when it has none.
    ///
    /// `settings.false_alarm_rate` is the budget of all together, per row of any. Whoever watches the whole model too divides
    /// his own between both.
    ///
    /// # Errors
    /// [`MonitorError`] for a profile that contradicts itself and for a setting out of range.
    pub fn new(
        profile: &Profile,
        settings: Settings,
        now_unix_ms: i64,
    ) -> Result<Option<Self>, MonitorError> {
        profile.validate()?;
        let Some(segmentation) = &profile.segments else {
            return Ok(None);
        };
        let mut features = profile.features.iter();
        let feature = features.find(|subject| subject.name == segmentation.feature);
        let parts = segmentation.parts.iter();
        let parts: Vec<Segment> = parts
            .map(|part| Segment::new(profile, part, settings, now_unix_ms))
            .collect::<Result<_, _>>()?;
        Ok(Some(Self {
            feature: segmentation.feature.clone(),
            kind: feature.expect("a feature, as validated").kind,
            profile_digest: digest(profile),
            other: parts.iter().position(|part| part.value.is_none()),
            parts,
            unmonitored: 0,
        }))
    }

    /// Name of the feature that rows are told apart by.
    pub fn feature(&self) -> &str {
        &self.feature
    }

    /// Names of the segments, by index.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.parts.iter().map(|segment| segment.last.name.as_str())
    }

    /// The segment of a row whose feature holds this text; `None` for one that is not watched. A number or truth value that is
    /// written as text is read as a monitor reads it.
    pub fn of_text(&self, text: &[u8]) -> Option<usize> {
        match (self.kind, text) {
            (Kind::Numeric, _) => {
                let number = std::str::from_utf8(text).ok().and_then(|t| t.trim().parse().ok());
                self.of_number(number.unwrap_or(f64::NAN))
            }
            (Kind::Boolean, b"True" | b"1") => self.of_value(b"true"),
            (Kind::Boolean, b"False" | b"0") => self.of_value(b"false"),
            _ => self.of_value(text),
        }
    }

    /// The segment of a row whose feature holds this number.
    pub fn of_number(&self, number: f64) -> Option<usize> {
        if self.kind == Kind::Boolean && !number.is_nan() {
            return self.of_boolean(number != 0.0);
        }
        let is_own = |part: &Segment| part.numbers.is_some_and(|own| own.contains(&number));
        self.parts.iter().position(is_own).or(self.other)
    }

    /// The segment of a row whose feature holds this truth value.
    pub fn of_boolean(&self, value: bool) -> Option<usize> {
        match (self.kind, value) {
            (Kind::Numeric, _) => self.of_number(f64::from(u8::from(value))),
            (_, true) => self.of_value(b"true"),
            (_, false) => self.of_value(b"false"),
        }
    }

    /// The monitor of a segment, to be told the row's values and its end.
    pub fn monitor_mut(&mut self, segment: usize) -> Option<&mut Monitor> {
        self.parts.get_mut(segment).map(|part| &mut part.monitor)
    }

    /// Counts a row that belongs to no segment.
    pub fn skip_row(&mut self) {
        self.unmonitored += 1;
    }

    /// Judges the window of a segment and opens the next, as [`Monitor::close_window`] does; none while the window has too few rows
    /// for a verdict, or there is no such segment.
    pub fn close_window(&mut self, segment: usize, now_unix_ms: i64) -> Option<DriftReport> {
        let part = self.parts.get_mut(segment)?;
        let mut report = part.monitor.close_window(now_unix_ms);
        if !report.window.closed {
            return None;
        }
        part.last = SegmentReport::new(&part.last.name, &report);
        report.segment = Some(part.last.name.clone());
        Some(report)
    }

    /// The states of the segments, by index.
    pub fn states(&self) -> impl ExactSizeIterator<Item = State> {
        self.parts.iter().map(|part| part.monitor.state())
    }

    /// How all segments stand since their last windows were closed.
    pub fn report(&self) -> SegmentsReport {
        let segments = self.parts.iter().map(|part| SegmentReport {
            rows_total: part.monitor.rows(),
            ..part.last.clone()
        });
        SegmentsReport::new(&self.feature, segments.collect(), self.unmonitored)
    }

    /// The state as bytes, for [`restore`](Self::restore): about 1 KiB a subject and segment.
    pub fn snapshot(&self) -> Vec<u8> {
        let parts = self.parts.iter();
        let state = StateRef {
            unmonitored: self.unmonitored,
            parts: parts.map(|part| (part.monitor.changing(), &part.last)).collect(),
        };
        let subjects: usize = self.parts.iter().map(|part| part.monitor.subjects().len()).sum();
        seal(MAGIC, &self.profile_digest, &state, subjects * 1_536)
    }

    /// Goes on in the state that [`snapshot`](Self::snapshot) told; nothing has changed after an error.
    ///
    /// # Errors
    /// [`RestoreError`] for a state of another version or profile, and for a damaged one.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let SavedState { unmonitored, parts } = open(MAGIC, &self.profile_digest, state)?;
        let names = || parts.iter().map(|(_, last)| last.name.as_str());
        if !self.names().eq(names()) {
            return Err(RestoreError::Damaged {
                problem: format!(
                    "expected the segments {:?}, found {:?}",
                    self.names().collect::<Vec<_>>(),
                    names().collect::<Vec<_>>()
                ),
            });
        }
        let mut restored = self.parts.clone();
        for (part, (monitor, last)) in restored.iter_mut().zip(parts) {
            part.monitor.take_up(monitor)?;
            part.last = last;
        }
        (self.parts, self.unmonitored) = (restored, unmonitored);
        Ok(())
    }

    fn of_value(&self, value: &[u8]) -> Option<usize> {
        let is_own = |part: &Segment| part.value.as_deref() == Some(value);
        self.parts.iter().position(is_own).or(self.other)
    }
}

impl Segment {
    fn new(
        profile: &Profile,
        reference: &Reference,
        settings: Settings,
        now_unix_ms: i64,
    ) -> Result<Self, MonitorError> {
        let monitor = Monitor::new(&profile.of_segment(reference), settings, now_unix_ms)?;
        Ok(Self {
            value: reference.value.as_ref().map(|value| value.as_bytes().into()),
            numbers: reference.numbers(),
            last: SegmentReport::new(reference.name(), &monitor.report(now_unix_ms)),
            monitor,
        })
    }
}

#[cfg(test)]
mod tests;
