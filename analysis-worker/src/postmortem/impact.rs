//! What an incident cost its clients, from Prometheus.

use std::time::Duration;

use crate::ask::{self, Answer, Choice, Query};
use crate::prometheus::Prometheus;
use crate::signal::now;

/// What was measured while it lasted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Impact {
    /// How long it lasted, or has lasted.
    pub(crate) lasted: Duration,
    pub(crate) measured: Vec<Answer>,
    /// Why something is not known.
    pub(crate) gaps: Vec<String>,
}

const QUERIES: [(Query, f64); 4] = [
    (Query::Requests, 0.5),
    (Query::Failures, 0.5),
    (Query::Latency, 0.99),
    (Query::Rows, 0.5),
];

/// Measures from `started_at` to `ended_at`, milliseconds since 1970; now without an end.
pub(crate) async fn measure(
    prometheus: Option<&Prometheus>,
    model: Option<&str>,
    started_at: i64,
    ended_at: Option<i64>,
) -> Impact {
    let end = ended_at.unwrap_or_else(now);
    let lasted = Duration::from_millis((end - started_at).max(1_000) as u64);
    let mut impact = Impact {
        lasted,
        ..Impact::default()
    };
    let Some(prometheus) = prometheus else {
        impact.gaps.push("no Prometheus is configured".to_owned());
        return impact;
    };
    let ago = Duration::from_millis((now() - end).max(0) as u64);
    for (query, quantile) in QUERIES {
        let mut choice = Choice::now(query, model, quantile);
        choice.window = Duration::from_secs(lasted.as_secs().max(60));
        choice.ago = ago;
        match ask::run(prometheus, &choice).await {
            Ok(answer) if answer.values.is_empty() => {
                impact.gaps.push(format!("no series: {}", query.title()));
            }
            Ok(answer) => impact.measured.push(answer),
            Err(error) => {
                impact.gaps.push(format!("{}: {error}", query.title()));
            }
        }
    }
    impact
}

impl Impact {
    /// One line for each figure.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "It lasted {}.",
            super::span(self.lasted.as_millis() as i64)
        )];
        for answer in &self.measured {
            let values: Vec<String> = answer
                .values
                .iter()
                .map(|value| match value.of.as_str() {
                    "" => value.shown.clone(),
                    of => format!("{} ({of})", value.shown),
                })
                .collect();
            lines.push(format!("{}: {}.", answer.title, values.join("; ")));
        }
        lines.extend(self.gaps.iter().map(|gap| format!("Not known: {gap}.")));
        lines
    }
}
