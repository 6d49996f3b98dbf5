use super::*;
use crate::drift::tests::contract_shift;
use crate::drift::{Drift, State, Test};
use crate::report::{DriftFindings, DriftKind, Findings, IncidentFindings};
use crate::store::for_test;

const NOW: i64 = 1_800_000_000_000;
const HOUR: i64 = 3_600_000;

fn repository() -> Repository {
    Repository::parse("acme/models").expect("a name")
}

fn workflow() -> Workflow {
    Workflow {
        repository: repository(),
        file: "retrain.yml".to_owned(),
        git_ref: "main".to_owned(),
    }
}

/// Everything is done, retraining after approval.
pub(crate) fn policy() -> Policy {
    Policy {
        slack: Some("C0ALERTS".to_owned()),
        issues: Some(repository()),
        retrain: Some(RetrainPolicy {
            workflow: workflow(),
            approval: Approval::Required,
            cooldown: Duration::from_hours(24),
            daily_cap: 3,
            min_effect: 0.25,
            expiry: Duration::from_hours(24),
        }),
        ..Policy::nothing()
    }
}

fn shift() -> Drift {
    let mut drift = contract_shift();
    drift.rank();
    prove(&mut drift);
    drift
}

/// Evidence of 10^7 for every subject that drifts.
pub(crate) fn prove(drift: &mut Drift) {
    for subject in &mut drift.subjects {
        subject.test = Some(Test {
            log10: 7.0,
            sufficient: subject.state == State::Drift,
            calibrated: true,
        });
    }
}

fn report() -> Report {
    Report {
        drift: Some(shift()),
        ..for_test::report()
    }
}

fn findings(report: &mut Report) -> &mut DriftFindings {
    match &mut report.findings {
        Findings::Drift(findings) => findings,
        Findings::Incident(_) | Findings::Triage(_) => panic!("the report is about drift"),
    }
}

fn retraining(policy: &Policy, report: &Report, history: &History) -> Decision {
    decide(policy, report, history, NOW).remove(2)
}

#[test]
fn urgent_drift_with_evidence_asks_a_person() {
    let decision = retraining(&policy(), &report(), &History::default());
    assert_eq!(
        (decision.action, decision.verdict),
        (Action::RetrainDispatch, Verdict::NeedsApproval)
    );
    let reasons = decision.reasons.join("\n");
    for expected in [
        "urgency is P0",
        "Contract drifts with effect 0.83, evidence 10^7.0",
        "recommends retraining",
        "none of this model within 24 h",
        "0 of 3 retrainings",
        "a person has to agree",
    ] {
        assert!(reasons.contains(expected), "{expected}: {reasons}");
    }
    let mut automatic = policy();
    if let Some(retrain) = &mut automatic.retrain {
        retrain.approval = Approval::Automatic;
    }
    assert_eq!(
        retraining(&automatic, &report(), &History::default()).verdict,
        Verdict::Allowed
    );
}

