use std::time::Duration;

use super::*;
use crate::evidence::{Missing, Source};
use crate::report::{
    Analysis, IncidentFindings, Outcome, Remediation, Risk, RootCause, SCHEMA, Subject, Urgency,
};
use crate::signal::Origin;

fn signal(title: &str, starts_at: &str, ends_at: Option<&str>) -> SignalRow {
    SignalRow {
        origin: Origin::Alertmanager,
        status: "resolved".to_owned(),
        title: title.to_owned(),
        starts_at: starts_at.to_owned(),
        ends_at: ends_at.map(str::to_owned),
        received_at: "2026-11-22T22:01:00Z".to_owned(),
        times_seen: 1,
        body: serde_json::Value::Null,
    }
}

fn material() -> Material {
    let report = Report {
        schema: SCHEMA.to_owned(),
        incident: Subject {
            id: "abc".to_owned(),
            kind: "ErrorRate".to_owned(),
            model: Some("churn".to_owned()),
            title: "ErrorRate: churn".to_owned(),
            started_at: "2026-11-22T22:00:00Z".to_owned(),
        },
        revision: 1,
        created_at: "2026-11-22T22:01:02Z".to_owned(),
        urgency: Urgency::P1,
        analysis: Analysis {
            provider: "offline".to_owned(),
            model: None,
            fallback: None,
            outcome: Outcome::Valid,
            notes: Vec::new(),
            prompt_digest: String::new(),
        },
        findings: Findings::Incident(IncidentFindings {
            summary: "It fails.".to_owned(),
            root_causes: vec![RootCause {
                hypothesis: "the model file is damaged".to_owned(),
                confidence: 0.7,
                evidence: Vec::new(),
                remediation: Remediation {
                    action: "go back one version".to_owned(),
                    command: None,
                    risk: Risk::Low,
                },
            }],
        }),
        evidence: Vec::new(),
        missing: vec![Missing {
            source: Source::Logs,
            reason: "not configured (logs)".to_owned(),
        }],
        drift: None,
    };
    Material {
        incident: IncidentRow {
            id: "abc".to_owned(),
            kind: "ErrorRate".to_owned(),
            model: Some("churn".to_owned()),
            title: "ErrorRate: <!channel> | churn".to_owned(),
            urgency: "P1".to_owned(),
            state: "resolved".to_owned(),
            started_at: "2026-11-22T22:00:00Z".to_owned(),
            received_at: "2026-11-22T22:01:00Z".to_owned(),
            updated_at: "2026-11-22T22:30:00Z".to_owned(),
            resolved_at: Some("2026-11-22T22:30:00Z".to_owned()),
            signals: 1,
            reports: 1,
            started_at_ms: 1_795_384_800_000,
        },
        signals: vec![signal(
            "pod a",
            "2026-11-22T22:00:00Z",
            Some("2026-11-22T22:30:00Z"),
        )],
        reports: vec![report],
        effects: vec![(1_795_384_863_000, "GitHub issue opened".to_owned())],
        interventions: vec![Done {
            kind: "rollback".to_owned(),
            actor: "ana".to_owned(),
            note: "version 6 again".to_owned(),
            at: 1_795_385_700_000,
            before: "{}".to_owned(),
            after: "{}".to_owned(),
            outcome: "recovered".to_owned(),
        }],
        past: Vec::new(),
        impact: Impact {
            lasted: Duration::from_mins(30),
            measured: Vec::new(),
            gaps: vec!["no Prometheus is configured".to_owned()],
        },
    }
}

#[test]
fn what_was_recorded_becomes_a_page() {
    let page = write(&material()).markdown();
    let order = [
        "| 2026-11-22T22:00:00Z | began: pod a |",
        "| 2026-11-22T22:01:00Z | the worker was told |",
        "| 2026-11-22T22:01:02Z | report, revision 1, P1, by offline |",
        "| 2026-11-22T22:01:03Z | GitHub issue opened |",
        "| 2026-11-22T22:15:00Z | rolled back, by ana: version 6 again |",
        "| 2026-11-22T22:30:00Z | ended: pod a |",
        "- It lasted 30 min.",
        "- Not known: no Prometheus is configured.",
        "- the model file is damaged (confidence 70 %)",
        "- The worker was told 60 s after it began.",
        "- It recovered after: rolled back, by ana: version 6 again.",
        "- Evidence was missing: logs.",
        "- go back one version (if: the model file is damaged)",
        "- Give the worker access to logs: not configured (logs).",
    ];
    let mut place = 0;
    for line in order {
        let found = page[place..].find(line);
        place += found.unwrap_or_else(|| panic!("{line} after {place}: {page}"));
    }
    assert!(!page.contains("<!channel>"), "{page}");
}

#[test]
fn an_incident_that_goes_on_is_a_draft() {
    let mut material = material();
    material.incident.resolved_at = None;
    material.interventions.clear();
    let postmortem = write(&material);
    assert!(!postmortem.is_over && postmortem.markdown().contains("not over: a draft"));
    assert!(
        postmortem
            .actions
            .iter()
            .any(|action| action.starts_with("Record what was done"))
    );
}

#[test]
fn a_long_timeline_keeps_its_ends() {
    let mut material = material();
    material.signals = (0..100)
        .map(|n| {
            signal(
                &format!("pod {n:03}"),
                &format!("2026-11-22T22:{:02}:{:02}Z", 2 + n / 60, n % 60),
                None,
            )
        })
        .collect();
    let timeline = write(&material).timeline;
    assert_eq!(timeline.len(), MAX_ENTRIES);
    assert!(
        timeline
            .iter()
            .any(|entry| entry.what.ends_with("entries left out"))
    );
    assert_eq!(
        timeline.last().map(|entry| entry.what.as_str()),
        Some("over: no signal fires any more")
    );
}
