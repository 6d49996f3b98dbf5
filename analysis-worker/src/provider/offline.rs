//! Findings by code, from the evidence alone: what is known without asking a language model.
//!
//! The hypotheses are the usual ones, ranked by what the figures say for them; nothing is claimed that a fact does not
//! show. The result goes through the same validation as a model's answer.

mod alert;
mod cluster;
mod drift;
mod triage;

use plumbline_log_fitting::{Line, Mark};

use super::Case;
use crate::evidence::{Evidence, Source};
use crate::report::validate::Expected;
use crate::report::{Citation, Findings};

/// Analyses.
pub(crate) fn analyse(case: &Case) -> Findings {
    match case.expected() {
        Expected::Drift => Findings::Drift(drift::analyse(case)),
        Expected::Incident => Findings::Incident(alert::analyse(case)),
        Expected::Triage => Findings::Triage(triage::analyse(case)),
    }
}

/// The line that stands out most among the numbered lines of the facts of some sources; the last one of equals, since what came
/// before may have been survived.
fn worst_line(case: &Case, wanted: impl Fn(Source) -> bool) -> Option<(&Evidence, &str)> {
    let facts = case.context.evidence.iter().filter(|fact| wanted(fact.source));
    let worst = facts
        .flat_map(|fact| fact.content.lines().map(move |line| (fact, line)))
        .filter_map(|(fact, line)| {
            let (_, text) = line
                .split_once(": ")
                .filter(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()))?;
            let mark = Line::parse(1, text, text.len()).mark;
            (mark >= Mark::Suspect).then_some((mark, fact, text))
        })
        .max_by_key(|(mark, ..)| *mark);
    worst.map(|(_, fact, text)| (fact, text))
}

/// What a past incident of the kind says: what it was, and what helped.
struct Remembered {
    hypothesis: String,
    evidence: Vec<Citation>,
    /// What was done then.
    action: String,
}

/// The first past incident in which something is known to have helped.
fn remembered(case: &Case) -> Option<Remembered> {
    let facts = case.context.evidence.iter();
    facts
        .filter(|fact| fact.source == Source::PastIncident)
        .find_map(|fact| {
            let mut lines = fact.content.lines();
            let helped = lines.find(|line| line.starts_with("done: ") && line.contains(": recovered "))?;
            let action = helped.trim_start_matches("done: ").split(": recovered").next()?;
            if action.starts_with("nothing") {
                return None;
            }
            let cause = fact
                .content
                .lines()
                .find_map(|line| line.strip_prefix("cause reported: "))
                .and_then(|line| line.rsplit_once(" (confidence"))
                .map_or("what it was then was not reported", |(cause, _)| cause);
            let incident = fact.title.trim_start_matches("past incident ");
            Some(Remembered {
                hypothesis: format!("The same as in incident {incident}: {cause}"),
                evidence: cite(case, &fact.id, |line| line == helped).into_iter().collect(),
                action: format!("as then: {action}"),
            })
        })
}

/// Cites a fact with the first of its lines that `wanted` accepts, or without a quote.
fn cite(case: &Case, id: &str, wanted: impl Fn(&str) -> bool) -> Option<Citation> {
    let fact = case.context.get(id)?;
    let line = fact.content.lines().map(str::trim).find(|line| wanted(line));
    let quote = line
        .map(|line| crate::text::prefix(line, 240).trim().to_owned())
        .filter(|quote| quote.chars().filter(|c| c.is_alphanumeric()).count() >= 2);
    Some(Citation {
        id: fact.id.clone(),
        quote,
    })
}
