//! The rows of one model by a column that its owner chose, such as country or tenant: which part of the traffic drifts?
//!
//! A segment is not the whole, so each has a profile of its own. At most [`MAX_SEGMENTS`] are named; all other rows share one, `other`, where
//! there is a profile for them. The segments share one false-alarm budget: it is counted by the row, a row is in one segment, and so the
//! sum of what each may raise is what the rows of all may.

use serde::{Deserialize, Serialize};

use crate::monitor::{Monitor, MonitorError, Settings};
use crate::profile::Profile;
use crate::report::{DriftReport, State};

/// Most segments with a name.
pub const MAX_SEGMENTS: usize = 16;
/// Name of the segment of all rows without a named one.
pub const OTHER: &str = "other";

/// Why segments cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// None is named, or more than [`MAX_SEGMENTS`].
    #[error("expected 1 to {MAX_SEGMENTS} segments of `{column}`, found {found}")]
    Count {
        /// The column.
        column: String,
        /// Segments named.
        found: usize,
    },
    /// A name that cannot be told from others.
    #[error("segment `{name}` of `{column}`: expected a name of its own, not empty and not `{OTHER}`")]
    Name {
        /// The column.
        column: String,
        /// The name.
        name: String,
    },
    /// A segment's profile, or a setting, cannot be used.
    #[error("segment `{name}`")]
    Monitor {
        /// The segment.
        name: String,
        /// Why.
        source: MonitorError,
    },
}

/// A [`Monitor`] for each segment. Segments are addressed by index: the named ones in the order given, then `other`.
#[derive(Clone, Debug)]
pub struct Segments {
    column: String,
    parts: Vec<Segment>,
    /// Rows without a segment.
    unmonitored: u64,
}

#[derive(Clone, Debug)]
struct Segment {
    name: String,
    /// The name as a number: 1, "1" and 1.0 are one segment.
    number: Option<f64>,
    monitor: Monitor,
}

/// How the segments of a model stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentsReport {
    /// The column that rows are told apart by.
    pub column: String,
    /// The worst state of any segment.
    pub state: State,
    /// Segments in warning or drift, the worst first.
    pub drifted: Vec<String>,
    /// All segments, `other` last.
    pub segments: Vec<SegmentReport>,
    /// Rows of no named segment, where there is no profile for them.
    pub unmonitored_rows: u64,
}

/// How one segment stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentReport {
    /// Value of the column, or `other`.
    pub name: String,
    /// Its comparison with its own profile.
    pub report: DriftReport,
}

impl Segments {
    /// Monitors of the `named` segments of `column`, and of all `other` rows if there is a profile of them.
    ///
    /// `settings.false_alarm_rate` is the budget of all together, per row of any. Whoever watches the whole model too divides
    /// his own between both.
    ///
    /// # Errors
    /// [`SegmentError`] for none or too many segments, names that are not their own, and profiles or settings that a
    /// monitor refuses.
    pub fn new(
        column: &str,
        named: &[(String, Profile)],
        other: Option<&Profile>,
        settings: Settings,
        now_unix_ms: i64,
    ) -> Result<Self, SegmentError> {
        if named.is_empty() || named.len() > MAX_SEGMENTS {
            return Err(SegmentError::Count {
                column: column.to_owned(),
                found: named.len(),
            });
        }
        let mut parts: Vec<Segment> = Vec::with_capacity(named.len() + 1);
        for (name, profile) in named {
            if name.is_empty() || name == OTHER || parts.iter().any(|s: &Segment| s.name == *name) {
                return Err(SegmentError::Name {
                    column: column.to_owned(),
                    name: name.clone(),
                });
            }
            parts.push(Segment::new(name, profile, settings, now_unix_ms)?);
        }
        if let Some(profile) = other {
            parts.push(Segment::new(OTHER, profile, settings, now_unix_ms)?);
        }
        Ok(Self {
            column: column.to_owned(),
            parts,
            unmonitored: 0,
        })
    }

    /// The column that rows are told apart by.
    pub fn column(&self) -> &str {
        &self.column
    }

    /// Names of the segments, by index.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.parts.iter().map(|segment| segment.name.as_str())
    }

    /// The segment of a row whose column holds this text; `None` for one that is not watched.
    pub fn of_text(&self, text: &[u8]) -> Option<usize> {
        let named = self
            .parts
            .iter()
            .position(|s| s.name.as_bytes() == text && s.name != OTHER);
        named.or_else(|| self.other())
    }

    /// The segment of a row whose column holds this number.
    pub fn of_number(&self, number: f64) -> Option<usize> {
        let named = self.parts.iter().position(|s| s.number == Some(number));
        named.or_else(|| self.other())
    }

    /// The monitor of a segment, to be told the row's values and its end.
    pub fn monitor_mut(&mut self, segment: usize) -> Option<&mut Monitor> {
        self.parts.get_mut(segment).map(|s| &mut s.monitor)
    }

    /// Counts a row that belongs to no segment.
    pub fn skip_row(&mut self) {
        self.unmonitored += 1;
    }

    /// How all segments stand, with what their open windows hold. Changes nothing.
    pub fn report(&self, now_unix_ms: i64) -> SegmentsReport {
        let segments: Vec<SegmentReport> = self
            .parts
            .iter()
            .map(|segment| SegmentReport {
                name: segment.name.clone(),
                report: segment.monitor.report(now_unix_ms),
            })
            .collect();
        let weight = |report: &DriftReport| report.ranking.iter().map(|c| c.weight * c.effect).sum::<f64>();
        let mut drifted: Vec<&SegmentReport> =
            segments.iter().filter(|s| s.report.state.level() > 0).collect();
        drifted.sort_by(|a, b| {
            let worse = b.report.state.level().cmp(&a.report.state.level());
            worse.then_with(|| weight(&b.report).total_cmp(&weight(&a.report)))
        });
        SegmentsReport {
            column: self.column.clone(),
            state: drifted
                .first()
                .map_or(State::Stable, |segment| segment.report.state),
            drifted: drifted.into_iter().map(|segment| segment.name.clone()).collect(),
            segments,
            unmonitored_rows: self.unmonitored,
        }
    }

    fn other(&self) -> Option<usize> {
        let last = self.parts.len().checked_sub(1)?;
        (self.parts.get(last)?.name == OTHER).then_some(last)
    }
}

