//! Alerts, by code: what their name, labels, logs and series usually mean.

use super::{Case, cite, cluster, remembered, worst_line};
use crate::evidence::{Evidence, Source};
use crate::report::{Citation, IncidentFindings, Remediation, Risk, RootCause};
use crate::text::{clip_line, one_line};

/// A usual cause, and what to do about it.
type Usual = (&'static str, &'static str);

/// Families of alerts by words in their name or summary, with the usual causes.
const FAMILIES: [(&[&str], &[Usual]); 6] = [
    (
        &["oom", "memory", "crashloop", "crash", "restart", "evict"],
        &[
            (
                "The process is killed for memory: its limit is below what the model and its batches need.",
                "compare memory use with the limit; lower concurrency or raise the limit",
            ),
            (
                "The process ends by itself at start: a missing file, a bad setting, a broken model.",
                "read the log of the previous container",
            ),
        ],
    ),
    (
        &["error", "5xx", "failure", "failed", "unavailable", "down"],
        &[
            (
                "What serves the model fails: it was changed, its model file is damaged, or it cannot reach what it needs.",
                "look at the last roll-out and at the log of the failing pod; go back one version if they coincide",
            ),
            (
                "Clients send requests that the model refuses: a changed schema or datatype.",
                "look at the codes by client and at the first refused request",
            ),
        ],
    ),
    (
        &["latency", "slow", "duration", "p99", "p95", "deadline", "timeout"],
        &[
            (
                "More is asked than can be answered: queues grow and every request waits.",
                "compare the request rate and the queue with the hour before; add a replica or shed load",
            ),
            (
                "Each answer takes longer: a larger model, larger batches, or processors that are throttled.",
                "compare compute time with queue time, and look at CPU throttling",
            ),
        ],
    ),
    (
        &[
            "accuracy",
            "confidence",
            "auc",
            "precision",
            "recall",
            "calibration",
        ],
        &[
            (
                "The rows differ from those that the model was trained on.",
                "look at the sidecar's /drift for features that moved",
            ),
            (
                "The truth changed for the same rows.",
                "compare live accuracy by segment with the training metrics",
            ),
        ],
    ),
    (
        &["disk", "volume", "storage", "inode"],
        &[(
            "A volume fills up: logs, a cache, or a model repository that keeps old versions.",
            "find what grew since the alert began",
        )],
    ),
    (
        &["cpu", "throttl", "saturation", "queue", "quota"],
        &[(
            "The limit is below the load: requests wait for processor time.",
            "compare use with the limit and with the request rate",
        )],
    ),
];

/// For alerts of no known family.
const GENERAL: [Usual; 2] = [
    (
        "Something was changed shortly before the alert: a roll-out, a setting, a certificate, a dependency.",
        "list what changed in the hour before the alert began",
    ),
    (
        "The load or the data changed.",
        "compare request rate and inputs with the hour before",
    ),
];

pub(super) fn analyse(case: &Case) -> IncidentFindings {
    let alerts: Vec<&Evidence> = of(case, Source::Alert);
    let mut causes = Vec::new();
    causes.extend(cluster::causes(case));
    causes.extend(from_logs(case, &alerts));
    causes.extend(from_series(case));
    causes.extend(from_drift(case));
    causes.extend(from_past(case));
    let text = format!("{} {}", case.subject.kind, case.subject.title).to_ascii_lowercase();
    let family = FAMILIES
        .iter()
        .find(|(words, _)| words.iter().any(|word| text.contains(word)));
    let usual = family.map_or(&GENERAL[..], |(_, usual)| usual);
    let said: Vec<Citation> = alerts
        .first()
        .and_then(|alert| {
            cite(case, &alert.id, |line| {
                line.starts_with("annotation summary:") || line.starts_with("annotation description:")
            })
            .filter(|citation| citation.quote.is_some())
            .or_else(|| cite(case, &alert.id, |line| line.starts_with("label alertname:")))
        })
        .into_iter()
        .collect();
    for (rank, (hypothesis, action)) in usual.iter().chain(&GENERAL).enumerate() {
        if causes.len() >= 3 {
            break;
        }
        if causes
            .iter()
            .any(|cause: &RootCause| cause.hypothesis == *hypothesis)
        {
            continue;
        }
        causes.push(RootCause {
            hypothesis: (*hypothesis).to_owned(),
            confidence: if family.is_some() && rank < usual.len() {
                0.35 - 0.1 * rank as f64
            } else {
                0.15
            },
            evidence: said.clone(),
            remediation: Remediation {
                action: (*action).to_owned(),
                command: command(&alerts, false).filter(|_| rank == 0),
                risk: Risk::Low,
            },
        });
    }
    causes.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    causes.truncate(3);
    IncidentFindings {
        summary: summary(case, &alerts),
        root_causes: causes,
    }
}

