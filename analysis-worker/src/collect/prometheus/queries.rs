//! What is asked.

use crate::collect::Place;
use crate::prometheus::quoted;

/// A query and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) title: &'static str,
    pub(super) text: String,
}

/// Of the model; `{model}` stands for the matcher.
const MODEL: [(&str, &str); 6] = [
    (
        "request rate, 1/s",
        "sum(rate(plumbline_request_duration_seconds_count{model}[5m]))",
    ),
    (
        "share of failed requests",
        // Without failures there is no series of them: that share is 0, not unknown.
        "(sum(rate(plumbline_request_duration_seconds_count{model,code=~\"5..|2|4|8|13|14|UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED\"}[5m])) or 0 * sum(rate(plumbline_request_duration_seconds_count{model}[5m]))) / sum(rate(plumbline_request_duration_seconds_count{model}[5m]))",
    ),
    (
        "latency p50, s",
        "histogram_quantile(0.5, sum by (le) (rate(plumbline_request_duration_seconds_bucket{model}[5m])))",
    ),
    (
        "latency p99, s",
        "histogram_quantile(0.99, sum by (le) (rate(plumbline_request_duration_seconds_bucket{model}[5m])))",
    ),
    (
        "drift score, PSI",
        "max by (subject) (plumbline_drift_score{model,statistic=\"psi\"})",
    ),
    (
        "drift state, 0 stable 1 warning 2 drift",
        "max by (subject) (plumbline_drift_state{model}) > 0",
    ),
];

/// Of the containers, as the kubelet and kube-state-metrics tell them; `{pods}` stands for the matchers.
const PODS: [(&str, &str); 4] = [
    (
        "memory of the containers, bytes",
        "max by (pod, container) (container_memory_working_set_bytes{pods,container!=\"\"})",
    ),
    (
        "CPU of the containers, cores",
        "sum by (pod, container) (rate(container_cpu_usage_seconds_total{pods,container!=\"\"}[5m]))",
    ),
    (
        "share of periods in which containers were throttled",
        "sum by (pod, container) (rate(container_cpu_cfs_throttled_periods_total{pods,container!=\"\"}[5m])) / sum by (pod, container) (rate(container_cpu_cfs_periods_total{pods,container!=\"\"}[5m]))",
    ),
    (
        "restarts of the containers",
        "max by (pod, container) (kube_pod_container_status_restarts_total{pods})",
    ),
];

/// Every query for a model, or for all; and for the pods, where the place has some.
pub(super) fn all(model: Option<&str>, place: &Place) -> Vec<Query> {
    let mut queries: Vec<Query> = MODEL
        .into_iter()
        .map(|(title, query)| Query {
            title,
            text: with_model(query, model),
        })
        .collect();
    if let Some(matchers) = pods(place) {
        queries.extend(PODS.into_iter().map(|(title, query)| Query {
            title,
            text: query.replace("{pods", &format!("{{{matchers}")),
        }));
    }
    queries
}

/// The pods by name; else all of the model, whose pods begin with its name.
fn pods(place: &Place) -> Option<String> {
    let namespace = quoted(place.namespace.as_ref()?);
    // Names of objects have no characters of a pattern but the dot.
    let names: Vec<String> = place.pods.iter().map(|name| name.replace('.', "\\.")).collect();
    let pattern = match (names.as_slice(), &place.deployment, &place.inference_service) {
        ([], Some(name), _) | ([], None, Some(name)) => format!("{}-.*", name.replace('.', "\\.")),
        ([], None, None) => return None,
        (names, ..) => names.join("|"),
    };
    Some(format!("namespace={namespace},pod=~{}", quoted(&pattern)))
}

fn with_model(query: &str, model: Option<&str>) -> String {
    let Some(model) = model else {
        return query.replace("{model,", "{").replace("{model}", "");
    };
    let matcher = format!("model={}", quoted(model));
    query
        .replace("{model,", &format!("{{{matcher},"))
        .replace("{model}", &format!("{{{matcher}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_name_cannot_leave_its_quotes() {
        let query = with_model(MODEL[4].1, Some("a\"} or up{x=\"\\"));
        assert_eq!(
            query,
            r#"max by (subject) (plumbline_drift_score{model="a\"} or up{x=\"\\",statistic="psi"})"#
        );
        assert_eq!(
            with_model(MODEL[0].1, None),
            "sum(rate(plumbline_request_duration_seconds_count[5m]))"
        );
    }

    #[test]
    fn containers_are_those_of_the_pods() {
        assert_eq!(all(None, &Place::default()).len(), MODEL.len());
        let place = Place {
            namespace: Some("models".to_owned()),
            pods: vec!["churn-0.a".to_owned(), "churn-1".to_owned()],
            ..Place::default()
        };
        let queries = all(None, &place);
        assert_eq!(
            queries[MODEL.len()].text,
            r#"max by (pod, container) (container_memory_working_set_bytes{namespace="models",pod=~"churn-0\\.a|churn-1",container!=""})"#
        );
        assert_eq!(
            queries.last().map(|query| query.text.as_str()),
            Some(
                r#"max by (pod, container) (kube_pod_container_status_restarts_total{namespace="models",pod=~"churn-0\\.a|churn-1"})"#
            )
        );
    }
}
