use super::*;
use crate::action::Receipt;
use crate::report::{Affected, IncidentFindings, Remediation, Remedy, RemedyAction, Risk, RootCause};
use crate::store::for_test::{told, waiting};

fn links() -> Links {
    Links {
        console: Some("https://plumbline.example".parse().expect("a URL")),
        buttons: true,
    }
}

/// Characters of every text of a message, as Slack adds them up.
fn length(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match value {
                Value::String(text) if name == "text" => text.chars().count(),
                other => length(other),
            })
            .sum(),
        Value::Array(items) => items.iter().map(length).sum(),
        _ => 0,
    }
}

fn check(message: &Message) {
    plumbline_testkit::slack::check_message(&message.body("C0ALERTS")).expect("Slack takes it");
}

#[test]
fn a_retraining_that_waits_has_buttons_bound_to_what_is_shown() {
    let mut told = told();
    told.retraining = Some(waiting());
    let message = incident(&told, &links());
    check(&message);
    let text = serde_json::to_string(&message.blocks).expect("JSON");
    assert!(
        text.contains("Retraining waits for approval* until 2026-11-23T22:05:00Z"),
        "{text}"
    );
    let actions = message
        .blocks
        .iter()
        .find(|block| block["type"] == "actions")
        .expect("buttons");
    let ids: Vec<&str> = actions["elements"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|element| element["action_id"].as_str())
        .collect();
    assert_eq!(ids, [APPROVE, REJECT, USEFUL, WRONG_CAUSE, "open_report"]);
    assert_eq!(actions["elements"][0]["value"], format!("7:{}", "d".repeat(64)));
    assert_eq!(actions["elements"][2]["value"], "0123456789ab:1");
    let decided = told.retraining.as_mut().expect("asked for");
    decided.state = "done".to_owned();
    let approval = decided.approval.as_mut().expect("asked for");
    (approval.state, approval.actor) = ("approved".to_owned(), Some("slack:U0ALICE".to_owned()));
    let message = incident(&told, &links());
    check(&message);
    let text = serde_json::to_string(&message.blocks).expect("JSON");
    assert!(text.contains("*Retraining was started* by <@U0ALICE>"), "{text}");
    assert!(!text.contains(APPROVE), "{text}");
}

#[test]
fn without_a_console_and_a_secret_there_are_no_buttons() {
    let links = Links {
        console: None,
        buttons: false,
    };
    let mut told = told();
    told.retraining = Some(waiting());
    let message = incident(&told, &links);
    check(&message);
    assert!(message.blocks.iter().all(|block| block["type"] != "actions"));
    check(&revision(&told.report, &links));
}

#[test]
fn an_incident_that_is_over_says_so() {
    let mut told = told();
    told.incident.resolved_at = Some("2026-11-22T23:00:00Z".to_owned());
    told.reopened = 3;
    told.issue = Some(Receipt {
        place: "acme/models".to_owned(),
        reference: "1".to_owned(),
        url: Some("https://github.example/acme/models/issues/1".to_owned()),
        found: false,
    });
    let message = incident(&told, &links());
    check(&message);
    assert_eq!(
        message.blocks[0]["text"]["text"],
        "recovered · churn: Contract drifted"
    );
    let text = serde_json::to_string(&message.blocks).expect("JSON");
    assert!(
        text.contains("<https://github.example/acme/models/issues/1|GitHub>"),
        "{text}"
    );
    let reply = recovered(&told, &links());
    check(&reply);
    assert!(
        reply
            .text
            .contains("since 2026-11-22T23:00:00Z. It came back 3 times before."),
        "{}",
        reply.text
    );
    told.incident.resolved_at = None;
    assert_eq!(
        recovered(&told, &links()).text,
        "The signals had stopped, and fire again."
    );
}

#[test]
fn the_longest_texts_stay_within_what_slack_takes() {
    let long = "<@U0EVIL> & *x* ".repeat(2_000);
    let mut told = told();
    told.incident.title.clone_from(&long);
    told.incident.kind.clone_from(&long);
    told.incident.model = Some(long.clone());
    told.incident.resolved_at = Some(long.clone());
    let mut retraining = waiting();
    retraining.reasons = vec![long.clone(); 10];
    retraining.workflow.clone_from(&long);
    told.retraining = Some(retraining);
    let Findings::Drift(findings) = &mut told.report.findings else {
        panic!("the report is about drift")
    };
    findings.summary.clone_from(&long);
    findings.affected = vec![
        Affected {
            subject: long.clone(),
            finding: long.clone(),
            evidence: Vec::new(),
        };
        20
    ];
    findings.remediation = vec![
        Remedy {
            action: RemedyAction::Observe,
            rationale: long.clone(),
        };
        5
    ];
    let message = incident(&told, &links());
    check(&message);
    assert!(length(&json!(message.blocks)) < 13_000);
    let text = serde_json::to_string(&message.blocks).expect("JSON");
    assert!(text.contains("… and 17 more"), "{text}");
    // Only plain text, which is shown as it is, has it as it came.
    assert_eq!(
        text.matches("<@U0EVIL>").count(),
        message.blocks[0].to_string().matches("<@U0EVIL>").count()
    );
    check(&recovered(&told, &links()));
    told.report.findings = Findings::Incident(IncidentFindings {
        summary: String::new(),
        root_causes: vec![
            RootCause {
                hypothesis: long.clone(),
                confidence: 0.9,
                evidence: Vec::new(),
                remediation: Remediation {
                    action: long,
                    command: None,
                    risk: Risk::Low,
                },
            };
            3
        ],
    });
    check(&incident(&told, &links()));
    check(&revision(&told.report, &links()));
}

#[test]
fn a_failed_pipeline_tells_what_failed_and_what_to_change() {
    let mut told = told();
    told.report.findings = serde_json::from_value(json!({
        "type": "triage", "summary": "A test fails.", "failure_type": "test", "confidence": 0.9, "priority": "P1",
        "findings": [{
            "title": "tests/test_churn.py::test_auc", "explanation": "0.7 < 0.8", "risk": "a worse model is released",
            "fix": {"action": "look at the split"}, "false_positive": {"verdict": "unlikely", "reason": "it is exact"},
            "priority": "P1", "confidence": 0.9, "evidence": [],
        }],
    }))
    .expect("findings");
    let message = incident(&told, &links());
    check(&message);
    let text = serde_json::to_string(&message.blocks).expect("JSON");
    assert!(
        text.contains("*What failed (test)*\\n• `tests/test_churn.py::test_auc:` look at the split"),
        "{text}"
    );
}