fn summary(case: &Case, alerts: &[&Evidence]) -> String {
    let firing = alerts
        .iter()
        .filter(|alert| alert.content.starts_with("status: firing"))
        .count();
    let state = match (alerts.len(), firing) {
        (1, 1) => "fires".to_owned(),
        (1, 0) => "fired and is over".to_owned(),
        (all, 0) => format!("fired {all} times and is over"),
        (all, firing) => format!("fires {firing} times (of {all} alerts)"),
    };
    let model = case
        .subject
        .model
        .as_deref()
        .map_or_else(String::new, |model| format!(" for model {model}"));
    let searched = match (logs(case).count(), of(case, Source::Prometheus).len()) {
        (0, 0) => "Neither logs nor metrics could be looked at.".to_owned(),
        (logs, 0) => format!("{logs} logs were searched; metrics could not be looked at."),
        (0, series) => {
            format!("{series} groups of metrics were compared with the hour before; there were no logs.")
        }
        (logs, series) => {
            format!("{logs} logs were searched, {series} groups of metrics compared with the hour before.")
        }
    };
    format!(
        "{} {state}{model} since {}. {searched} The causes below are the usual ones, ranked by what the evidence says for them.",
        one_line(&case.subject.title, 160),
        case.subject.started_at
    )
}

fn of(case: &Case, source: Source) -> Vec<&Evidence> {
    case.context
        .evidence
        .iter()
        .filter(|fact| fact.source == source)
        .collect()
}

/// Facts that are lines of logs.
fn logs(case: &Case) -> impl Iterator<Item = &Evidence> {
    case.context.evidence.iter().filter(|fact| fact.source.is_log())
}

/// The line of the logs that stands out most.
fn from_logs(case: &Case, alerts: &[&Evidence]) -> Option<RootCause> {
    let (fact, text) = worst_line(case, Source::is_log)?;
    let quote = crate::text::prefix(text, 240).trim().to_owned();
    Some(RootCause {
        hypothesis: format!("What the log says: {}", clip_line(text, text.len(), 240)),
        confidence: 0.5,
        evidence: vec![Citation {
            id: fact.id.clone(),
            quote: Some(quote),
        }],
        remediation: Remediation {
            action: "follow this line: what it names is the first thing to look at".to_owned(),
            command: command(alerts, true),
            risk: Risk::Low,
        },
    })
}

/// What helped the last time.
fn from_past(case: &Case) -> Option<RootCause> {
    let remembered = remembered(case)?;
    Some(RootCause {
        hypothesis: remembered.hypothesis,
        confidence: 0.4,
        evidence: remembered.evidence,
        remediation: Remediation {
            action: remembered.action,
            command: None,
            risk: Risk::Medium,
        },
    })
}

/// A request rate that at least doubled or halved.
fn from_series(case: &Case) -> Option<RootCause> {
    let fact = of(case, Source::Prometheus)
        .into_iter()
        .find(|fact| fact.title.contains("request rate"))?;
    let line = fact.content.lines().find(|line| line.contains("median before"))?;
    let after = |words: &str| -> Option<f64> {
        let rest = line.split_once(words)?.1;
        rest.split(',').next()?.trim().parse().ok()
    };
    let (before, now) = (after("median before ")?, after("now ")?);
    let ratio = now / before;
    let hypothesis = if ratio >= 2.0 {
        format!("The load rose: {ratio:.1} times the requests of the hour before.")
    } else if ratio <= 0.5 {
        format!(
            "The load fell to {:.0} % of the hour before: clients stopped calling or cannot get through.",
            ratio * 100.0
        )
    } else {
        return None;
    };
    Some(RootCause {
        hypothesis,
        confidence: 0.45,
        evidence: vec![Citation {
            id: fact.id.clone(),
            quote: Some(line.to_owned()),
        }],
        remediation: Remediation {
            action: "find the client that changed; add replicas or limit it".to_owned(),
            command: None,
            risk: Risk::Low,
        },
    })
}

