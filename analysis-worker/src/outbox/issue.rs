//! What is written on GitHub: the issue of an incident, and the comments on it.

use std::fmt::Write as _;

use crate::drift::{DriftSubject, percent};
use crate::github::{NewIssue, marker};
use crate::report::markdown::inline;
use crate::slack::message::{self, Links};
use crate::store::Told;
use crate::text::one_line;

/// Kind of the marker in every text.
const KIND: &str = "effect";
/// Subjects whose bins are shown; the report has all of them.
const SUBJECTS: usize = 6;
/// Bins of one subject.
const BINS: usize = 18;

/// The line by which a text is found again.
pub(super) fn marker_of(key: &str) -> String {
    marker(KIND, key)
}

/// The issue of an incident: the plots of what drifted, and the whole report.
///
/// GitHub takes no uploads through its API, so a plot is an address of the console, and its bins are a table besides.
pub(super) fn issue(told: &Told, key: &str, links: &Links) -> NewIssue {
    let report = &told.report;
    let mut body = format!("{}\n\n", marker_of(key));
    if let Some(url) = links.incident(&told.incident.id) {
        let _ = writeln!(body, "[Incident {} in the console]({url})\n", told.incident.id);
    }
    if let Some(at) = &told.incident.resolved_at {
        let _ = writeln!(
            body,
            "The signals have stopped at {at}. A person closes this issue.\n"
        );
    }
    body.push_str(&plots(told, links));
    body.push_str(&told.markdown);
    NewIssue {
        title: inline(&one_line(
            &format!("{} {}", report.urgency.as_str(), told.incident.title),
            200,
        )),
        body,
        labels: vec![format!("urgency/{}", report.urgency.as_str())],
    }
}

/// A further report.
pub(super) fn revision(told: &Told, key: &str, links: &Links) -> String {
    let report = &told.report;
    let mut body = format!("{}\n\n", marker_of(key));
    let _ = writeln!(
        body,
        "Revision {} of the report: {}\n",
        report.revision,
        inline(report.findings.summary())
    );
    if let Some(url) = links.incident(&told.incident.id) {
        let _ = writeln!(body, "[Incident {} in the console]({url})\n", told.incident.id);
    }
    body.push_str(&plots(told, links));
    body.push_str(&told.markdown);
    body
}

/// The end of an incident. Whether the issue is done with is for a person to say.
pub(super) fn recovered(told: &Told, key: &str) -> String {
    format!(
        "{}\n\n{} The issue stays open until a person closes it.\n",
        marker_of(key),
        message::recovery(told)
    )
}

/// Reference against now, of the subjects that moved most.
fn plots(told: &Told, links: &Links) -> String {
    let mut text = String::new();
    let Some(drift) = &told.report.drift else {
        return text;
    };
    let affected: Vec<(usize, &DriftSubject)> = drift
        .affected()
        .filter(|subject| !subject.bins.is_empty())
        .enumerate()
        .take(SUBJECTS)
        .collect();
    if affected.is_empty() {
        return text;
    }
    let _ = writeln!(
        text,
        "## Reference and now\n\n{} rows of the reference, {} rows now.\n",
        drift.reference_rows, drift.rows
    );
    for (index, subject) in affected {
        let name = inline(&subject.name);
        let _ = writeln!(text, "### {name}\n");
        let path = format!(
            "/incidents/{}/plots/{}/{index}.svg",
            told.incident.id, told.report.revision
        );
        if let Some(url) = links.page(&path) {
            let _ = writeln!(text, "[![plot]({url})]({url})\n");
        }
        let _ = writeln!(text, "| bin | reference | now |\n| --- | ---: | ---: |");
        for bin in subject.bins.iter().take(BINS) {
            let label = inline(&one_line(&bin.label, 60));
            let _ = writeln!(
                text,
                "| {label} | {} | {} |",
                percent(bin.reference),
                percent(bin.now)
            );
        }
        match subject.bins.len().saturating_sub(BINS) {
            0 => {}
            more => {
                let _ = writeln!(text, "| {more} more | | |");
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::for_test::told;

    fn links() -> Links {
        Links {
            console: Some("https://plumbline.example/".parse().expect("a URL")),
            buttons: false,
        }
    }

    #[test]
    fn an_issue_has_marker_plots_and_report() {
        let issue = issue(&told(), "k1", &links());
        assert!(
            issue.body.starts_with("<!-- plumbline:effect:k1 -->\n"),
            "{}",
            issue.body
        );
        for expected in [
            "(https://plumbline.example/incidents/0123456789ab)",
            "(https://plumbline.example/incidents/0123456789ab/plots/1/0.svg)",
            "| Month-to-month | 55.0 % | 91.0 % |",
            "# the whole report",
        ] {
            assert!(issue.body.contains(expected), "{expected}: {}", issue.body);
        }
        assert_eq!(issue.labels, ["urgency/P0"]);
        assert_eq!(issue.title, "P0 churn: Contract drifted");
    }

    #[test]
    fn names_from_outside_do_not_act() {
        let mut told = told();
        told.incident.title = "fixes #12 @everyone".to_owned();
        let drift = told.report.drift.as_mut().expect("a comparison");
        drift.subjects[0].name = "@security [x](http://evil.example)".to_owned();
        drift.subjects[0].bins[0].label = "a | b <!-- plumbline:effect:k2 -->".to_owned();
        let issue = issue(&told, "k1", &links());
        assert_eq!(issue.title, "P0 fixes `#12` `@everyone`");
        assert!(
            issue.body.contains("### `@security` `[x](http://evil.example)`"),
            "{}",
            issue.body
        );
        assert!(
            issue
                .body
                .contains("| a \\| b &lt;\\!-- plumbline:effect:k2 --&gt; |"),
            "{}",
            issue.body
        );
        assert_eq!(issue.body.matches("<!--").count(), 1, "one marker: ours");
    }

    #[test]
    fn a_recovery_leaves_the_issue_open() {
        let mut told = told();
        told.incident.resolved_at = Some("2026-11-22T23:00:00Z".to_owned());
        told.reopened = 2;
        let text = recovered(&told, "k");
        assert!(
            text.contains("no signal fires since 2026-11-22T23:00:00Z. It came back 2 times before."),
            "{text}"
        );
        assert!(text.contains("stays open"), "{text}");
    }
}
