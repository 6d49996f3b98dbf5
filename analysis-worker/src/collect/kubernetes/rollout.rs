//! What the last rollout of a Deployment changed, and when.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Found;
use super::api::{Api, DEPLOYMENTS, REPLICA_SETS};
use super::describe::{because, text};
use super::pods::{Pod, items, owner, selector_of};
use crate::collect::{Fact, Place};
use crate::text::one_line;

/// Deployments that are looked at.
const MAX_DEPLOYMENTS: usize = 2;
/// Rollouts that are listed.
const MAX_ROLLOUTS: usize = 6;
/// Changes that are shown.
const MAX_CHANGES: usize = 40;

pub(super) async fn ask(api: &Api, pods: &[Pod], place: &Place, started_at: i64, found: &mut Found) {
    let mut deployments: BTreeSet<(String, String)> = BTreeSet::new();
    for pod in pods {
        if let Some(("ReplicaSet", set)) = pod.owner() {
            match api.get(REPLICA_SETS, Some(&pod.namespace), set).await {
                Ok(set) => {
                    if let Some(("Deployment", name)) = owner(&set) {
                        deployments.insert((pod.namespace.clone(), name.to_owned()));
                    }
                }
                Err(error) => found.gaps.push(error.to_string()),
            }
        }
    }
    if let (Some(namespace), Some(name)) = (&place.namespace, &place.deployment) {
        deployments.insert((namespace.clone(), name.clone()));
    }
    for (namespace, name) in deployments.into_iter().take(MAX_DEPLOYMENTS) {
        let deployment = match api.get(DEPLOYMENTS, Some(&namespace), &name).await {
            Ok(deployment) => deployment,
            Err(error) => {
                found.gaps.push(error.to_string());
                continue;
            }
        };
        let Some(selector) = selector_of(&deployment) else {
            continue;
        };
        match api
            .list(REPLICA_SETS, Some(&namespace), ("labelSelector", &selector))
            .await
        {
            Ok(list) => {
                let mut sets = list.items;
                sets.retain(|set| owner(set) == Some(("Deployment", name.as_str())));
                found.facts.push(fact(&name, &deployment, sets, started_at));
            }
            Err(error) => found.gaps.push(error.to_string()),
        }
    }
}

