//! Drift, by code.

mod causes;

use super::{Case, cite};
use crate::drift::{Drift, DriftSubject, Role, State, number, percent};
use crate::evidence::Source;
use crate::report::{Affected, Cause, Citation, DriftFindings, DriftKind, Remedy, RemedyAction};

/// Subjects that are described one by one.
const DESCRIBED: usize = 8;
/// Rise of a share from which missing or unknown values are a finding of their own.
const NOTABLE: f64 = 0.05;
/// Ratio of means that ordinary changes of a population do not reach, but a change of unit does.
const UNIT_RATIO: f64 = 5.0;

pub(super) fn analyse(case: &Case) -> DriftFindings {
    match &case.context.drift {
        Some(drift) => compared(case, drift),
        None => uncompared(case),
    }
}

/// With a comparison at hand.
fn compared(case: &Case, drift: &Drift) -> DriftFindings {
    let signs = Signs::of(drift);
    let (kind, confidence) = signs.kind(drift);
    let affected: Vec<Affected> = drift
        .affected()
        .take(DESCRIBED)
        .map(|subject| affected(case, subject))
        .collect();
    let causes = causes::causes(case, drift, &signs);
    DriftFindings {
        summary: summary(drift, &signs, kind),
        kind,
        confidence,
        affected,
        causes,
        remediation: remediation(case, kind, &signs),
        urgency: case.urgency,
        action_items: action_items(drift, kind, &signs),
    }
}

/// What the figures show.
struct Signs<'a> {
    features: Vec<&'a DriftSubject>,
    outputs: Vec<&'a DriftSubject>,
    /// Features with notably more missing or unknown values.
    faulty: Vec<&'a DriftSubject>,
    /// Features whose mean is several times what it was.
    rescaled: Vec<&'a DriftSubject>,
}

impl<'a> Signs<'a> {
    fn of(drift: &'a Drift) -> Self {
        let of = |role: Role| {
            drift
                .affected()
                .filter(move |subject| subject.role == role)
                .collect::<Vec<_>>()
        };
        let features = of(Role::Feature);
        let faulty = |subject: &&&DriftSubject| fault(subject) >= NOTABLE;
        let rescaled = |subject: &&&DriftSubject| match (subject.reference_mean, subject.mean) {
            (Some(reference), Some(mean)) if reference.abs() > f64::EPSILON && mean.abs() > f64::EPSILON => {
                let ratio = (mean / reference).abs();
                ratio >= UNIT_RATIO || ratio <= 1.0 / UNIT_RATIO
            }
            _ => false,
        };
        Self {
            outputs: of(Role::Output),
            faulty: features.iter().filter(faulty).copied().collect(),
            rescaled: features.iter().filter(rescaled).copied().collect(),
            features,
        }
    }

    fn kind(&self, drift: &Drift) -> (DriftKind, f64) {
        let faulty_first = self
            .features
            .first()
            .is_some_and(|first| self.faulty.iter().any(|subject| subject.name == first.name));
        if self.features.is_empty() && self.outputs.is_empty() {
            return (
                DriftKind::None,
                if drift.state == State::Stable { 0.6 } else { 0.3 },
            );
        }
        if faulty_first || self.faulty.len() * 2 > self.features.len() {
            return (DriftKind::DataQuality, 0.7);
        }
        if self.features.is_empty() {
            // A model is a function: outputs that move alone have a cause that is not among the monitored inputs.
            return (DriftKind::ModelDecay, 0.4);
        }
        (
            DriftKind::DataDrift,
            if drift.state == State::Drift { 0.85 } else { 0.6 },
        )
    }
}

/// Rise of missing values, or share of values that the reference never had.
fn fault(subject: &DriftSubject) -> f64 {
    (subject.missing - subject.reference_missing).max(subject.unseen)
}

