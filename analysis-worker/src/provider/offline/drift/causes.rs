//! Usual causes of drift, each with what the figures say for it.

use super::{Case, Signs, change, cite};
use crate::drift::{Drift, DriftSubject};
use crate::evidence::Source;
use crate::provider::offline::remembered;
use crate::report::{Cause, Citation};

/// Rows below which a window says little.
const FEW_ROWS: u64 = 500;

/// Usual causes with what the figures say for each, most likely first; at least three.
pub(super) fn causes(case: &Case, drift: &Drift, signs: &Signs<'_>) -> Vec<Cause> {
    let mut causes = causes_from_signs(case, signs);
    causes.extend(causes_from_window(case, drift, signs));
    causes.extend(remembered(case).map(|remembered| Cause {
        hypothesis: format!("{} ({})", remembered.hypothesis, remembered.action),
        confidence: 0.4,
        evidence: remembered.evidence,
    }));
    causes.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    causes.truncate(5);
    causes
}

/// What the changed subjects speak for.
fn causes_from_signs(case: &Case, signs: &Signs<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let quoted = |subjects: &[&DriftSubject], start: &str| -> Vec<Citation> {
        let cited = subjects.iter().take(3);
        cited
            .filter_map(|subject| cite(case, &subject.evidence, |line| line.starts_with(start)))
            .collect()
    };
    if let Some(first) = signs.features.first() {
        let clean = signs.faulty.is_empty() && signs.rescaled.is_empty();
        causes.push(Cause {
            hypothesis: format!(
                "The population changed: the rows come from another mix of customers, products or regions than the \
                 reference, seen first of all in {} ({}). Check: was there a campaign, a new tariff or a new client since \
                 then?",
                first.name,
                change(first)
            ),
            confidence: if clean { 0.6 } else { 0.25 },
            evidence: cited(case, &signs.features),
        });
    }
    if !signs.faulty.is_empty() {
        let mut evidence = quoted(&signs.faulty, "missing:");
        evidence.extend(quoted(&signs.faulty, "never seen"));
        evidence.retain(|citation| citation.quote.is_some());
        causes.push(Cause {
            hypothesis: format!(
                "A source of the data is broken or was changed: {} have values that are missing or that the reference \
                 never had. Check: the last change of the job or client that fills them.",
                names(&signs.faulty)
            ),
            confidence: 0.7,
            evidence,
        });
    }
    if !signs.rescaled.is_empty() {
        causes.push(Cause {
            hypothesis: format!(
                "A unit or an encoding changed: the mean of {} is several times what it was, more than a population \
                 changes. Check: units, decimal separators, defaults.",
                names(&signs.rescaled)
            ),
            confidence: 0.65,
            evidence: quoted(&signs.rescaled, "mean:"),
        });
    }
    if signs.features.len() >= 3 {
        causes.push(Cause {
            hypothesis: format!(
                "One client or segment sends most of the traffic now: {} features changed at the same time. Check: \
                 request rate by client, and whether a filter or a route upstream changed.",
                signs.features.len()
            ),
            confidence: 0.35,
            evidence: cited(case, &signs.features),
        });
    }
    if signs.features.is_empty() && !signs.outputs.is_empty() {
        causes.push(Cause {
            hypothesis: format!(
                "The model or its preprocessing was changed, or an input that is not monitored did: {} moved while \
                 every monitored feature stayed. Check: the version that is served and its digest.",
                names(&signs.outputs)
            ),
            confidence: 0.5,
            evidence: cited(case, &signs.outputs),
        });
    }
    causes
}

/// What always has to be considered: the window itself.
fn causes_from_window(case: &Case, drift: &Drift, signs: &Signs<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut add = |hypothesis: String, confidence: f64, evidence: Vec<Citation>| {
        causes.push(Cause {
            hypothesis,
            confidence,
            evidence,
        });
    };
    let mut facts = case.context.evidence.iter();
    let whole: Vec<Citation> = facts
        .find(|fact| matches!(fact.source, Source::DriftEvent | Source::DriftState))
        .and_then(|fact| cite(case, &fact.id, |line| line.contains(" rows compared with ")))
        .into_iter()
        .collect();
    if drift.rows < FEW_ROWS {
        let rows = drift.rows;
        let text = format!(
            "Chance or a short burst: the window has only {rows} rows. Check: does the next one agree?"
        );
        add(text, 0.3, whole.clone());
    }
    let affected: Vec<&DriftSubject> = drift.affected().collect();
    if signs.faulty.is_empty() {
        add(
            "Something upstream was changed on purpose or by mistake: a default, a join, a code for a category. Against \
             it: no value is missing, and none is unknown to the reference. Check: the last deployments of what feeds \
             the model."
                .to_owned(),
            0.2,
            if affected.is_empty() { whole.clone() } else { cited(case, &affected) },
        );
    }
    add(
        "A season or an hour of the day: the window covers a short time, the reference a long one. Check: the same hour \
         of earlier weeks."
            .to_owned(),
        0.15,
        whole.clone(),
    );
    if affected.is_empty() {
        add(
            "The change was short and has passed: the newest comparison is like the reference. Check: the time of the \
             alert."
                .to_owned(),
            0.5,
            whole,
        );
    }
    causes
}

/// The facts of the first subjects, quoted by what moved most.
fn cited(case: &Case, subjects: &[&DriftSubject]) -> Vec<Citation> {
    let moved = |line: &str| line.starts_with("mean:") || line.starts_with("share of");
    let subjects = subjects.iter().take(3);
    subjects
        .filter_map(|subject| cite(case, &subject.evidence, moved))
        .collect()
}

fn names(subjects: &[&DriftSubject]) -> String {
    let names: Vec<&str> = subjects
        .iter()
        .take(3)
        .map(|subject| subject.name.as_str())
        .collect();
    names.join(", ")
}
