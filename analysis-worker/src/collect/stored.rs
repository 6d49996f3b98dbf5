//! Facts that came with the signals themselves.

use std::fmt::Write as _;

use plumbline_drift::report::{CanaryCause, CanaryEvent, DriftEvent};

use super::Fact;
use crate::drift::Drift;
use crate::intake::alertmanager::Alert;
use crate::signal::Origin;
use crate::store::SignalRow;

/// Alerts of one incident that become facts of their own; the rest are counted.
const MAX_ALERTS: usize = 12;

/// What the signals of an incident tell.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) alerts: Vec<Fact>,
    /// Canaries that lost their traffic.
    pub(super) canaries: Vec<Fact>,
    /// The worst comparison that an event carried; the newest of equals.
    pub(super) drift: Option<Drift>,
    /// Where that event came from.
    pub(super) source: Option<String>,
}

pub(super) fn facts(signals: &[SignalRow]) -> Stored {
    let mut stored = Stored::default();
    let mut more = 0;
    for signal in signals {
        match signal.origin {
            Origin::Alertmanager | Origin::Backfilled if stored.alerts.len() < MAX_ALERTS => {
                stored.alerts.push(alert(signal));
            }
            Origin::Alertmanager | Origin::Backfilled => more += 1,
            Origin::CanaryEvent => stored.canaries.extend(canary(signal)),
            // Its collector reads it itself.
            Origin::WorkflowRun => {}
            Origin::DriftEvent => {
                let Ok(event) = serde_json::from_value::<DriftEvent>(signal.body["data"].clone()) else {
                    continue;
                };
                let drift = Drift {
                    episode: Some(event.episode),
                    started_at: Some(signal.starts_at.clone()),
                    ..Drift::from(&event.report)
                };
                if stored
                    .drift
                    .as_ref()
                    .is_none_or(|known| drift.state >= known.state)
                {
                    stored.drift = Some(drift);
                    stored.source = signal.body["source"].as_str().map(str::to_owned);
                }
            }
        }
    }
    if more > 0 {
        stored.alerts.push(Fact {
            title: "further alerts".to_owned(),
            content: format!("{more} more alerts belong to this incident"),
        });
    }
    stored
}

/// What a gateway saw of a canary and of the revision that it was compared with.
fn canary(signal: &SignalRow) -> Option<Fact> {
    let event: CanaryEvent = serde_json::from_value(signal.body["data"].clone()).ok()?;
    let mut lines = vec![
        format!("stopped: {}, its weight is 0 at the gateway", signal.starts_at),
        format!("worse in: {}", event.cause.label()),
    ];
    if let Some(evidence) = event.log10_evidence {
        lines.push(format!("evidence: 10^{evidence:.1}"));
    }
    if let Some(object) = &event.object {
        lines.push(format!("InferenceService: {object}"));
    }
    for (role, seen) in [("canary", &event.canary), ("stable", &event.stable)] {
        let mut line = format!("{role} revision {}: {} answers", seen.revision, seen.answers);
        if seen.answers > 0 && event.cause != CanaryCause::Drift {
            let _ = write!(line, ", {:.1} % failed", seen.failed * 100.0);
        }
        if let Some(p95) = seen.p95_ms {
            let _ = write!(line, ", p95 {p95:.1} ms");
        }
        if let Some(drift) = seen.drift {
            let _ = write!(line, ", drift state {}", drift.level());
        }
        lines.push(line);
    }
    Some(Fact {
        title: signal.title.clone(),
        content: lines.join("\n"),
    })
}

fn alert(signal: &SignalRow) -> Fact {
    let mut lines = vec![
        format!("status: {}", signal.status),
        format!("since: {}", signal.starts_at),
    ];
    if let Some(ended) = &signal.ends_at {
        lines.push(format!("ended: {ended}"));
    }
    if signal.origin == Origin::Backfilled {
        lines.push("told late: Prometheus had it, the worker could not be told".to_owned());
    }
    if let Ok(alert) = serde_json::from_value::<Alert>(signal.body.clone()) {
        let labels = alert
            .labels
            .iter()
            .map(|(name, value)| format!("label {name}: {value}"));
        let annotations = alert
            .annotations
            .iter()
            .map(|(name, value)| format!("annotation {name}: {value}"));
        lines.extend(labels.chain(annotations));
        if !alert.generator_url.is_empty() {
            lines.push(format!("generator: {}", alert.generator_url));
        }
    }
    Fact {
        title: format!("alert {}", signal.title),
        content: lines.join("\n"),
    }
}
