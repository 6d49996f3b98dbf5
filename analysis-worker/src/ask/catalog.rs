//! What can be asked for, and how it is put to Prometheus.

use std::time::Duration;

use super::Choice;
use crate::prometheus::quoted;

/// Codes that count as failures: of HTTP, and of gRPC by number and by name.
const FAILURES: &str =
    "code=~\"5..|2|4|8|13|14|UNKNOWN|UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED\"";

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds, shown in the unit that fits.
    Seconds,
    /// Events a second.
    PerSecond,
    /// A share, shown in percent.
    Share,
    /// A whole number.
    Count,
    /// 0 stable, 1 warning, 2 drift.
    DriftState,
    /// Bytes, shown in the unit that fits.
    Bytes,
    /// Processors.
    Cores,
    /// As it is.
    Plain,
}

macro_rules! queries {
    ($($Variant:ident { $name:literal, $title:literal, $unit:ident, [$($word:literal),+ $(,)?], $expression:literal })+) => {
        /// One measurement that can be asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Query { $($Variant),+ }

        impl Query {
            /// Every one of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$Variant),+];

            /// Its name in a model's pick.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$Variant => $name),+ }
            }

            /// For people.
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$Variant => $title),+ }
            }

            pub(crate) const fn unit(self) -> Unit {
                match self { $(Self::$Variant => Unit::$unit),+ }
            }

            /// Words and phrases that ask for it, in lower case.
            pub(super) const fn words(self) -> &'static [&'static str] {
                match self { $(Self::$Variant => &[$($word),+]),+ }
            }

            /// `{m}` stands for the matchers of model and version, `{m,` for the same with more behind, `[w]` for the window,
            /// `$q` for the quantile.
            const fn template(self) -> &'static str {
                match self { $(Self::$Variant => $expression),+ }
            }
        }
    };
}

