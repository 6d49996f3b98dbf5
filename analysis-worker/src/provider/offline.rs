//! Findings by code, from the evidence alone: what is known without asking a language model.
//!
//! The hypotheses are the usual ones, ranked by what the figures say for them; nothing is claimed that a fact does not
//! show. The result goes through the same validation as a model's answer.

mod alert;
mod cluster;
mod drift;

use super::Case;
use crate::report::validate::Expected;
use crate::report::{Citation, Findings};

/// Analyses.
pub(crate) fn analyse(case: &Case) -> Findings {
    match case.expected() {
        Expected::Drift => Findings::Drift(drift::analyse(case)),
        Expected::Incident => Findings::Incident(alert::analyse(case)),
    }
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
