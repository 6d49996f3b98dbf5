//! Which pods an incident is about, and which of them are worth a look.

use serde_json::Value;

use super::api::{Api, ApiError, DEPLOYMENTS, Kind, List, PODS, STATEFUL_SETS};
use crate::collect::{Fact, Place};

/// Pods that are described and whose logs are read.
const MAX_WORST: usize = 3;
/// Pods that are listed.
const MAX_LISTED: usize = 30;

/// A pod with its place.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) object: Value,
}

impl Pod {
    fn new(object: Value) -> Self {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
        Self {
            namespace: text("namespace"),
            name: text("name"),
            object,
        }
    }

    /// Kind and name of what made it.
    pub(super) fn owner(&self) -> Option<(&str, &str)> {
        owner(&self.object)
    }

    /// Status of its containers, init containers first.
    pub(super) fn containers(&self) -> impl Iterator<Item = &Value> {
        let status = &self.object["status"];
        items(&status["initContainerStatuses"])
            .iter()
            .chain(items(&status["containerStatuses"]))
    }

    pub(super) fn restarts(&self) -> i64 {
        self.containers()
            .filter_map(|container| container["restartCount"].as_i64())
            .sum()
    }

    fn is_ready(&self) -> bool {
        items(&self.object["status"]["conditions"])
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }

    /// How much there is to see: not ready, ended badly, restarted; the latest restart breaks ties.
    fn badness(&self) -> (bool, bool, i64, String) {
        let ended_badly = |container: &Value| {
            let states = [
                &container["state"]["terminated"],
                &container["lastState"]["terminated"],
            ];
            let waits = container["state"]["waiting"]["reason"]
                .as_str()
                .is_some_and(|reason| reason != "ContainerCreating" && reason != "PodInitializing");
            waits
                || states
                    .iter()
                    .any(|state| state["exitCode"].as_i64().unwrap_or(0) != 0)
        };
        let last = self
            .containers()
            .filter_map(|container| container["lastState"]["terminated"]["finishedAt"].as_str())
            .max();
        let has_succeeded = self.object["status"]["phase"] == "Succeeded";
        (
            !self.is_ready() && !has_succeeded,
            self.containers().any(ended_badly),
            self.restarts(),
            last.unwrap_or("").to_owned(),
        )
    }
}

/// The array, or nothing.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Kind and name of what controls an object.
pub(super) fn owner(object: &Value) -> Option<(&str, &str)> {
    let owners = items(&object["metadata"]["ownerReferences"]);
    let owner = owners
        .iter()
        .find(|owner| owner["controller"] == true)
        .or_else(|| owners.first())?;
    Some((owner["kind"].as_str()?, owner["name"].as_str()?))
}

/// The pods that the place names, or those of what it names.
///
/// # Errors
/// Why there is none.
pub(super) async fn find(
    api: &Api,
    allowed: &[String],
    place: &Place,
    gaps: &mut Vec<String>,
) -> Result<Vec<Pod>, String> {
    let namespaces: Vec<Option<&str>> = match (&place.namespace, allowed) {
        (Some(namespace), []) => vec![Some(namespace)],
        (Some(namespace), allowed) if allowed.contains(namespace) => vec![Some(namespace)],
        (Some(namespace), _) => {
            return Err(format!("namespace {namespace} is not among kubernetes_namespace"));
        }
        (None, []) => vec![None],
        (None, allowed) => allowed.iter().map(|namespace| Some(namespace.as_str())).collect(),
    };
    let mut pods = Vec::new();
    if let Some(namespace) = &place.namespace {
        for name in &place.pods {
            match api.get(PODS, Some(namespace), name).await {
                Ok(object) => pods.push(Pod::new(object)),
                Err(error @ ApiError::NotFound(_)) => gaps.push(format!("{error} any more")),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    // A pod that is named says more than its model; the others of the model are still of interest to its events.
    if !pods.is_empty() {
        return Ok(pods);
    }
    let mut tried = Vec::new();
    for namespace in namespaces {
        for selector in selectors(api, namespace, place, gaps).await {
            match api.list(PODS, namespace, ("labelSelector", &selector)).await {
                Ok(List { items, has_more }) => {
                    if has_more {
                        gaps.push(format!("more pods with {selector} than were looked at"));
                    }
                    pods.extend(items.into_iter().map(Pod::new));
                }
                Err(error) => return Err(error.to_string()),
            }
            tried.push(selector);
            if !pods.is_empty() {
                return Ok(pods);
            }
        }
    }
    if tried.is_empty() {
        return Err("the alert names no pod, workload or model".to_owned());
    }
    tried.dedup();
    Err(format!("no pod with {}", tried.join(" or ")))
}

/// How the pods of what the place names are selected, the narrowest first.
async fn selectors(api: &Api, namespace: Option<&str>, place: &Place, gaps: &mut Vec<String>) -> Vec<String> {
    let mut selectors = Vec::new();
    if let Some(job) = &place.job {
        selectors.push(format!("job-name={job}"));
    }
    let workloads: [(Kind, &Option<String>); 2] = [
        (DEPLOYMENTS, &place.deployment),
        (STATEFUL_SETS, &place.stateful_set),
    ];
    for (kind, name) in workloads {
        let (Some(name), Some(namespace)) = (name, namespace) else {
            continue;
        };
        match api.get(kind, Some(namespace), name).await {
            Ok(workload) => selectors.extend(selector_of(&workload)),
            Err(error) => gaps.push(error.to_string()),
        }
    }
    if let Some(service) = &place.inference_service {
        selectors.push(format!("serving.kserve.io/inferenceservice={service}"));
    }
    selectors
}

/// `matchLabels` of a workload as a selector.
pub(super) fn selector_of(workload: &Value) -> Option<String> {
    let labels = workload["spec"]["selector"]["matchLabels"].as_object()?;
    let pairs: Vec<String> = labels
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)))
        .collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

/// The pods with most to see.
pub(super) fn worst(pods: &[Pod]) -> Vec<Pod> {
    let mut pods = pods.to_vec();
    pods.sort_by_cached_key(|pod| std::cmp::Reverse(pod.badness()));
    pods.truncate(MAX_WORST);
    pods
}

/// One line a pod, when there are several.
pub(super) fn overview(pods: &[Pod]) -> Option<Fact> {
    if pods.len() < 2 {
        return None;
    }
    let mut lines: Vec<String> = pods
        .iter()
        .take(MAX_LISTED)
        .map(|pod| {
            let status = &pod.object["status"];
            format!(
                "{}: {}, {}ready, {} restarts, node {}, since {}",
                pod.name,
                status["phase"].as_str().unwrap_or("phase unknown"),
                if pod.is_ready() { "" } else { "not " },
                pod.restarts(),
                pod.object["spec"]["nodeName"].as_str().unwrap_or("none"),
                status["startTime"].as_str().unwrap_or("unknown"),
            )
        })
        .collect();
    if pods.len() > MAX_LISTED {
        lines.push(format!("{} more pods", pods.len() - MAX_LISTED));
    }
    Some(Fact {
        title: format!(
            "Kubernetes: {} pods in namespace {}",
            pods.len(),
            pods[0].namespace
        ),
        content: lines.join("\n"),
    })
}
