//! Checks a provider's answer before anyone sees it.
//!
//! Schema and ranges first: an answer that fails there is refused whole. Then every claim: a citation must name a fact
//! that exists, a quote must stand in it word for word, a cause without either is dropped or marked, and confidence is
//! capped by what the evidence carries. A model's wording cannot raise what code has decided.

mod command;
mod triage;

use serde::{Deserialize, Serialize};

use super::{
    Affected, Cause, Citation, DriftFindings, DriftKind, Findings, IncidentFindings, TriageFindings, Urgency,
};
use crate::drift::State;
use crate::evidence::Context;
use crate::text::{one_line, sanitise};

/// Highest confidence of a claim with a verified quote: nothing is certain before a person has looked.
pub(crate) const CAP_QUOTED: f64 = 0.9;
/// Highest confidence of a claim that names facts without quoting them.
pub(crate) const CAP_CITED: f64 = 0.6;
/// Highest confidence of a claim without a fact.
pub(crate) const CAP_UNSUPPORTED: f64 = 0.2;

/// Most characters of a paragraph; longer ones are cut.
const MAX_TEXT: usize = 1_500;

/// What validation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The answer is shown as it came.
    Valid,
    /// Code dropped, marked or capped something; the notes say what.
    Corrected,
    /// The first answer was refused, the second one was taken.
    Repaired,
}

impl Outcome {
    /// As JSON spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Corrected => "corrected",
            Self::Repaired => "repaired",
        }
    }
}

/// Why an answer is refused; sent back for the one repair attempt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the answer is not the JSON that was asked for: {0}")]
    Schema(String),
    #[error("{field} = {value} is outside 0 to 1")]
    Range { field: &'static str, value: String },
    #[error("{field}: {count} items, expected {min} to {max}")]
    Count {
        field: &'static str,
        count: usize,
        min: usize,
        max: usize,
    },
    #[error("no cause cites a fact that exists; the facts are {0}")]
    Unsupported(String),
}

/// Which findings are expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Incident,
    Drift,
    Triage,
}

/// Reads an answer and checks its shape and ranges.
///
/// # Errors
/// [`Refused`], naming the first thing that is wrong.
pub(crate) fn parse(expected: Expected, text: &str) -> Result<Findings, Refused> {
    let text = without_fence(text);
    match expected {
        Expected::Incident => {
            let findings: IncidentFindings = typed(text)?;
            count("root_causes", findings.root_causes.len(), 1, 3)?;
            for cause in &findings.root_causes {
                range("root_causes.confidence", cause.confidence)?;
            }
            Ok(Findings::Incident(findings))
        }
        Expected::Drift => {
            let findings: DriftFindings = typed(text)?;
            range("confidence", findings.confidence)?;
            count("affected", findings.affected.len(), 0, 20)?;
            count("causes", findings.causes.len(), 1, 6)?;
            count("remediation", findings.remediation.len(), 1, 5)?;
            count("action_items", findings.action_items.len(), 0, 8)?;
            for cause in &findings.causes {
                range("causes.confidence", cause.confidence)?;
            }
            Ok(Findings::Drift(findings))
        }
        Expected::Triage => {
            let findings: TriageFindings = typed(text)?;
            range("confidence", findings.confidence)?;
            count("findings", findings.findings.len(), 1, 10)?;
            for finding in &findings.findings {
                range("findings.confidence", finding.confidence)?;
            }
            Ok(Findings::Triage(findings))
        }
    }
}

pub(crate) fn typed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Refused> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| Refused::Schema(one_line(&error.to_string(), 300)))?;
    reader
        .end()
        .map_err(|error| Refused::Schema(format!("text after the document: {error}")))?;
    Ok(value)
}

/// Some models fence what was asked for plain.
fn without_fence(text: &str) -> &str {
    let text = text.trim();
    let fenced = text
        .strip_prefix("```json")
        .or_else(|| text.strip_prefix("```"))
        .and_then(|rest| rest.strip_suffix("```"));
    fenced.unwrap_or(text).trim()
}

fn range(field: &'static str, value: f64) -> Result<(), Refused> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        let value = value.to_string();
        Err(Refused::Range { field, value })
    }
}

fn count(field: &'static str, count: usize, min: usize, max: usize) -> Result<(), Refused> {
    if (min..=max).contains(&count) {
        Ok(())
    } else {
        Err(Refused::Count {
            field,
            count,
            min,
            max,
        })
    }
}

/// Holds every claim against the evidence and returns what was changed, one line each.
///
/// `urgency` is what code decided; the model's own stays visible only as a note.
///
/// # Errors
/// [`Refused::Unsupported`] when no cause is left that cites a fact.
pub(crate) fn check(
    findings: &mut Findings,
    context: &Context,
    urgency: Urgency,
) -> Result<Vec<String>, Refused> {
    let mut checker = Checker {
        context,
        notes: Vec::new(),
    };
    match findings {
        Findings::Incident(findings) => checker.incident(findings)?,
        Findings::Drift(findings) => checker.drift(findings, urgency)?,
        Findings::Triage(findings) => checker.triage(findings, urgency)?,
    }
    Ok(checker.notes)
}

/// Drops citations of facts that do not exist and quotes that are not there; returns the confidence that the rest can carry.
pub(crate) fn cited(context: &Context, citations: &mut Vec<Citation>) -> f64 {
    let mut checker = Checker {
        context,
        notes: Vec::new(),
    };
    checker.citations(citations)
}

struct Checker<'a> {
    context: &'a Context,
    notes: Vec<String>,
}

