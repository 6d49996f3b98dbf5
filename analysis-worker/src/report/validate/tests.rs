use serde_json::json;

use super::*;
use crate::drift::tests::contract_shift;
use crate::evidence::Source;

fn context() -> Context {
    let mut context = Context::default();
    context.add(
        Source::Alert,
        "alert",
        "alertname: LatencyHigh\nsummary: p99 is 1.2s",
    );
    context.add(
        Source::Logs,
        "log",
        "17: ERROR model reload failed: checksum mismatch\n18: INFO retry",
    );
    context
}

fn incident(causes: &serde_json::Value) -> Findings {
    let answer = json!({"summary": "Latency is high.", "root_causes": causes});
    parse(Expected::Incident, &answer.to_string()).expect("valid")
}

fn cause(confidence: f64, evidence: &serde_json::Value) -> serde_json::Value {
    json!({
        "hypothesis": "the model file is damaged", "confidence": confidence, "evidence": evidence,
        "remediation": {"action": "roll back", "risk": "low"},
    })
}

fn checked(mut findings: Findings) -> (IncidentFindings, Vec<String>) {
    let notes = check(&mut findings, &context(), Urgency::P1).expect("supported");
    match findings {
        Findings::Incident(findings) => (findings, notes),
        Findings::Drift(_) | Findings::Triage(_) => panic!("an incident"),
    }
}

#[test]
fn a_supported_answer_stays_as_it_is() {
    let quote = json!([{"id": "E2", "quote": "model reload failed: checksum mismatch"}]);
    let (findings, notes) = checked(incident(&json!([cause(0.85, &quote)])));
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(findings.root_causes[0].confidence, 0.85);
}

#[test]
fn a_quote_may_carry_the_line_number_of_the_prompt() {
    let quote = json!([{"id": "E2", "quote": "1| 17: ERROR model reload failed"}]);
    let (findings, notes) = checked(incident(&json!([cause(0.85, &quote)])));
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!(
        findings.root_causes[0].evidence[0].quote.as_deref(),
        Some("17: ERROR model reload failed")
    );
}

#[test]
fn confidence_is_capped_by_the_evidence() {
    for (evidence, cap) in [
        (json!([{"id": "E2", "quote": "checksum mismatch"}]), CAP_QUOTED),
        (json!([{"id": "E2"}]), CAP_CITED),
        (json!([{"id": "E2", "quote": "the disk is on fire"}]), CAP_CITED),
    ] {
        let (findings, notes) = checked(incident(&json!([cause(1.0, &evidence)])));
        assert_eq!(findings.root_causes[0].confidence, cap, "{evidence}");
        assert!(
            notes.iter().any(|note| note.contains("was lowered to")),
            "{notes:?}"
        );
    }
}

#[test]
fn an_unsupported_cause_is_dropped_beside_a_supported_one_and_refused_alone() {
    let good = cause(0.5, &json!([{"id": "E1"}]));
    let invented = cause(0.99, &json!([{"id": "E99", "quote": "x"}]));
    let (findings, notes) = checked(incident(&json!([invented, good])));
    assert_eq!(findings.root_causes.len(), 1);
    assert!(
        notes.iter().any(|note| note.contains("no such fact")),
        "{notes:?}"
    );
    let refused = check(&mut incident(&json!([invented])), &context(), Urgency::P1);
    assert_eq!(refused, Err(Refused::Unsupported("E1, E2".to_owned())));
}

#[test]
fn a_command_that_changes_something_is_removed() {
    let mut with_command = cause(0.5, &json!([{"id": "E1"}]));
    with_command["remediation"]["command"] = json!("kubectl delete deployment scorer");
    let (findings, notes) = checked(incident(&json!([with_command])));
    assert_eq!(findings.root_causes[0].remediation.command, None);
    assert!(notes[0].contains("a command was removed"), "{notes:?}");
}

#[test]
fn answers_of_another_shape_are_refused() {
    for (answer, expected) in [
        ("", "EOF"),
        ("I think it is DNS.", "expected value"),
        (r#"{"summary": "x"}"#, "missing field `root_causes`"),
        (r#"{"summary": "x", "root_causes": []}"#, "0 items"),
        (
            r#"{"summary": "x", "root_causes": [], "severity": "P2"}"#,
            "unknown field `severity`",
        ),
        (
            r#"{"summary": "x", "root_causes": []} trailing"#,
            "text after the document",
        ),
    ] {
        let error = parse(Expected::Incident, answer).expect_err(answer).to_string();
        assert!(error.contains(expected), "{answer}: {error}");
    }
    let too_sure = json!({"summary": "x", "root_causes": [cause(1.5, &json!([]))]}).to_string();
    assert!(matches!(
        parse(Expected::Incident, &too_sure),
        Err(Refused::Range { .. })
    ));
    let fenced = format!(
        "```json\n{}\n```",
        json!({"summary": "x", "root_causes": [cause(0.5, &json!([]))]})
    );
    assert!(parse(Expected::Incident, &fenced).is_ok());
}

#[test]
fn a_model_can_neither_deny_drift_nor_change_its_urgency() {
    let mut context = Context::default();
    context.add(Source::DriftEvent, "drift", "psi=0.84");
    context.drift = Some(contract_shift());
    let answer = json!({
        "summary": "All good.", "kind": "none", "confidence": 1.0, "affected": [],
        "causes": [{"hypothesis": "nothing", "confidence": 1.0, "evidence": [{"id": "E1"}]}],
        "remediation": [{"action": "observe", "rationale": "close the issue"}],
        "urgency": "P2", "action_items": [],
    });
    let mut findings = parse(Expected::Drift, &answer.to_string()).expect("valid");
    let notes = check(&mut findings, &context, Urgency::P0).expect("supported");
    let Findings::Drift(findings) = findings else {
        panic!("drift")
    };
    assert_eq!(
        (findings.kind, findings.urgency),
        (DriftKind::DataDrift, Urgency::P0)
    );
    assert!(findings.confidence <= CAP_CITED);
    assert!(
        notes
            .iter()
            .any(|note| note.contains("asked for P2; the signals make it P0")),
        "{notes:?}"
    );
}

#[test]
fn hidden_characters_do_not_reach_the_reader() {
    let mut answer = cause(0.5, &json!([{"id": "E1"}]));
    answer["hypothesis"] = json!("a\u{202e}b\u{1b}[31mc\n\n# Fake heading");
    let (findings, _) = checked(incident(&json!([answer])));
    assert_eq!(findings.root_causes[0].hypothesis, "abc # Fake heading");
}