fn summary(drift: &Drift, signs: &Signs<'_>, kind: DriftKind) -> String {
    if kind == DriftKind::None {
        return format!(
            "{} rows of model {} (version {}{}) compare with the reference as expected; no feature or output changed.",
            drift.rows,
            drift.model,
            drift.version,
            drift.of_segment()
        );
    }
    let since = drift
        .started_at
        .as_deref()
        .map_or_else(String::new, |since| format!(" since {since}"));
    let rows = format!(
        "{} rows were compared with {} of the reference.",
        drift.rows, drift.reference_rows
    );
    let Some(first) = signs.features.first() else {
        let what = signs.outputs.first().map_or_else(String::new, |output| {
            format!(", but the output {} did: {}", output.name, change(output))
        });
        return format!(
            "Model {} (version {}{}){since}: no monitored feature changed{what}. {rows}",
            drift.model,
            drift.version,
            drift.of_segment()
        );
    };
    let others = match signs.features.len() - 1 {
        0 => String::new(),
        1 => " and 1 other feature".to_owned(),
        more => format!(" and {more} other features"),
    };
    let effect = signs.outputs.first().map_or_else(
        || "The predictions are distributed as before so far.".to_owned(),
        |output| {
            format!(
                "The predictions moved with them: {} {}.",
                output.name,
                change(output)
            )
        },
    );
    format!(
        "Model {} (version {}{}){since}: {}{others} changed; {} moved most: {}. {effect} {rows}",
        drift.model,
        drift.version,
        drift.of_segment(),
        first.name,
        first.name,
        change(first)
    )
}

/// The largest movement of one subject in words.
fn change(subject: &DriftSubject) -> String {
    if fault(subject) >= NOTABLE {
        return if subject.unseen >= subject.missing - subject.reference_missing {
            format!(
                "{} of its values were never seen in the reference",
                percent(subject.unseen)
            )
        } else {
            format!(
                "missing in {} of rows, was {}",
                percent(subject.missing),
                percent(subject.reference_missing)
            )
        };
    }
    if let (Some(reference), Some(mean)) = (subject.reference_mean, subject.mean) {
        return format!("mean {} → {}", number(reference), number(mean));
    }
    match subject.moved(1).first() {
        Some(bin) => format!("{} {} → {}", bin.label, percent(bin.reference), percent(bin.now)),
        None => format!("PSI {}", number(subject.psi.unwrap_or(0.0))),
    }
}

fn affected(case: &Case, subject: &DriftSubject) -> Affected {
    let mut parts = vec![match subject.state {
        State::Drift => "drifted".to_owned(),
        State::Warning => "warning".to_owned(),
        State::Stable => "stable".to_owned(),
    }];
    if let Some(psi) = subject.psi {
        let effect = subject
            .effect
            .map_or_else(String::new, |effect| format!(" (effect {})", number(effect)));
        parts.push(format!("PSI {}{effect}", number(psi)));
    }
    if let (Some(reference), Some(mean)) = (subject.reference_mean, subject.mean) {
        parts.push(format!("mean {} → {}", number(reference), number(mean)));
    }
    let moved: Vec<String> = subject
        .moved(3)
        .iter()
        .map(|bin| format!("{} {} → {}", bin.label, percent(bin.reference), percent(bin.now)))
        .collect();
    if !moved.is_empty() {
        parts.push(moved.join(", "));
    }
    if subject.missing - subject.reference_missing >= NOTABLE {
        parts.push(format!(
            "missing {} → {}",
            percent(subject.reference_missing),
            percent(subject.missing)
        ));
    }
    if subject.unseen >= 0.005 {
        parts.push(format!("{} never seen in the reference", percent(subject.unseen)));
    }
    if let Some(contribution) = subject.contribution {
        parts.push(format!("{} of the whole effect", percent(contribution)));
    }
    Affected {
        subject: subject.name.clone(),
        finding: parts.join("; "),
        evidence: figures(case, subject),
    }
}

/// The fact of a subject, quoted by its figures.
fn figures(case: &Case, subject: &DriftSubject) -> Vec<Citation> {
    let shows = |line: &str| line.starts_with("psi=") || line.starts_with("share of");
    cite(case, &subject.evidence, shows).into_iter().collect()
}

