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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::evidence::{Context, Source};
    use crate::report::validate::{Expected, Refused, check, parse};
    use crate::report::{FailureType, Findings, TriageFindings, Urgency};
    use crate::triage::{FailedJob, Pipeline, Scan};

    /// One failed job, whose log says that a test failed.
    fn context() -> Context {
        let mut scan = Scan::default();
        scan.line(7, "FAILED tests/test_a.py::test_b - assert 1 == 2");
        let found = scan.finish().detections;
        let mut context = Context::default();
        context.add(
            Source::Detections,
            "job unit: what the tools say",
            "7: FAILED tests/test_a.py::test_b - assert 1 == 2\n8: tests/test_a.py:41: AssertionError",
        );
        context.pipeline = Some(Pipeline {
            on_default_branch: false,
            jobs: vec![FailedJob::new("unit".to_owned(), None, None, found)],
        });
        context
    }

    fn answer(change: &Value) -> Value {
        let mut finding = json!({
            "title": "test_b fails", "explanation": "1 is not 2", "risk": "none",
            "fix": {"action": "change it", "file": "tests/test_a.py", "line": 41},
            "false_positive": {"verdict": "unlikely", "reason": "it is plain"},
            "priority": "P2", "confidence": 0.8,
            "evidence": [{"id": "E1", "quote": "FAILED tests/test_a.py::test_b"}],
        });
        for (name, value) in change.as_object().expect("fields") {
            finding[name] = value.clone();
        }
        json!({
            "summary": "a test fails", "failure_type": "test", "confidence": 0.8, "findings": [finding],
            "priority": "P2",
        })
    }

    fn checked(answer: &Value) -> Result<(TriageFindings, Vec<String>), Refused> {
        let mut findings = parse(Expected::Triage, &answer.to_string())?;
        let notes = check(&mut findings, &context(), Urgency::P2)?;
        match findings {
            Findings::Triage(findings) => Ok((findings, notes)),
            other => panic!("a triage, not {other:?}"),
        }
    }

    #[test]
    fn a_supported_answer_stays_as_it_is() {
        let (findings, notes) = checked(&answer(&json!({}))).expect("supported");
        assert_eq!(notes, Vec::<String>::new());
        let fix = &findings.findings[0].fix;
        assert_eq!(
            (fix.file.as_deref(), fix.line),
            (Some("tests/test_a.py"), Some(41))
        );
    }

    #[test]
    fn invented_files_and_lines_are_dropped() {
        for (fix, file, line, note) in [
            (
                json!({"action": "x", "file": "src/other.py", "line": 41}),
                None,
                None,
                "no fact names it",
            ),
            (
                json!({"action": "x", "file": "tests/test_a.py", "line": 4}),
                Some("tests/test_a.py"),
                None,
                "line 4 was dropped",
            ),
            (
                json!({"action": "x", "file": "a b", "line": 1}),
                None,
                None,
                "no fact names it",
            ),
            (json!({"action": "x", "line": 41}), None, None, "without a file"),
        ] {
            let (findings, notes) = checked(&answer(&json!({"fix": fix}))).expect("supported");
            let found = &findings.findings[0].fix;
            assert_eq!((found.file.as_deref(), found.line), (file, line), "{fix}");
            assert!(notes.iter().any(|said| said.contains(note)), "{fix}: {notes:?}");
        }
    }

    #[test]
    fn type_and_urgency_are_codes() {
        let mut flipped = answer(&json!({"priority": "P0"}));
        flipped["failure_type"] = json!("infrastructure");
        flipped["priority"] = json!("P0");
        let (findings, notes) = checked(&flipped).expect("supported");
        assert_eq!(findings.failure_type, FailureType::Test);
        assert_eq!(
            (findings.priority, findings.findings[0].priority),
            (Urgency::P2, Urgency::P2)
        );
        assert!(findings.confidence <= 0.6);
        assert_eq!(notes.len(), 4, "{notes:?}");
    }

    #[test]
    fn what_no_fact_supports_is_dropped_or_refused() {
        let invented = answer(&json!({"evidence": [{"id": "E9"}]}));
        assert!(matches!(checked(&invented), Err(Refused::Unsupported(_))));
        let mut two = answer(&json!({}));
        let second = invented["findings"][0].clone();
        two["findings"].as_array_mut().expect("findings").push(second);
        let (findings, notes) = checked(&two).expect("one is left");
        assert_eq!(findings.findings.len(), 1);
        assert!(
            notes.iter().any(|note| note.contains("no fact supports it")),
            "{notes:?}"
        );
        let quoted = answer(&json!({"evidence": [{"id": "E1", "quote": "all tests passed"}]}));
        let (findings, _) = checked(&quoted).expect("supported");
        assert_eq!(findings.findings[0].evidence[0].quote, None);
        assert!(findings.findings[0].confidence <= 0.6);
    }

    #[test]
    fn another_shape_is_refused() {
        let mut without = answer(&json!({}));
        without["findings"] = json!([]);
        assert!(matches!(checked(&without), Err(Refused::Count { .. })));
        let mut odd = answer(&json!({}));
        odd["failure_type"] = json!("cosmic_rays");
        assert!(matches!(checked(&odd), Err(Refused::Schema(_))));
    }
}
