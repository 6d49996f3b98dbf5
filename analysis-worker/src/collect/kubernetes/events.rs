//! Events of pods and of what owns them. The cluster keeps them for an hour.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Found;
use super::api::{Api, EVENTS};
use super::describe::{because, text};
use super::pods::{Pod, items};
use crate::collect::Fact;

/// Objects whose events are read.
const MAX_OBJECTS: usize = 8;
/// Events that are shown, the newest first kept.
const MAX_EVENTS: usize = 40;

pub(super) async fn ask(api: &Api, pods: &[Pod], found: &mut Found) {
    let mut objects: BTreeSet<(&str, String)> = BTreeSet::new();
    for pod in pods {
        objects.insert((&pod.namespace, pod.name.clone()));
        if let Some((kind, name)) = pod.owner() {
            objects.insert((&pod.namespace, name.to_owned()));
            // A ReplicaSet has the name of its Deployment and a hash.
            if kind == "ReplicaSet"
                && let Some((deployment, _)) = name.rsplit_once('-')
            {
                objects.insert((&pod.namespace, deployment.to_owned()));
            }
        }
        for volume in items(&pod.object["spec"]["volumes"]) {
            if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
                objects.insert((&pod.namespace, claim.to_owned()));
            }
        }
    }
    let mut events = Vec::new();
    for (namespace, name) in objects.iter().take(MAX_OBJECTS) {
        let selector = format!("involvedObject.name={name}");
        match api
            .list(EVENTS, Some(namespace), ("fieldSelector", &selector))
            .await
        {
            Ok(list) => events.extend(list.items),
            Err(error) => {
                found.gaps.push(error.to_string());
                break;
            }
        }
    }
    if let Some(fact) = fact(events) {
        found.facts.push(fact);
    } else if !pods.is_empty() {
        found
            .gaps
            .push("no events: the cluster forgets them after an hour".to_owned());
    }
}

fn fact(mut events: Vec<Value>) -> Option<Fact> {
    events.sort_by_cached_key(|event| (last(event), text(&event["metadata"]["name"])));
    let all = events.len();
    let lines: Vec<String> = events
        .iter()
        .skip(all.saturating_sub(MAX_EVENTS))
        .map(line)
        .collect();
    if lines.is_empty() {
        return None;
    }
    let older = all - lines.len();
    let note = if older > 0 {
        format!("{older} older events left out\n")
    } else {
        String::new()
    };
    Some(Fact {
        title: format!("Kubernetes: {all} events"),
        content: format!("{note}{}", lines.join("\n")),
    })
}

/// When it was seen last.
fn last(event: &Value) -> String {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["firstTimestamp"],
    ];
    times
        .iter()
        .find_map(|time| time.as_str())
        .unwrap_or("time unknown")
        .to_owned()
}

fn line(event: &Value) -> String {
    let object = &event["involvedObject"];
    let count = event["count"]
        .as_i64()
        .or_else(|| event["series"]["count"].as_i64());
    let times = match count {
        Some(count) if count > 1 => format!(
            " {count} times since {}",
            event["firstTimestamp"].as_str().unwrap_or("unknown")
        ),
        _ => String::new(),
    };
    format!(
        "{} {} {} {}{}{times}",
        last(event),
        text(&event["type"]),
        text(&object["kind"]),
        text(&object["name"]),
        because(event),
    )
}