queries! {
    Latency { "latency", "latency", Seconds,
        ["latency", "latencies", "response time", "slow", "how fast", "how long", "duration"],
        "histogram_quantile($q, sum by (model, version, le) (rate(plumbline_request_duration_seconds_bucket{m}[w])))" }
    RequestRate { "request_rate", "requests a second", PerSecond,
        ["request rate", "requests per second", "requests a second", "rps", "qps", "throughput", "traffic", "load", "how busy"],
        "sum by (model, version) (rate(plumbline_request_duration_seconds_count{m}[w]))" }
    Requests { "requests", "requests", Count,
        ["how many requests", "number of requests", "requests", "calls"],
        "sum by (model, version) (increase(plumbline_request_duration_seconds_count{m}[w]))" }
    Failures { "failures", "share of failed requests", Share,
        ["error rate", "errors", "failure rate", "failures", "failed", "failing", "5xx", "availability"],
        "(sum by (model, version) (rate(plumbline_request_duration_seconds_count{m,FAILURES}[w])) or 0 * sum by (model, version) (rate(plumbline_request_duration_seconds_count{m}[w]))) / sum by (model, version) (rate(plumbline_request_duration_seconds_count{m}[w]))" }
    DriftState { "drift_state", "what drifts or is about to", DriftState,
        ["drift", "drifting", "drifted", "drift state", "stable"],
        "max by (model, version, subject) (plumbline_drift_state{m}) > 0" }
    DriftScore { "drift_score", "drift score (PSI), highest first", Plain,
        ["psi", "drift score", "population stability", "how much drift", "how far"],
        "topk(10, max by (model, version, subject) (plumbline_drift_score{m,statistic=\"psi\"}))" }
    Accuracy { "accuracy", "accuracy", Share, ["accuracy", "accurate", "how right"],
        "max by (model, version, source) (plumbline_model_accuracy{m})" }
    Precision { "precision", "precision", Share, ["precision"],
        "max by (model, version, source) (plumbline_model_precision{m})" }
    Recall { "recall", "recall", Share, ["recall", "sensitivity"],
        "max by (model, version, source) (plumbline_model_recall{m})" }
    F1 { "f1", "F1", Share, ["f1", "f1 score", "f-score"],
        "max by (model, version, source) (plumbline_model_f1{m})" }
    Auc { "auc", "area under the ROC curve", Plain, ["auc", "roc", "roc auc"],
        "max by (model, version, source) (plumbline_model_auc{m})" }
    LogLoss { "log_loss", "log-loss", Plain, ["log loss", "log-loss", "logloss", "cross entropy"],
        "max by (model, version, source) (plumbline_model_log_loss{m})" }
    Calibration { "calibration", "calibration error", Plain, ["calibration", "calibrated", "ece"],
        "max by (model, version, source) (plumbline_model_calibration_error{m})" }
    Confidence { "confidence", "mean confidence", Share, ["confidence", "confident", "how sure", "certainty"],
        "sum by (model, version, output) (rate(plumbline_prediction_confidence_sum{m}[w])) / sum by (model, version, output) (rate(plumbline_prediction_confidence_count{m}[w]))" }
    Classes { "classes", "predictions by class", Count,
        ["classes", "class", "predicted classes", "predictions by class", "how many predictions", "distribution of predictions"],
        "sum by (model, version, output, class) (increase(plumbline_prediction_class_total{m}[w]))" }
    Rows { "rows", "rows compared with the reference", Count, ["rows", "rows observed", "observed"],
        "sum by (model, version) (increase(plumbline_rows_observed_total{m}[w]))" }
    Missing { "missing", "missing feature values a row, highest first", Share,
        ["missing", "missing values", "missing rate", "null", "nulls", "nan"],
        "topk(10, sum by (model, version, feature) (increase(plumbline_feature_missing_total{m}[w])) / on (model, version) group_left sum by (model, version) (increase(plumbline_rows_observed_total{m}[w])))" }
    Unseen { "unseen", "values of unknown categories a row, highest first", Share,
        ["unseen", "unseen categories", "unknown categories", "new categories"],
        "topk(10, sum by (model, version, feature) (increase(plumbline_feature_unseen_category_total{m}[w])) / on (model, version) group_left sum by (model, version) (increase(plumbline_rows_observed_total{m}[w])))" }
    Overhead { "overhead", "time that the sidecar adds", Seconds, ["overhead", "sidecar overhead", "added latency"],
        "histogram_quantile($q, sum by (model, le) (rate(plumbline_sidecar_overhead_seconds_bucket{model}[w])))" }
    Ejected { "ejected", "endpoints out of use at the gateway", Count, ["ejected", "out of use", "unhealthy", "unreachable", "endpoints", "down"],
        "max by (endpoint) (plumbline_gateway_upstream_ejected) > 0" }
    Canary { "canary", "answers by revision", PerSecond, ["canary", "revision", "revisions", "split"],
        "sum by (model, revision, outcome) (rate(plumbline_gateway_revision_answers_total{model}[w]))" }
    Memory { "memory", "memory of the processes", Bytes, ["memory", "ram", "rss"],
        "max by (job, instance) (process_resident_memory_bytes)" }
    Cpu { "cpu", "processor use", Cores, ["cpu", "processor", "cores", "cpu usage"],
        "sum by (job, instance) (rate(process_cpu_seconds_total[w]))" }
    Alerts { "alerts", "alerts that fire", Count, ["alerts", "alert", "firing", "what is wrong", "problems"],
        "count by (alertname, severity, model) (ALERTS{alertstate=\"firing\"})" }
}

impl Query {
    /// What can be asked for, in one line.
    pub(crate) fn list() -> String {
        let titles: Vec<&str> = Self::ALL.iter().map(|query| query.title()).collect();
        titles.join(", ")
    }

    /// Whether it is one of several quantiles.
    pub(super) const fn has_quantile(self) -> bool {
        matches!(self, Self::Latency | Self::Overhead)
    }

    /// Whether it is over a window.
    pub(super) fn has_window(self) -> bool {
        self.template().contains("[w]")
    }
}

