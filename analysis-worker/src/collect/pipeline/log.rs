//! One log: what the tools say in it, and as much of it as the budget allows.

use std::fmt::Write as _;

use plumbline_log_fitting::{Baseline, Fitter};

use crate::collect::logs;
use crate::redact::Redaction;
use crate::text::{one_line, sanitise};
use crate::triage::{Scan, Scanned};

/// The text of a log.
#[derive(Debug, Default)]
pub(super) struct JobText {
    pub(super) text: String,
    /// Bytes before it.
    pub(super) skipped: u64,
    /// The log of the same job when it was green.
    pub(super) good: Option<String>,
}

/// What a log gives.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) scanned: Scanned,
    pub(super) title: String,
    pub(super) content: String,
}

impl Reading {
    /// Reads a log into `budget` tokens; `annotations` are what the runner says about the job besides.
    pub(super) fn of(
        text: &JobText,
        annotations: &[String],
        budget: usize,
        redaction: &mut Redaction,
    ) -> Self {
        let baseline = text.good.as_ref().map(|good| {
            let good = logs::lines(good, 0, redaction);
            good.iter().collect::<Baseline>()
        });
        let beside = if baseline.is_some() {
            ", beside the last green run's"
        } else {
            ""
        };
        let mut scan = Scan::default();
        for annotation in annotations {
            scan.annotation(&redaction.text(&sanitise(annotation)));
        }
        let mut fitter = Fitter::new(baseline);
        for line in logs::lines(&text.text, text.skipped, redaction) {
            scan.line(line.number, line.body());
            fitter.add(line);
        }
        let fitted = fitter.fit(budget);
        let mut content = fitted.text;
        if text.skipped > 0 {
            let _ = writeln!(
                content,
                "the first {} bytes of the log were not read",
                text.skipped
            );
        }
        for (template, count) in &fitted.left_out {
            let _ = writeln!(content, "left out {count} times: {}", one_line(template, 160));
        }
        Self {
            scanned: scan.finish(),
            title: format!("{} of {} lines{beside}", fitted.kept, fitted.lines),
            content,
        }
    }
}