impl Checker<'_> {
    fn incident(&mut self, findings: &mut IncidentFindings) -> Result<(), Refused> {
        clean(&mut findings.summary);
        for cause in &mut findings.root_causes {
            clean(&mut cause.hypothesis);
            clean(&mut cause.remediation.action);
            let cap = self.citations(&mut cause.evidence);
            self.cap(&mut cause.confidence, cap, &cause.hypothesis);
            if let Some(command) = cause.remediation.command.take() {
                match command::read_only(&command) {
                    Ok(command) => cause.remediation.command = Some(command),
                    Err(reason) => self.note(format!("a command was removed: {reason}")),
                }
            }
        }
        self.drop_unsupported(
            &mut findings.root_causes,
            |cause| &cause.evidence,
            |cause| &mut cause.hypothesis,
        )?;
        findings
            .root_causes
            .sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        Ok(())
    }

    fn drift(&mut self, findings: &mut DriftFindings, urgency: Urgency) -> Result<(), Refused> {
        clean(&mut findings.summary);
        let before = findings.affected.len();
        for affected in &mut findings.affected {
            clean(&mut affected.subject);
            clean(&mut affected.finding);
            self.citations(&mut affected.evidence);
        }
        findings
            .affected
            .retain(|affected: &Affected| !affected.evidence.is_empty());
        match before - findings.affected.len() {
            0 => {}
            dropped => self.note(format!(
                "{dropped} affected subjects were dropped: no fact shows them"
            )),
        }
        for cause in &mut findings.causes {
            clean(&mut cause.hypothesis);
            let cap = self.citations(&mut cause.evidence);
            self.cap(&mut cause.confidence, cap, &cause.hypothesis);
        }
        self.drop_unsupported(
            &mut findings.causes,
            |cause: &Cause| &cause.evidence,
            |cause| &mut cause.hypothesis,
        )?;
        findings
            .causes
            .sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        for remedy in &mut findings.remediation {
            clean(&mut remedy.rationale);
        }
        findings.action_items.iter_mut().for_each(clean);
        let drifts = self
            .context
            .drift
            .as_ref()
            .is_some_and(|drift| drift.state == State::Drift);
        if findings.kind == DriftKind::None && drifts {
            findings.kind = DriftKind::DataDrift;
            findings.confidence = CAP_CITED.min(findings.confidence);
            self.note("the answer said that there is no drift; the statistics say otherwise".to_owned());
        }
        let cap = if findings.affected.is_empty() {
            CAP_CITED
        } else {
            CAP_QUOTED
        };
        self.cap(&mut findings.confidence, cap, "the kind of drift");
        if findings.urgency != urgency {
            self.note(format!(
                "the answer asked for {}; the signals make it {}",
                findings.urgency.as_str(),
                urgency.as_str()
            ));
            findings.urgency = urgency;
        }
        Ok(())
    }

    /// Drops citations of facts that do not exist and quotes that are not there; returns what the rest can carry.
    fn citations(&mut self, citations: &mut Vec<Citation>) -> f64 {
        let mut cap = CAP_UNSUPPORTED;
        let mut kept: Vec<Citation> = Vec::with_capacity(citations.len());
        for mut citation in std::mem::take(citations) {
            let Some(fact) = self.context.get(&citation.id) else {
                let id = one_line(&sanitise(&citation.id), 20);
                self.note(format!("a citation of {id} was dropped: there is no such fact"));
                continue;
            };
            cap = cap.max(CAP_CITED);
            if let Some(quote) = citation.quote.take() {
                match verbatim(&quote, &fact.content) {
                    Some(quote) => {
                        cap = CAP_QUOTED;
                        citation.quote = Some(quote);
                    }
                    None => self.note(format!(
                        "a quote of {} was dropped: its words are not there",
                        fact.id
                    )),
                }
            }
            if !kept.contains(&citation) {
                kept.push(citation);
            }
        }
        *citations = kept;
        cap
    }

    fn cap(&mut self, confidence: &mut f64, cap: f64, of: &str) {
        if *confidence > cap {
            self.note(format!(
                "confidence {confidence:.2} was lowered to {cap:.2}, what the evidence carries: {}",
                one_line(of, 60)
            ));
            *confidence = cap;
        }
    }

    /// Drops causes without a fact when others have one.
    fn drop_unsupported<T>(
        &mut self,
        causes: &mut Vec<T>,
        evidence: impl Fn(&T) -> &Vec<Citation>,
        hypothesis: impl Fn(&mut T) -> &mut String,
    ) -> Result<(), Refused> {
        if causes.iter().all(|cause| evidence(cause).is_empty()) {
            let ids: Vec<&str> = self
                .context
                .evidence
                .iter()
                .map(|fact| fact.id.as_str())
                .collect();
            return Err(Refused::Unsupported(ids.join(", ")));
        }
        for mut cause in std::mem::take(causes) {
            if evidence(&cause).is_empty() {
                let text = one_line(hypothesis(&mut cause), 60);
                self.note(format!("a cause was dropped: no fact supports it: {text}"));
            } else {
                causes.push(cause);
            }
        }
        Ok(())
    }

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

/// No hidden characters, bounded length, one paragraph.
fn clean(text: &mut String) {
    *text = one_line(&sanitise(text), MAX_TEXT);
}

/// The quote as it stands in the fact, blanks apart; models like to copy the line number with it.
fn verbatim(quote: &str, fact: &str) -> Option<String> {
    let normal = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let quote = sanitise(quote);
    let unnumbered: Vec<&str> = quote.lines().map(without_number).collect();
    let quote = normal(&unnumbered.join(" "));
    let long_enough = quote.chars().filter(|c| c.is_alphanumeric()).count() >= 2;
    (long_enough && normal(fact).contains(&quote)).then(|| one_line(&quote, 300))
}

fn without_number(line: &str) -> &str {
    let digits = line.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
    match line[digits..].strip_prefix("| ") {
        Some(rest) if digits > 0 => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests;
