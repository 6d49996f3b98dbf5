//! The figures that are compared before and after an intervention.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::ask::{self, Choice, Query};
use crate::collect::sidecar;
use crate::config::Sources;
use crate::drift::{Drift, State, number};
use crate::http::HttpClient;
use crate::prometheus::Prometheus;

/// What is asked of Prometheus.
const QUERIES: [(&str, Query, f64); 4] = [
    ("share of failed requests", Query::Failures, 0.5),
    ("latency p50, s", Query::Latency, 0.5),
    ("latency p99, s", Query::Latency, 0.99),
    ("requests a second", Query::RequestRate, 0.5),
];

/// Figures by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Measures(BTreeMap<String, f64>);

/// What is measured now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    pub(crate) values: Measures,
    /// Of the model that the sidecar sees.
    pub(crate) version: Option<String>,
}

impl Measures {
    /// Of the comparison that a report rests on.
    pub(crate) fn of_report(drift: &Drift) -> Self {
        let mut values = BTreeMap::new();
        let level = match drift.state {
            State::Stable => 0.0,
            State::Warning => 1.0,
            State::Drift => 2.0,
        };
        values.insert("drift state".to_owned(), level);
        let drifting = drift
            .subjects
            .iter()
            .filter(|subject| subject.state == State::Drift);
        values.insert("subjects that drift".to_owned(), drifting.count() as f64);
        let highest = drift
            .subjects
            .iter()
            .filter_map(|subject| subject.psi)
            .reduce(f64::max);
        values.extend(highest.map(|psi| ("highest PSI".to_owned(), psi)));
        Self(values)
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// Nothing of what is not JSON.
    pub(crate) fn from_json(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// Each figure that is known of both, `name before → after`, in one line.
    pub(crate) fn compare(&self, after: &Self) -> String {
        let mut text = String::new();
        for (name, before) in &self.0 {
            if let Some(after) = after.0.get(name) {
                let comma = if text.is_empty() { "" } else { "; " };
                let _ = write!(text, "{comma}{name} {} → {}", number(*before), number(*after));
            }
        }
        text
    }
}

/// Takes measures.
#[derive(Debug)]
pub(crate) struct Measurer {
    sources: Sources,
    http: HttpClient,
    prometheus: Option<Prometheus>,
}

impl Measurer {
    pub(crate) fn new(sources: Sources) -> Self {
        let http = HttpClient::new();
        let prometheus = Prometheus::configured(&sources, http.clone());
        Self {
            sources,
            http,
            prometheus,
        }
    }

    /// What can be had; a source that gives nothing leaves its figures out.
    pub(crate) async fn measure(&self, model: Option<&str>) -> Measured {
        let mut measured = Measured::default();
        if model.is_some()
            && let Ok(drift) = sidecar::now(&self.http, &self.sources, model).await
        {
            measured.values = Measures::of_report(&drift);
            measured.version = Some(drift.version);
        }
        let Some(prometheus) = &self.prometheus else {
            return measured;
        };
        for (name, query, quantile) in QUERIES {
            let choice = Choice::now(query, model, quantile);
            let Ok(answer) = ask::run(prometheus, &choice).await else {
                continue;
            };
            // Versions side by side: the worst of them.
            if let Some(value) = answer.values.first() {
                measured.values.0.insert(name.to_owned(), value.value);
            }
        }
        measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::tests::contract_shift;

    #[test]
    fn before_and_after_are_compared_by_name() {
        let before = Measures::from_json(r#"{"latency p99, s": 0.8, "highest PSI": 0.61, "gone": 1}"#);
        let after = Measures::from_json(r#"{"latency p99, s": 0.05, "highest PSI": 0.01}"#);
        assert_eq!(
            before.compare(&after),
            "highest PSI 0.61 → 0.01; latency p99, s 0.8 → 0.05"
        );
        assert_eq!(before.compare(&Measures::from_json("no JSON")), "");
    }

    #[test]
    fn a_reports_drift_is_measured_as_the_sidecars_is() {
        let json = Measures::of_report(&contract_shift()).to_json();
        assert!(
            json.contains("\"drift state\":2.0") && json.contains("\"highest PSI\""),
            "{json}"
        );
    }
}