impl Choice {
    /// The expression, every place filled.
    pub(super) fn expression(&self) -> String {
        let matcher = |label: &str, value: &String| format!("{label}={}", quoted(value));
        let model = self.model.as_ref().map(|model| matcher("model", model));
        let version = self.version.as_ref().map(|version| matcher("version", version));
        let both: Vec<&str> = [&model, &version]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let (model, both) = (model.clone().unwrap_or_default(), both.join(","));
        let more = if both.is_empty() {
            String::new()
        } else {
            format!("{both},")
        };
        let window = promql_duration(self.window);
        let template = self.query.template();
        let mut expression = String::with_capacity(template.len() + 200);
        let mut rest = template;
        // In one pass: what is filled in is never looked at for places again.
        while let Some(place) = rest.find(['{', '[', '$', 'F']) {
            expression.push_str(&rest[..place]);
            rest = &rest[place..];
            let filled = [
                ("{m}", format!("{{{both}}}")),
                ("{m,", format!("{{{more}")),
                ("{model}", format!("{{{model}}}")),
                ("[w]", format!("[{window}]")),
                ("$q", self.quantile.to_string()),
                ("FAILURES", FAILURES.to_owned()),
            ]
            .into_iter()
            .find(|(name, _)| rest.starts_with(name));
            if let Some((name, value)) = filled {
                expression.push_str(value.strip_suffix("{}").unwrap_or(&value));
                rest = &rest[name.len()..];
            } else {
                expression.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
        expression.push_str(rest);
        expression
    }
}

/// `5m`, `24h`: the largest unit that divides it.
pub(super) fn promql_duration(duration: Duration) -> String {
    let seconds = duration.as_secs().max(1);
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let (size, unit) = units
        .into_iter()
        .find(|(size, _)| seconds.is_multiple_of(*size))
        .unwrap_or((1, "s"));
    format!("{}{unit}", seconds / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(query: Query, model: Option<&str>, version: Option<&str>) -> Choice {
        Choice {
            query,
            model: model.map(str::to_owned),
            version: version.map(str::to_owned),
            quantile: 0.95,
            window: Duration::from_mins(5),
            ago: Duration::ZERO,
        }
    }

    #[test]
    fn every_place_is_filled() {
        for query in Query::ALL {
            for (model, version) in [(None, None), (Some("churn"), None), (Some("churn"), Some("2"))] {
                let expression = choice(*query, model, version).expression();
                for place in ["{m", "[w]", "$q", "{}", "FAILURES"] {
                    assert!(
                        !expression.contains(place) || place == "{m" && expression.contains("{model="),
                        "{expression}"
                    );
                }
                let named = query.template().contains("{m");
                assert_eq!(
                    expression.contains("model=\"churn\""),
                    named && model.is_some(),
                    "{expression}"
                );
            }
        }
    }

    #[test]
    fn a_filled_place_is_not_filled_again() {
        let expression = choice(Query::RequestRate, Some("a[w]$q{m}"), Some("\"} or up{")).expression();
        assert_eq!(
            expression,
            r#"sum by (model, version) (rate(plumbline_request_duration_seconds_count{model="a[w]$q{m}",version="\"} or up{"}[5m]))"#
        );
    }

    #[test]
    fn names_are_unique_and_so_are_the_words() {
        let mut names: Vec<&str> = Query::ALL.iter().map(|query| query.name()).collect();
        let mut words: Vec<&str> = Query::ALL
            .iter()
            .flat_map(|query| query.words())
            .copied()
            .collect();
        for list in [&mut names, &mut words] {
            list.sort_unstable();
            let count = list.len();
            list.dedup();
            assert_eq!(list.len(), count, "{list:?}");
        }
    }

    #[test]
    fn durations_are_as_prometheus_writes_them() {
        let written = |seconds| promql_duration(Duration::from_secs(seconds));
        assert_eq!(
            [
                written(300),
                written(3_600),
                written(86_400 * 7),
                written(90),
                written(0)
            ],
            ["5m", "1h", "7d", "90s", "1s"]
        );
    }
}
