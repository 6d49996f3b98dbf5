//! What tests of messages tell.

use super::actions::{ApprovalRow, Retraining, Told};
use super::read::IncidentRow;
use crate::drift::tests::contract_shift;
use crate::report::{
    Affected, Analysis, DriftFindings, DriftKind, Findings, Outcome, Remedy, RemedyAction, Report, SCHEMA,
    Subject, Urgency,
};

/// A report about a drift that has just begun.
pub(crate) fn report() -> Report {
    let mut drift = contract_shift();
    drift.rank();
    Report {
        schema: SCHEMA.to_owned(),
        incident: Subject {
            id: "0123456789ab".to_owned(),
            kind: "drift".to_owned(),
            model: Some("churn".to_owned()),
            title: "churn: Contract drifted".to_owned(),
            started_at: "2026-11-22T22:00:00Z".to_owned(),
        },
        revision: 1,
        created_at: "2026-11-22T22:05:00Z".to_owned(),
        urgency: Urgency::P0,
        analysis: Analysis {
            provider: "offline".to_owned(),
            model: None,
            fallback: None,
            outcome: Outcome::Valid,
            notes: Vec::new(),
            prompt_digest: "d".to_owned(),
        },
        findings: Findings::Drift(DriftFindings {
            summary: "Contracts moved to month-to-month.".to_owned(),
            kind: DriftKind::DataDrift,
            confidence: 0.9,
            affected: vec![Affected {
                subject: "Contract".to_owned(),
                finding: "Month-to-month from 55 % to 91 %".to_owned(),
                evidence: Vec::new(),
            }],
            causes: Vec::new(),
            remediation: vec![Remedy {
                action: RemedyAction::Retrain,
                rationale: "on newer rows".to_owned(),
            }],
            urgency: Urgency::P0,
            action_items: Vec::new(),
        }),
        evidence: Vec::new(),
        missing: Vec::new(),
        drift: Some(drift),
    }
}

/// Its incident, firing, with nothing done outside.
pub(crate) fn told() -> Told {
    let report = report();
    let subject = report.incident.clone();
    Told {
        incident: IncidentRow {
            id: subject.id,
            kind: subject.kind,
            model: subject.model,
            title: subject.title,
            urgency: "P0".to_owned(),
            state: "reported".to_owned(),
            started_at: subject.started_at.clone(),
            received_at: subject.started_at.clone(),
            updated_at: subject.started_at,
            resolved_at: None,
            signals: 1,
            reports: 1,
            started_at_ms: 0,
        },
        report,
        markdown: "# the whole report\n".to_owned(),
        reopened: 0,
        message: None,
        issue: None,
        retraining: None,
        verdicts: (0, 0),
    }
}

/// A retraining that waits for a person.
pub(crate) fn waiting() -> Retraining {
    Retraining {
        effect: 7,
        incident: "0123456789ab".to_owned(),
        revision: 1,
        model: Some("churn".to_owned()),
        state: "waiting".to_owned(),
        workflow: "acme/models/retrain.yml@main".to_owned(),
        approval: Some(ApprovalRow {
            digest: "d".repeat(64),
            state: "waiting".to_owned(),
            created_at: "2026-11-22T22:05:00Z".to_owned(),
            expires_at: "2026-11-23T22:05:00Z".to_owned(),
            decided_at: None,
            actor: None,
        }),
        reasons: vec!["urgency is P0".to_owned()],
    }
}
