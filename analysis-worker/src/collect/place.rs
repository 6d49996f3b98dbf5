//! Where in a cluster an incident happens, as the labels of its alerts tell it.

use std::collections::BTreeMap;

use super::About;
use crate::store::SignalRow;

/// Pods of one incident that are looked for by name.
const MAX_PODS: usize = 5;

/// Names of objects; whatever a label says that cannot be a name is left out, for names become parts of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) namespace: Option<String>,
    pub(super) pods: Vec<String>,
    pub(super) container: Option<String>,
    pub(super) node: Option<String>,
    pub(super) deployment: Option<String>,
    pub(super) stateful_set: Option<String>,
    pub(super) job: Option<String>,
    /// As the alert has it: the label `model_version`, or `version` beside a model.
    pub(super) model_version: Option<String>,
    /// An InferenceService has its model's name, unless somebody says otherwise.
    pub(super) inference_service: Option<String>,
}

impl Place {
    pub(super) fn of(about: &About, signals: &[SignalRow]) -> Self {
        let mut place = Self::default();
        for signal in signals {
            let labels: BTreeMap<String, String> =
                serde_json::from_value(signal.body["labels"].clone()).unwrap_or_default();
            let first = |names: &[&str]| {
                let mut values = names.iter().filter_map(|name| labels.get(*name));
                values.find(|value| is_name(value)).cloned()
            };
            // Pods of another namespace belong to another place.
            let namespace = first(&["exported_namespace", "namespace", "kubernetes_namespace"]);
            if place.namespace.is_none() {
                place.namespace = namespace;
            } else if namespace.is_some() && namespace != place.namespace {
                continue;
            }
            if let Some(pod) = first(&["exported_pod", "pod", "pod_name", "kubernetes_pod_name"])
                && !place.pods.contains(&pod)
                && place.pods.len() < MAX_PODS
            {
                place.pods.push(pod);
            }
            let fill = |slot: &mut Option<String>, names: &[&str]| {
                if slot.is_none() {
                    *slot = first(names);
                }
            };
            fill(&mut place.container, &["exported_container", "container"]);
            fill(&mut place.node, &["node"]);
            fill(&mut place.deployment, &["deployment"]);
            fill(&mut place.stateful_set, &["statefulset"]);
            fill(&mut place.job, &["job_name"]);
            fill(
                &mut place.inference_service,
                &["inferenceservice", "inference_service"],
            );
            fill(&mut place.model_version, &["model_version", "version"]);
        }
        if place.inference_service.is_none() {
            place.inference_service = about.model.clone().filter(|model| is_name(model));
        }
        place
    }
}

/// Whether this can be the name of an object: RFC 1123, subdomain.
fn is_name(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= 253
        && text.chars().all(inside)
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::signal::Origin;

    fn alert(labels: &serde_json::Value) -> SignalRow {
        SignalRow {
            origin: Origin::Alertmanager,
            status: "firing".to_owned(),
            title: "x".to_owned(),
            starts_at: String::new(),
            ends_at: None,
            received_at: String::new(),
            times_seen: 1,
            body: json!({"labels": labels}),
        }
    }

    fn about(model: &str) -> About {
        About {
            kind: "X".to_owned(),
            model: Some(model.to_owned()),
            started_at: 0,
        }
    }

    #[test]
    fn the_labels_of_several_alerts_are_one_place() {
        let signals = [
            alert(&json!({"namespace": "models", "pod": "churn-0", "container": "server"})),
            alert(&json!({"namespace": "models", "pod": "churn-1", "deployment": "churn"})),
            alert(&json!({"namespace": "elsewhere", "pod": "other"})),
        ];
        let place = Place::of(&about("churn"), &signals);
        assert_eq!(place.namespace.as_deref(), Some("models"));
        assert_eq!(place.pods, ["churn-0", "churn-1"]);
        assert_eq!(place.deployment.as_deref(), Some("churn"));
        assert_eq!(place.inference_service.as_deref(), Some("churn"));
    }

    #[test]
    fn what_cannot_be_a_name_is_not_one() {
        for bad in ["../secrets", "a/b", "A", "-a", "a?watch=1", "", "a..b", "%2e"] {
            assert!(!is_name(bad), "{bad}");
        }
        let place = Place::of(
            &about("Churn Model"),
            &[alert(&json!({"namespace": "a/../b", "pod": "x y"}))],
        );
        assert_eq!(place, Place::default());
    }
}