fn remediation(case: &Case, kind: DriftKind, signs: &Signs<'_>) -> Vec<Remedy> {
    let remedy = |action, rationale: String| Remedy { action, rationale };
    let observe = remedy(
        RemedyAction::Observe,
        "follow plumbline_drift_state and the request rate; the sidecar tells when the rows are like the reference again"
            .to_owned(),
    );
    let outputs = if signs.outputs.is_empty() {
        "the predictions have not changed yet, so there is time to check the cause first"
    } else {
        "the predictions changed too, so decisions are affected until this is done"
    };
    match kind {
        DriftKind::DataQuality => vec![
            remedy(
                RemedyAction::FixUpstream,
                "repair the source of the missing or unknown values; a model that is trained on them learns the fault".to_owned(),
            ),
            observe,
        ],
        DriftKind::DataDrift | DriftKind::ConceptDrift => {
            let mut remedies = Vec::new();
            if !signs.rescaled.is_empty() {
                remedies.push(remedy(
                    RemedyAction::FixUpstream,
                    "rule out a changed unit or encoding first; retraining on it would hide the fault".to_owned(),
                ));
            }
            remedies.push(remedy(
                RemedyAction::Retrain,
                format!("if the new mix is here to stay, train on rows since it began, with a new reference profile; {outputs}"),
            ));
            if case.urgency == crate::report::Urgency::P0 {
                remedies.push(remedy(
                    RemedyAction::Rollback,
                    "only if a version was rolled out when the drift began; an older model has not seen the new rows either".to_owned(),
                ));
            }
            remedies.push(observe);
            remedies
        }
        DriftKind::ModelDecay => vec![
            remedy(
                RemedyAction::Rollback,
                "if the served version changed when the outputs did, serve the previous one and compare".to_owned(),
            ),
            remedy(
                RemedyAction::FeatureEngineering,
                "put inputs that are not monitored into the reference profile".to_owned(),
            ),
            observe,
        ],
        DriftKind::None => vec![observe],
    }
}

fn action_items(drift: &Drift, kind: DriftKind, signs: &Signs<'_>) -> Vec<String> {
    let mut items = Vec::new();
    let since = drift.started_at.as_deref().unwrap_or("the alert");
    if let Some(first) = signs.features.first() {
        items.push(format!(
            "On-call: ask the owner of {} what changed around {since}.",
            first.name
        ));
    }
    match kind {
        DriftKind::DataDrift | DriftKind::ConceptDrift | DriftKind::ModelDecay => {
            let compare = "compare predictions of recent rows with the true outcomes as they become known";
            items.push(format!("Data scientist: {compare}."));
            items.push(format!(
                "Data scientist: keep the rows since {since} for retraining and for a new reference profile."
            ));
        }
        DriftKind::DataQuality => {
            items.push(
                "Platform: find the last change of the job or client that sends these features.".to_owned(),
            );
            items.push(
                "Data scientist: decide whether predictions of the affected rows must be redone.".to_owned(),
            );
        }
        DriftKind::None => items.push("On-call: close the alert if the next window stays stable.".to_owned()),
    }
    items
}

/// With an alert about drift, but no comparison to look at.
fn uncompared(case: &Case) -> DriftFindings {
    let evidence: Vec<Citation> = case
        .context
        .evidence
        .iter()
        .filter(|fact| matches!(fact.source, Source::Alert | Source::Prometheus))
        .take(3)
        .filter_map(|fact| {
            cite(case, &fact.id, |line| {
                line.starts_with("label alertname:") || line.contains("median before")
            })
        })
        .collect();
    let cause = |hypothesis: &str, confidence| Cause {
        hypothesis: hypothesis.to_owned(),
        confidence,
        evidence: evidence.clone(),
    };
    DriftFindings {
        summary: format!(
            "An alert says that {} drifts since {}, but no comparison with the reference could be had, so the affected features \
             are not known. What was asked in vain is listed below.",
            case.subject.model.as_deref().unwrap_or("a model"),
            case.subject.started_at
        ),
        kind: DriftKind::DataDrift,
        confidence: 0.3,
        affected: Vec::new(),
        causes: vec![
            cause("The population changed. Check: the sidecar's /drift for the features that moved most.", 0.3),
            cause("A source of the data is broken or was changed. Check: missing and unseen values per feature.", 0.25),
            cause("A short burst or a season. Check: whether the alert stays.", 0.15),
        ],
        remediation: vec![Remedy {
            action: RemedyAction::Observe,
            rationale: "configure the model's sidecar for the worker, or let the sidecar send its events, so that the next report has figures".to_owned(),
        }],
        urgency: case.urgency,
        action_items: vec!["On-call: open the sidecar's /drift and look at the ranking.".to_owned()],
    }
}

#[cfg(test)]
mod tests;
