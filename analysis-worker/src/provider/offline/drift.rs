//! Drift, by code.

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
/// Rows below which a window says little.
const FEW_ROWS: u64 = 500;

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
    let causes = causes(case, drift, &signs);
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
            "{} rows of model {} (version {}) compare with the reference as expected; no feature or output changed.",
            drift.rows, drift.model, drift.version
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
            "Model {} (version {}){since}: no monitored feature changed{what}. {rows}",
            drift.model, drift.version
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
        "Model {} (version {}){since}: {}{others} changed; {} moved most: {}. {effect} {rows}",
        drift.model,
        drift.version,
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

/// Usual causes with what the figures say for each, most likely first; at least three.
fn causes(case: &Case, drift: &Drift, signs: &Signs<'_>) -> Vec<Cause> {
    let mut causes = causes_from_signs(case, signs);
    causes.extend(causes_from_window(case, drift, signs));
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
            items.push("Data scientist: send true outcomes of recent rows to the sidecar's feedback endpoint and look at live accuracy.".to_owned());
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
mod tests {
    use super::*;
    use crate::drift::tests::contract_shift;
    use crate::evidence::Context;
    use crate::report::{Findings, Subject, Urgency, validate};

    fn case(drift: Option<Drift>) -> Case {
        let mut context = Context::default();
        if let Some(mut drift) = drift {
            drift.rank();
            context.add(Source::DriftEvent, "comparison", drift.describe());
            for subject in &mut drift.subjects {
                subject.evidence = context.add(Source::DriftEvent, "subject", subject.describe());
            }
            context.drift = Some(drift);
        } else {
            context.add(
                Source::Alert,
                "alert",
                "status: firing\nlabel alertname: ModelDrift",
            );
        }
        Case {
            subject: Subject {
                id: "0123".to_owned(),
                kind: "drift".to_owned(),
                model: Some("churn".to_owned()),
                title: "drift".to_owned(),
                started_at: "2026-11-22T22:00:00Z".to_owned(),
            },
            urgency: Urgency::P0,
            context,
        }
    }

    /// Code is held to the rules that it holds a model to.
    fn analysed(case: &Case) -> DriftFindings {
        let findings = analyse(case);
        let text = serde_json::to_string(&findings).expect("JSON");
        let mut checked = validate::parse(validate::Expected::Drift, &text).expect("of the schema");
        let notes = validate::check(&mut checked, &case.context, case.urgency).expect("supported");
        assert_eq!(notes, Vec::<String>::new());
        assert_eq!(checked, Findings::Drift(findings.clone()));
        findings
    }

    #[test]
    fn a_shift_of_the_mix_is_data_drift_with_numbers_and_three_causes() {
        let findings = analysed(&case(Some(contract_shift())));
        assert_eq!(findings.kind, DriftKind::DataDrift);
        let names: Vec<&str> = findings.affected.iter().map(|a| a.subject.as_str()).collect();
        assert_eq!(names, ["Contract", "output_label", "MonthlyCharges"]);
        assert_eq!(
            findings.affected[0].finding,
            "drifted; PSI 0.84 (effect 0.83); Month-to-month 55.0 % → 91.0 %, Two year 24.0 % → 4.0 %, One year 21.0 % → 5.0 %; 80.0 % of the whole effect"
        );
        assert!(findings.causes.len() >= 3, "{:?}", findings.causes);
        assert!(
            findings.causes[0]
                .hypothesis
                .starts_with("The population changed")
        );
        assert!(
            findings
                .summary
                .contains("The predictions moved with them: output_label"),
            "{}",
            findings.summary
        );
        assert_eq!(findings.remediation[0].action, RemedyAction::Retrain);
    }

    #[test]
    fn missing_and_unknown_values_are_a_matter_of_quality() {
        let mut drift = contract_shift();
        let contract = drift.subjects.last_mut().expect("a subject");
        (contract.missing, contract.unseen) = (0.4, 0.1);
        let findings = analysed(&case(Some(drift)));
        assert_eq!(findings.kind, DriftKind::DataQuality);
        assert_eq!(findings.remediation[0].action, RemedyAction::FixUpstream);
        assert!(
            findings.causes[0]
                .hypothesis
                .starts_with("A source of the data is broken")
        );
    }

    #[test]
    fn a_mean_several_times_as_large_may_be_a_unit() {
        let mut drift = contract_shift();
        drift.subjects[0].mean = Some(6_476.0);
        let findings = analysed(&case(Some(drift)));
        assert!(
            findings.causes[0].hypothesis.starts_with("A unit or an encoding"),
            "{:?}",
            findings.causes
        );
        assert_eq!(findings.remediation[0].action, RemedyAction::FixUpstream);
    }

    #[test]
    fn outputs_that_move_alone_are_not_called_data_drift() {
        let mut drift = contract_shift();
        drift.subjects.retain(|subject| subject.role == Role::Output);
        let findings = analysed(&case(Some(drift)));
        assert_eq!(findings.kind, DriftKind::ModelDecay);
        assert!(findings.causes.len() >= 3);
    }

    #[test]
    fn a_stable_comparison_is_called_so() {
        let mut drift = contract_shift();
        drift.state = State::Stable;
        drift
            .subjects
            .iter_mut()
            .for_each(|subject| subject.state = State::Stable);
        let findings = analysed(&case(Some(drift)));
        assert_eq!(findings.kind, DriftKind::None);
        assert!(findings.causes.len() >= 3 && findings.affected.is_empty());
    }

    #[test]
    fn without_a_comparison_the_report_says_so() {
        let findings = analysed(&case(None));
        assert!(findings.confidence <= 0.3 && findings.summary.contains("not known"));
    }
}