/// Drift of the same model at the same time.
fn from_drift(case: &Case) -> Option<RootCause> {
    let drift = case.context.drift.as_ref()?;
    let first = drift.affected().next()?;
    let citation = cite(case, &first.evidence, |line| line.starts_with("psi="))?;
    Some(RootCause {
        hypothesis: format!(
            "The model's inputs changed at the same time: {} drifted.",
            first.name
        ),
        confidence: 0.3,
        evidence: vec![citation],
        remediation: Remediation {
            action: "see the drift incident of this model".to_owned(),
            command: None,
            risk: Risk::Low,
        },
    })
}

/// A command that looks at the pod that the alert names.
fn command(alerts: &[&Evidence], previous: bool) -> Option<String> {
    let alert = alerts.first()?;
    let label = |name: &str| {
        let prefix = format!("label {name}: ");
        let value = alert
            .content
            .lines()
            .find_map(|line| line.strip_prefix(&prefix))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        (!value.is_empty() && value.len() <= 253 && !value.starts_with('-') && value.chars().all(plain))
            .then(|| value.to_owned())
    };
    let pod = label("pod")?;
    let namespace = label("namespace").map_or_else(String::new, |namespace| format!(" -n {namespace}"));
    Some(if previous {
        format!("kubectl logs {pod}{namespace} --previous --tail=200")
    } else {
        format!("kubectl describe pod {pod}{namespace}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Context;
    use crate::report::{Findings, Subject, Urgency, validate};

    fn case(kind: &str, facts: &[(Source, &str, &str)]) -> Case {
        let mut context = Context::default();
        for (source, title, content) in facts {
            context.add(*source, *title, *content);
        }
        Case {
            subject: Subject {
                id: "0123".to_owned(),
                kind: kind.to_owned(),
                model: None,
                title: format!("{kind}: 5xx ratio 12%"),
                started_at: "2026-11-22T22:00:00Z".to_owned(),
            },
            urgency: Urgency::P0,
            context,
        }
    }

    /// Code is held to the rules that it holds a model to.
    fn analysed(case: &Case) -> IncidentFindings {
        let findings = analyse(case);
        let text = serde_json::to_string(&findings).expect("JSON");
        let mut checked = validate::parse(validate::Expected::Incident, &text).expect("of the schema");
        let notes = validate::check(&mut checked, &case.context, case.urgency).expect("supported");
        assert_eq!(notes, Vec::<String>::new());
        assert_eq!(checked, Findings::Incident(findings.clone()));
        findings
    }

    const ALERT: (Source, &str, &str) = (
        Source::Alert,
        "alert",
        "status: firing\nlabel alertname: ModelErrorRateHigh\nlabel pod: scorer-0\nannotation summary: 5xx ratio 12%",
    );

    #[test]
    fn the_name_of_an_alert_gives_the_usual_causes() {
        let findings = analysed(&case("ModelErrorRateHigh", &[ALERT]));
        assert_eq!(findings.root_causes.len(), 3);
        let first = &findings.root_causes[0];
        assert!(
            first.hypothesis.starts_with("What serves the model fails"),
            "{first:?}"
        );
        assert_eq!(
            first.evidence[0].quote.as_deref(),
            Some("annotation summary: 5xx ratio 12%")
        );
        assert_eq!(
            first.remediation.command.as_deref(),
            Some("kubectl describe pod scorer-0")
        );
        assert!(first.confidence < 0.5);
    }

    #[test]
    fn the_worst_line_of_a_log_comes_first_and_is_quoted() {
        let log = (
            Source::Logs,
            "log server.log",
            "3: INFO started\n… 5 lines left out\n9: ERROR checksum mismatch in shard 7\n10: INFO end",
        );
        let findings = analysed(&case("ModelErrorRateHigh", &[ALERT, log]));
        let first = &findings.root_causes[0];
        assert!(
            first.hypothesis.contains("checksum mismatch in shard 7"),
            "{first:?}"
        );
        assert_eq!(first.evidence[0].id, "E2");
    }

    #[test]
    fn a_rate_that_rose_is_a_cause() {
        let series = (
            Source::Prometheus,
            "Prometheus: request rate, 1/s",
            "all: median before 10, now 42, since then 30 to 50",
        );
        let findings = analysed(&case("LatencyHigh", &[ALERT, series]));
        assert!(
            findings.root_causes[0].hypothesis.contains("4.2 times"),
            "{findings:?}"
        );
    }

    #[test]
    fn hostile_labels_do_not_become_commands() {
        let alert = (
            Source::Alert,
            "alert",
            "status: firing\nlabel alertname: X\nlabel pod: a; rm -rf /",
        );
        let findings = analysed(&case("X", &[alert]));
        assert!(
            findings
                .root_causes
                .iter()
                .all(|cause| cause.remediation.command.is_none())
        );
    }
}
