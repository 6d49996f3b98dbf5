//! Past incidents of the same kind, as evidence: what was reported then, what was done, what came of it.

use std::fmt::Write as _;

use super::{InterventionKind, Measures};
use crate::report::{Findings, Report};
use crate::signal::rfc3339;
use crate::store::Past;
use crate::text::one_line;

/// Past incidents that become facts.
pub(crate) const MAX_PAST: usize = 3;
/// Time constant of their weight, in days: 93.8 % of recurrences come within 20 days (`RCACopilot`, `EuroSys` 2024).
const MEMORY_DAYS: f64 = 20.0;
const DAY: f64 = 86_400_000.0;

/// How much a past incident tells of one that began at `started_at`: the same key more than the same model, the same model
/// more than the same kind alone, and less the longer it is over.
fn weight(past: &Past, started_at: i64) -> f64 {
    let likeness = match (past.same_key, past.same_model) {
        (true, _) => 4.0,
        (false, true) => 2.0,
        (false, false) => 1.0,
    };
    let days = (started_at - past.started_at).max(0) as f64 / DAY;
    // What is known to have helped counts for more than silence.
    let known = if past
        .interventions
        .iter()
        .any(|done| done.outcome == "recovered" && done.kind != "none")
    {
        1.5
    } else {
        1.0
    };
    likeness * known * (-days / MEMORY_DAYS).exp()
}

/// The past incidents that tell most, best first.
pub(crate) fn best(mut past: Vec<Past>, started_at: i64) -> Vec<Past> {
    past.sort_by(|a, b| weight(b, started_at).total_cmp(&weight(a, started_at)));
    past.truncate(MAX_PAST);
    past
}

/// A past incident as a fact: title and content. All of it was redacted when it was stored.
pub(crate) fn fact(past: &Past, started_at: i64) -> (String, String) {
    let days = (started_at - past.started_at).max(0) as f64 / DAY;
    let mut lines = vec![
        format!("incident: {}, {}", past.id, one_line(&past.title, 160)),
        format!(
            "began: {}, {days:.1} days before this one",
            rfc3339(past.started_at)
        ),
    ];
    match past.resolved_at {
        Some(at) => lines.push(format!("lasted: {}", minutes(at - past.started_at))),
        None => lines.push("lasted: it is not over".to_owned()),
    }
    let report = past
        .report
        .as_deref()
        .and_then(|json| serde_json::from_str::<Report>(json).ok());
    if let Some(report) = &report {
        let (cause, confidence) = match &report.findings {
            Findings::Incident(found) => found
                .root_causes
                .first()
                .map(|cause| (cause.hypothesis.as_str(), cause.confidence)),
            Findings::Drift(found) => found
                .causes
                .first()
                .map(|cause| (cause.hypothesis.as_str(), cause.confidence)),
            Findings::Triage(found) => found
                .findings
                .first()
                .map(|finding| (finding.explanation.as_str(), finding.confidence)),
        }
        .unwrap_or(("none", 0.0));
        lines.push(format!(
            "cause reported: {} (confidence {confidence:.2})",
            one_line(cause, 240)
        ));
    }
    for done in &past.interventions {
        let what = InterventionKind::title_of(&done.kind);
        let mut line = format!("done: {what}");
        if !done.note.is_empty() {
            let _ = write!(line, " ({})", one_line(&done.note, 160));
        }
        let came = match (done.outcome.as_str(), past.resolved_at) {
            ("recovered", Some(at)) if done.kind != "none" => {
                format!("recovered {} later", minutes(at - done.at))
            }
            ("recovered", _) => "recovered by itself".to_owned(),
            ("persisted", _) => "did not help".to_owned(),
            _ => "not judged yet".to_owned(),
        };
        let _ = write!(line, ": {came}");
        let compared = Measures::from_json(&done.before).compare(&Measures::from_json(&done.after));
        if !compared.is_empty() {
            let _ = write!(line, "; {compared}");
        }
        lines.push(line);
    }
    if past.useful + past.wrong_cause > 0 {
        lines.push(format!(
            "people said: the report was useful {}, named a wrong cause {}",
            past.useful, past.wrong_cause
        ));
    }
    (format!("past incident {}", past.id), lines.join("\n"))
}

fn minutes(millis: i64) -> String {
    let minutes = millis.max(0) as f64 / 60_000.0;
    if minutes < 90.0 {
        format!("{minutes:.0} min")
    } else {
        format!("{:.1} h", minutes / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Done;

    fn past(id: &str, same_key: bool, same_model: bool, days_before: i64) -> Past {
        Past {
            id: id.to_owned(),
            title: "ErrorRate: a".to_owned(),
            started_at: 1_000 * 86_400_000 - days_before * 86_400_000,
            resolved_at: Some(1_000 * 86_400_000 - days_before * 86_400_000 + 30 * 60_000),
            report: None,
            same_key,
            same_model,
            interventions: Vec::new(),
            useful: 0,
            wrong_cause: 0,
        }
    }

    fn done(kind: &str, outcome: &str) -> Done {
        Done {
            kind: kind.to_owned(),
            actor: "ana".to_owned(),
            note: "image 7 again".to_owned(),
            at: 0,
            before: r#"{"latency p99, s": 0.8}"#.to_owned(),
            after: r#"{"latency p99, s": 0.05}"#.to_owned(),
            outcome: outcome.to_owned(),
        }
    }

    #[test]
    fn the_most_alike_and_the_newest_come_first() {
        let now = 1_000 * 86_400_000;
        let list = vec![
            past("old-same", true, true, 60),
            past("kind", false, false, 1),
            past("same", true, true, 5),
            past("model", false, true, 2),
        ];
        let ids: Vec<String> = best(list, now).into_iter().map(|past| past.id).collect();
        assert_eq!(ids, ["same", "model", "kind"]);
        let mut helped = past("helped", false, true, 4);
        helped.interventions.push(done("rollback", "recovered"));
        let ids: Vec<String> = best(vec![past("model", false, true, 2), helped], now)
            .into_iter()
            .map(|past| past.id)
            .collect();
        assert_eq!(ids, ["helped", "model"]);
    }

    #[test]
    fn a_fact_tells_what_helped() {
        let now = 1_000 * 86_400_000;
        let mut past = past("abc", true, true, 12);
        let mut rollback = done("rollback", "recovered");
        rollback.at = past.started_at + 18 * 60_000;
        past.interventions = vec![done("fix", "persisted"), rollback];
        past.useful = 2;
        let (title, content) = fact(&past, now);
        assert_eq!(title, "past incident abc");
        for expected in [
            "12.0 days before this one",
            "lasted: 30 min",
            "done: fixed (image 7 again): did not help",
            "done: rolled back (image 7 again): recovered 12 min later; latency p99, s 0.8 → 0.05",
            "the report was useful 2, named a wrong cause 0",
        ] {
            assert!(content.contains(expected), "{expected}: {content}");
        }
    }
}
