//! What was to hold, and whether it does.

use std::fmt::Write as _;
use std::io::Write as _;

use plumbline_load_tests::ratio::Verdict;
use plumbline_load_tests::table::Table;

/// What came of a part.
pub(crate) struct Found {
    pub(crate) title: String,
    pub(crate) goals: Vec<Goal>,
    /// How it was measured, and the figures.
    pub(crate) text: String,
}

/// One goal.
pub(crate) struct Goal {
    pub(crate) what: String,
    /// In words, such as `≤ 1.3`.
    pub(crate) bound: &'static str,
    pub(crate) found: String,
    pub(crate) verdict: Verdict,
    /// It holds on any machine, however busy: a count that no race decides, not a time.
    pub(crate) exact: bool,
}

impl Goal {
    /// That none of so many requests fails.
    pub(crate) fn no_failure(what: String, requests: u64, failed: u64) -> Self {
        Self {
            what,
            bound: "0 failed",
            found: format!("{failed} of {requests} failed"),
            verdict: verdict(failed == 0 && requests > 0),
            exact: true,
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        !self.exact || self.verdict == Verdict::Met
    }
}

pub(crate) fn verdict(met: bool) -> Verdict {
    if met { Verdict::Met } else { Verdict::Missed }
}

/// For whoever waits.
pub(crate) fn progress(text: &str) {
    let _closed_pipe = writeln!(std::io::stderr(), "{text}");
}

/// All of it, the goals first.
pub(crate) fn report(found: &[Found], told: &str) -> String {
    let mut table = Table::new(&["what", "goal", "found", ""]);
    for goal in found.iter().flat_map(|part| &part.goals) {
        table.row(&[
            goal.what.clone(),
            goal.bound.to_owned(),
            goal.found.clone(),
            goal.verdict.to_string(),
        ]);
    }
    let mut text = format!("# Faults around the gateway\n\n{told}\n\n{}", table.text());
    for part in found {
        let _never = write!(text, "\n## {}\n\n{}", part.title, part.text);
    }
    text
}