fn fact(name: &str, deployment: &Value, mut sets: Vec<Value>, started_at: i64) -> Fact {
    let status = &deployment["status"];
    let mut lines = vec![format!(
        "wants {} replicas, has {} ready, {} updated, {} unavailable",
        text(&deployment["spec"]["replicas"]),
        status["readyReplicas"].as_i64().unwrap_or(0),
        status["updatedReplicas"].as_i64().unwrap_or(0),
        status["unavailableReplicas"].as_i64().unwrap_or(0),
    )];
    for condition in items(&status["conditions"]) {
        if condition["status"] != "True" || condition["type"] == "Progressing" {
            lines.push(format!(
                "condition {} is {}{}",
                text(&condition["type"]),
                text(&condition["status"]),
                because(condition)
            ));
        }
    }
    let revision = |set: &Value| -> i64 {
        let revision = &set["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
        revision.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    sets.sort_by_cached_key(|set| std::cmp::Reverse(revision(set)));
    for set in sets.iter().take(MAX_ROLLOUTS) {
        let made = text(&set["metadata"]["creationTimestamp"]);
        lines.push(format!(
            "rollout {}: ReplicaSet {} made {made}{}, {} replicas, {} ready",
            revision(set),
            text(&set["metadata"]["name"]),
            beside(&made, started_at),
            text(&set["spec"]["replicas"]),
            set["status"]["readyReplicas"].as_i64().unwrap_or(0),
        ));
    }
    if let [newest, before, ..] = sets.as_slice() {
        let changes = changes(&before["spec"]["template"], &newest["spec"]["template"]);
        lines.push(format!(
            "rollout {} changed of rollout {}: {}",
            revision(newest),
            revision(before),
            if changes.is_empty() {
                "nothing that is shown here"
            } else {
                ""
            },
        ));
        let more = changes.len().saturating_sub(MAX_CHANGES);
        lines.extend(changes.into_iter().take(MAX_CHANGES));
        if more > 0 {
            lines.push(format!("{more} more changes"));
        }
    }
    Fact {
        title: format!("Kubernetes: rollouts of deployment {name}"),
        content: lines.join("\n"),
    }
}

/// How long before or after the incident's begin.
fn beside(time: &str, started_at: i64) -> String {
    let Ok(at) = time.parse::<jiff::Timestamp>() else {
        return String::new();
    };
    let minutes = (at.as_millisecond() - started_at) / 60_000;
    match minutes {
        0 => " (as the incident began)".to_owned(),
        minutes if minutes > 0 => format!(" ({minutes} min after the incident began)"),
        minutes => format!(" ({} min before the incident began)", -minutes),
    }
}

/// Differences of two pod templates, one line each. Of environment variables only that they differ.
fn changes(before: &Value, after: &Value) -> Vec<String> {
    let (before, after) = (flat(before), flat(after));
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| {
            let hidden = path.contains(".env[");
            let show = |values: &BTreeMap<String, String>| match values.get(path) {
                None => "not there".to_owned(),
                Some(_) if hidden => "there".to_owned(),
                Some(value) => one_line(value, 160),
            };
            match (hidden, before.contains_key(path), after.contains_key(path)) {
                (true, true, true) => format!("{path}: changed"),
                _ => format!("{path}: {} → {}", show(&before), show(&after)),
            }
        })
        .collect()
}

/// Every value by its path; items of a list go by their name where they have one. The hash of the template itself, which
/// always differs, is left out.
fn flat(value: &Value) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, out: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name != "pod-template-hash" && name != "creationTimestamp" {
                        let path = if path.is_empty() {
                            name.clone()
                        } else {
                            format!("{path}.{name}")
                        };
                        walk(&path, value, out);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let name = item["name"]
                        .as_str()
                        .map_or_else(|| index.to_string(), str::to_owned);
                    walk(&format!("{path}[{name}]"), item, out);
                }
            }
            Value::Null => {}
            value => {
                out.insert(path.to_owned(), text(value));
            }
        }
    }
    let mut out = BTreeMap::new();
    walk("", value, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_the_environment_are_not_shown() {
        let template = |image: &str, password: &str, memory: &str| {
            json!({"metadata": {"labels": {"pod-template-hash": image}}, "spec": {"containers": [{
                "name": "server", "image": image, "resources": {"limits": {"memory": memory}},
                "env": [{"name": "PASSWORD", "value": password}],
            }]}})
        };
        let (old, new) = (
            template("a:1", "hunter2", "1Gi"),
            template("a:2", "hunter3", "1Gi"),
        );
        assert_eq!(
            changes(&old, &new),
            [
                "spec.containers[server].env[PASSWORD].value: changed",
                "spec.containers[server].image: a:1 → a:2",
            ]
        );
        assert_eq!(changes(&old, &old), Vec::<String>::new());
        let without = json!({"spec": {"containers": [{"name": "server", "image": "a:1"}]}});
        let added = changes(&without, &old);
        assert!(
            added.contains(&"spec.containers[server].env[PASSWORD].value: not there → there".to_owned()),
            "{added:?}"
        );
        assert!(
            added.contains(&"spec.containers[server].resources.limits.memory: not there → 1Gi".to_owned()),
            "{added:?}"
        );
    }

    #[test]
    fn a_rollout_stands_beside_the_incident() {
        let begin: jiff::Timestamp = "2026-11-22T22:00:00Z".parse().expect("a time");
        assert_eq!(
            beside("2026-11-22T21:48:00Z", begin.as_millisecond()),
            " (12 min before the incident began)"
        );
        assert_eq!(beside("none", 0), "");
    }
}