impl Segment {
    fn new(
        name: &str,
        profile: &Profile,
        settings: Settings,
        now_unix_ms: i64,
    ) -> Result<Self, SegmentError> {
        let monitor =
            Monitor::new(profile, settings, now_unix_ms).map_err(|source| SegmentError::Monitor {
                name: name.to_owned(),
                source,
            })?;
        Ok(Self {
            name: name.to_owned(),
            number: name.parse().ok(),
            monitor,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SEGMENTS, OTHER, SegmentError, Segments};
    use crate::SplitMix64;
    use crate::monitor::Settings;
    use crate::profile::{Datatype, Kind, Profile};
    use crate::report::State;

    /// A profile with one feature around `centre`.
    fn profile(centre: f64) -> Profile {
        let mut builder = crate::SubjectBuilder::new("x", "x", 0, Datatype::Fp64, Kind::Numeric);
        let mut rng = SplitMix64::new(1);
        for _ in 0..4000 {
            builder.push_number(centre + rng.uniform());
        }
        let example = Profile::from_json(include_bytes!("../schema/example.profile.json")).expect("valid");
        Profile {
            data: crate::profile::DataInfo {
                rows: 4000,
                digest: None,
            },
            features: vec![builder.finish()],
            outputs: Vec::new(),
            importances: None,
            calibration: None,
            ..example
        }
    }

    fn segments() -> Segments {
        let named = [("1".to_owned(), profile(0.0)), ("two".to_owned(), profile(10.0))];
        Segments::new("country", &named, Some(&profile(20.0)), Settings::default(), 0).expect("valid")
    }

    /// Rows of the segments in turn, the second one's moved by `shift`.
    fn feed(segments: &mut Segments, rows: i64, shift: f64) {
        let mut rng = SplitMix64::new(2);
        for i in 0..rows {
            let (segment, centre) = match i % 3 {
                0 => (segments.of_number(1.0), 0.0),
                1 => (segments.of_text(b"two"), 10.0 + shift),
                _ => (segments.of_text(b"anywhere"), 20.0),
            };
            let x = centre + rng.uniform();
            let monitor = segments
                .monitor_mut(segment.expect("watched"))
                .expect("a segment");
            monitor.observe_number(0, x);
            if monitor.end_row() {
                monitor.close_window(i);
            }
        }
    }

    #[test]
    fn the_segment_that_drifts_is_told_and_the_others_are_not() {
        let mut segments = segments();
        feed(&mut segments, 9000, 0.0);
        let report = segments.report(0);
        assert_eq!(
            (report.state, report.drifted.len()),
            (State::Stable, 0),
            "each is like its own profile"
        );
        feed(&mut segments, 9000, 0.4);
        let report = segments.report(0);
        assert_eq!(
            (report.state, report.drifted),
            (State::Drift, vec!["two".to_owned()])
        );
        let rows: Vec<u64> = report.segments.iter().map(|s| s.report.rows_total).collect();
        assert_eq!(rows, [6000; 3]);
    }

    #[test]
    fn the_segments_share_one_budget() {
        let segments = segments();
        assert_eq!(segments.names().collect::<Vec<_>>(), ["1", "two", OTHER]);
        for segment in segments.report(0).segments {
            // Per row of the segment's own: what all may raise sums to the budget of all rows.
            assert_eq!(segment.report.gates.false_alarm_rate, 1e-6);
        }
    }

    #[test]
    fn rows_without_a_profile_are_counted() {
        let named = [("1".to_owned(), profile(0.0))];
        let mut segments = Segments::new("country", &named, None, Settings::default(), 0).expect("valid");
        assert_eq!(
            [
                segments.of_text(b"1"),
                segments.of_text(b"2"),
                segments.of_number(2.0)
            ],
            [Some(0), None, None]
        );
        segments.skip_row();
        assert_eq!(segments.report(0).unmonitored_rows, 1);
        assert_eq!(segments.column(), "country");
    }

    #[test]
    fn what_cannot_be_watched_is_refused() {
        let with = |names: &[&str]| {
            let named: Vec<_> = names
                .iter()
                .map(|name| ((*name).to_owned(), profile(0.0)))
                .collect();
            Segments::new("country", &named, None, Settings::default(), 0).map(|_| ())
        };
        assert!(matches!(with(&[]), Err(SegmentError::Count { found: 0, .. })));
        let many: Vec<String> = (0..=MAX_SEGMENTS).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(matches!(with(&many), Err(SegmentError::Count { found: 17, .. })));
        for names in [&["a", "a"][..], &[""], &[OTHER]] {
            assert!(matches!(with(names), Err(SegmentError::Name { .. })), "{names:?}");
        }
        let mut broken = profile(0.0);
        broken.format_version = 9;
        let named = [("a".to_owned(), broken)];
        let error = Segments::new("country", &named, None, Settings::default(), 0).expect_err("refused");
        assert_eq!(error.to_string(), "segment `a`");
    }
}
