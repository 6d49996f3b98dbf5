//! Checks findings about a failed pipeline.

use super::{CAP_CITED, CAP_QUOTED, Checker, Refused, clean};
use crate::report::{FailureType, Fix, TriageFindings, Urgency};

impl Checker<'_> {
    pub(super) fn triage(&mut self, findings: &mut TriageFindings, urgency: Urgency) -> Result<(), Refused> {
        clean(&mut findings.summary);
        for finding in &mut findings.findings {
            clean(&mut finding.title);
            clean(&mut finding.explanation);
            clean(&mut finding.risk);
            clean(&mut finding.false_positive.reason);
            let cap = self.citations(&mut finding.evidence);
            self.cap(&mut finding.confidence, cap, &finding.title);
            self.fix(&mut finding.fix);
            if finding.priority < urgency {
                self.note(format!(
                    "a finding was given {}; what is known makes the failure {}",
                    finding.priority.as_str(),
                    urgency.as_str()
                ));
                finding.priority = urgency;
            }
        }
        self.drop_unsupported(
            &mut findings.findings,
            |finding| &finding.evidence,
            |finding| &mut finding.title,
        )?;
        findings.findings.sort_by(|a, b| {
            a.priority
                .cmp(&b.priority)
                .then(b.confidence.total_cmp(&a.confidence))
        });
        self.failure_type(findings);
        if findings.priority != urgency {
            self.note(format!(
                "the answer asked for {}; what is known makes it {}",
                findings.priority.as_str(),
                urgency.as_str()
            ));
            findings.priority = urgency;
        }
        Ok(())
    }

    /// Code decides the type where it knows one; it has seen the whole log.
    fn failure_type(&mut self, findings: &mut TriageFindings) {
        let known = self
            .context
            .pipeline
            .as_ref()
            .map_or(FailureType::Unknown, crate::triage::Pipeline::kind);
        if known == FailureType::Unknown {
            let cap = if findings.failure_type == FailureType::Unknown {
                CAP_QUOTED
            } else {
                CAP_CITED
            };
            self.cap(&mut findings.confidence, cap, "the type of failure");
        } else if findings.failure_type != known {
            self.note(format!(
                "the answer called it {}; the log and the names of job and step make it {}",
                findings.failure_type.as_str(),
                known.as_str()
            ));
            findings.failure_type = known;
            self.cap(&mut findings.confidence, CAP_CITED, "the type of failure");
        } else {
            self.cap(&mut findings.confidence, CAP_QUOTED, "the type of failure");
        }
    }

    /// A file and a line that no fact names are invented.
    fn fix(&mut self, fix: &mut Fix) {
        clean(&mut fix.action);
        let Some(mut file) = fix.file.take() else {
            if fix.line.take().is_some() {
                self.note("a line without a file was dropped".to_owned());
            }
            return;
        };
        clean(&mut file);
        let contents = || {
            let facts = self.context.evidence.iter();
            facts.flat_map(|fact| [fact.title.as_str(), fact.content.as_str()])
        };
        let is_path = file.len() >= 3 && !file.contains(char::is_whitespace);
        if !is_path || !contents().any(|content| content.contains(file.as_str())) {
            self.note("a file to change was dropped: no fact names it".to_owned());
            fix.line = None;
            return;
        }
        if let Some(line) = fix.line {
            let named = contents()
                .flat_map(str::lines)
                .any(|text| text.contains(file.as_str()) && names_line(text, &file, line));
            if !named {
                self.note(format!("line {line} was dropped: no fact names it with its file"));
                fix.line = None;
            }
        }
        fix.file = Some(file);
    }
}

/// Whether a text has the number, whole, after the file.
fn names_line(text: &str, file: &str, line: u32) -> bool {
    let after = text.split_once(file).map_or("", |(_, after)| after);
    after
        .split(|c: char| !c.is_ascii_digit())
        .any(|number| number.parse() == Ok(line))
}
