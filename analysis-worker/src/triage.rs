//! What a failed pipeline says about itself, read by code.
//!
//! `rules` know the lines that tools write when they fail. `scan` goes through a job's log with them and keeps what
//! they detect, with the file and line that the tool names. `classify` decides from that, and from the names of job
//! and step, which kind of failure it is. `sarif` and `junit` read
//! reports. Nothing is asked of anybody here.

mod classify;
mod junit;
mod rules;
mod sarif;
mod scan;

use std::fmt::Write as _;

use crate::report::{FailureType, Urgency};

pub(crate) use classify::Classified;
use classify::classify;
pub(crate) use scan::{Scan, Scanned};

/// Detections of a job that are kept.
const MAX_DETECTIONS: usize = 40;

/// Reads the report of a scanner (SARIF) or of a test tool (`JUnit`'s XML).
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_report(text: &str) -> Result<Vec<Detection>, String> {
    if text.trim_start_matches('\u{feff}').trim_start().starts_with('<') {
        junit::read(text)
    } else {
        sarif::read(text)
    }
}

/// A failed run, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pipeline {
    /// Whether it ran on the default branch.
    pub(crate) on_default_branch: bool,
    /// In the order in which they ran.
    pub(crate) jobs: Vec<FailedJob>,
}

/// A failed job and what is seen in its log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FailedJob {
    pub(crate) name: String,
    /// The step that failed first.
    pub(crate) step: Option<String>,
    pub(crate) classified: Classified,
    /// Those of its type first, the strongest of them first.
    pub(crate) detections: Vec<Detection>,
    /// Id of the fact that has its log.
    pub(crate) log: Option<String>,
}

/// A line by which a tool says what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Detection {
    pub(crate) kind: FailureType,
    /// Which tool writes so.
    pub(crate) tool: String,
    /// 1 to 10: how surely such a line means that this is why the job failed.
    pub(crate) weight: u8,
    /// The test, rule, package or resource.
    pub(crate) subject: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
    /// What the tool says.
    pub(crate) message: Option<String>,
    /// `critical`, `high`, …, in lower case, where the tool says so.
    pub(crate) severity: Option<String>,
    /// A version without the weakness.
    pub(crate) fixed_in: Option<String>,
    /// Line of the log, from 1.
    pub(crate) number: usize,
    /// That line without its time.
    pub(crate) quote: String,
    /// Whether it stands in a step that failed.
    pub(crate) in_failed_step: bool,
    /// Id of the fact that has the line.
    pub(crate) fact: Option<String>,
}

impl Pipeline {
    /// The job that decides what kind of failure the run is: the most certain one, the first of equals.
    pub(crate) fn deciding(&self) -> Option<&FailedJob> {
        let known = self
            .jobs
            .iter()
            .filter(|job| job.classified.kind != FailureType::Unknown);
        known
            .rev()
            .max_by_key(|job| job.classified.score)
            .or(self.jobs.first())
    }

    /// The kind of failure of the run.
    pub(crate) fn kind(&self) -> FailureType {
        self.deciding()
            .map_or(FailureType::Unknown, |job| job.classified.kind)
    }

    /// How soon somebody has to act.
    ///
    /// P0: a credential is out. P1: something critical, or the default branch is red by the code itself.
    pub(crate) fn urgency(&self) -> Urgency {
        let worst = self
            .jobs
            .iter()
            .flat_map(|job| {
                job.detections
                    .iter()
                    .filter(|detection| detection.kind == job.classified.kind)
                    .map(Detection::urgency)
            })
            .min();
        let red = if self.on_default_branch && self.kind() != FailureType::Infrastructure {
            Urgency::P1
        } else {
            Urgency::P2
        };
        worst.map_or(red, |worst| worst.min(red))
    }
}

impl FailedJob {
    /// Decides what kind of failure it is, and ranks what is detected by that.
    pub(crate) fn new(
        name: String,
        step: Option<String>,
        command: Option<&str>,
        mut detections: Vec<Detection>,
    ) -> Self {
        let called = [step.as_deref(), command]
            .map(Option::unwrap_or_default)
            .join(" ");
        let classified = classify(&detections, Some(&name), Some(&called));
        detections.sort_by_key(|detection| {
            std::cmp::Reverse((
                detection.kind == classified.kind,
                detection.in_failed_step,
                detection.weight,
            ))
        });
        detections.truncate(MAX_DETECTIONS);
        Self {
            name,
            step: step.or_else(|| command.map(str::to_owned)),
            classified,
            detections,
            log: None,
        }
    }
}

impl Detection {
    /// How soon somebody has to act on this alone.
    pub(crate) fn urgency(&self) -> Urgency {
        let critical = self.severity.as_deref() == Some("critical");
        match self.kind {
            FailureType::Secret => Urgency::P0,
            FailureType::SecuritySast | FailureType::SecuritySca | FailureType::ContainerCve if critical => {
                Urgency::P1
            }
            FailureType::Deployment => Urgency::P1,
            _ => Urgency::P2,
        }
    }

    /// The line, as the facts have it.
    pub(crate) fn shown(&self) -> String {
        let mut shown = self.quote.clone();
        if self.number > 0 {
            shown = format!("{}: {shown}", self.number);
        }
        // Where the file stands in another line.
        if let Some(file) = &self.file
            && !self.quote.contains(file.as_str())
        {
            shown.push_str("\n    in ");
            shown.push_str(file);
            if let Some(line) = self.line {
                let _ = write!(shown, ":{line}");
            }
        }
        shown
    }
}