#[test]
fn each_rule_alone_holds_a_retraining_back_and_says_so() {
    type Case = (&'static str, fn(&mut Policy, &mut Report, &mut History));
    let cases: [Case; 15] = [
        ("no workflow is configured", |policy, _, _| policy.retrain = None),
        ("urgency is P1", |_, report, _| report.urgency = Urgency::P1),
        ("no comparison with the reference", |_, report, _| {
            report.drift = None;
        }),
        ("drift state is warning", |_, report, _| {
            let drift = report.drift.as_mut().expect("a comparison");
            drift.state = State::Warning;
        }),
        ("no drifted subject has an effect of 0.9", |policy, _, _| {
            policy.retrain.as_mut().expect("configured").min_effect = 0.9;
        }),
        ("no statistical evidence", |_, report, _| {
            let drift = report.drift.as_mut().expect("a comparison");
            drift.subjects.iter_mut().for_each(|subject| subject.test = None);
        }),
        ("no statistical evidence", |_, report, _| {
            let drift = report.drift.as_mut().expect("a comparison");
            let tests = drift
                .subjects
                .iter_mut()
                .filter_map(|subject| subject.test.as_mut());
            tests.for_each(|test| test.sufficient = false);
        }),
        ("does not recommend retraining", |_, report, _| {
            findings(report).remediation.clear();
        }),
        ("says data quality", |_, report, _| {
            findings(report).kind = DriftKind::DataQuality;
        }),
        ("is not about drift", |_, report, _| {
            report.findings = Findings::Incident(IncidentFindings {
                summary: String::new(),
                root_causes: Vec::new(),
            });
        }),
        ("the drift is over", |_, _, history| history.is_over = true),
        ("has had its retraining", |_, _, history| history.retrain = true),
        ("last retraining was asked for at", |_, _, history| {
            history.last_retrain = Some(NOW - 23 * HOUR);
        }),
        ("the cap is 3", |_, _, history| history.retrains_of_the_day = 3),
        ("the cap is 0", |policy, _, _| {
            policy.retrain.as_mut().expect("configured").daily_cap = 0;
        }),
    ];
    for (expected, change) in cases {
        let (mut policy, mut report, mut history) = (policy(), report(), History::default());
        change(&mut policy, &mut report, &mut history);
        let decision = retraining(&policy, &report, &history);
        assert_eq!(decision.verdict, Verdict::Held, "{expected}");
        let reasons = decision.reasons.join("; ");
        let expected = expected.replace(
            "no statistical evidence",
            "no drifted subject has statistical evidence",
        );
        assert!(reasons.contains(&expected), "{expected}: {reasons}");
        assert_eq!(decision.reasons.len(), 1, "one rule, one reason: {reasons}");
    }
}

#[test]
fn windows_in_a_row_stand_in_for_evidence_that_is_not_calibrated() {
    let mut report = report();
    for subject in &mut report.drift.as_mut().expect("a comparison").subjects {
        subject.test = Some(Test {
            log10: 0.2,
            sufficient: false,
            calibrated: false,
        });
    }
    let decision = retraining(&policy(), &report, &History::default());
    assert_eq!(decision.verdict, Verdict::NeedsApproval);
    assert!(decision.reasons.join("\n").contains("several windows in a row"));
}

#[test]
fn a_cooldown_ends() {
    let history = History {
        last_retrain: Some(NOW - 24 * HOUR),
        retrains_of_the_day: 2,
        ..History::default()
    };
    assert_eq!(
        retraining(&policy(), &report(), &history).verdict,
        Verdict::NeedsApproval
    );
}

#[test]
fn where_a_report_goes_depends_on_its_urgency_and_on_what_is_there() {
    use Action::{GithubComment, GithubIssue, SlackMessage, SlackReply};
    use Verdict::{Allowed, Held};
    let none = (false, false);
    for (urgency, (message, issue), expected) in [
        (
            Urgency::P0,
            none,
            [(SlackMessage, Allowed), (GithubIssue, Allowed)],
        ),
        (
            Urgency::P1,
            none,
            [(SlackMessage, Allowed), (GithubIssue, Allowed)],
        ),
        (Urgency::P2, none, [(SlackMessage, Allowed), (GithubIssue, Held)]),
        (
            Urgency::P2,
            (true, false),
            [(SlackReply, Allowed), (GithubIssue, Held)],
        ),
        (
            Urgency::P1,
            (true, false),
            [(SlackReply, Allowed), (GithubIssue, Allowed)],
        ),
        (
            Urgency::P1,
            (true, true),
            [(SlackReply, Allowed), (GithubComment, Allowed)],
        ),
        (
            Urgency::P2,
            (true, true),
            [(SlackReply, Allowed), (GithubComment, Allowed)],
        ),
    ] {
        let mut report = report();
        report.urgency = urgency;
        let history = History {
            message,
            issue,
            ..History::default()
        };
        let decisions = decide(&policy(), &report, &history, NOW);
        let found = [
            (decisions[0].action, decisions[0].verdict),
            (decisions[1].action, decisions[1].verdict),
        ];
        assert_eq!(found, expected, "{urgency:?} {history:?}");
    }
}

#[test]
fn nothing_is_done_where_nothing_is_configured() {
    let decisions = decide(&Policy::nothing(), &report(), &History::default(), NOW);
    assert!(decisions.iter().all(|decision| decision.verdict == Verdict::Held));
    let reasons: Vec<&str> = decisions
        .iter()
        .map(|decision| decision.reasons[0].as_str())
        .collect();
    assert!(reasons[0].contains("slack_token"), "{reasons:?}");
    assert!(reasons[1].contains("github_issues"), "{reasons:?}");
    assert!(reasons[2].contains("retrain_workflow"), "{reasons:?}");
}

#[test]
fn a_workflow_is_named_whole() {
    use plumbline_service::config::ParseSetting as _;
    let text = "acme/models/retrain.yml@main";
    assert_eq!(Workflow::parse_setting(text), Ok(workflow()));
    assert_eq!(workflow().to_string(), text);
    for text in [
        "acme/models@main",
        "acme/models/retrain.yml",
        "acme/models/retrain.sh@main",
        "models/retrain.yml@main",
        "acme/../retrain.yml@main",
        "acme/models/retrain.yml@",
    ] {
        let error = Workflow::parse_setting(text).expect_err(text);
        assert!(error.contains("OWNER/REPO/WORKFLOW.yml@REF"), "{error}");
    }
}
