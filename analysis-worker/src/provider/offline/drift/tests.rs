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
fn a_comparison_of_a_segment_says_so() {
    let mut drift = contract_shift();
    drift.segment = Some("north".to_owned());
    let case = case(Some(drift));
    let findings = analysed(&case);
    assert!(
        findings
            .summary
            .starts_with("Model churn (version 1, segment north) since"),
        "{}",
        findings.summary
    );
    assert!(
        case.context.evidence[0]
            .content
            .starts_with("model `churn` version 1, segment north: drift"),
        "{:?}",
        case.context.evidence[0]
    );
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
