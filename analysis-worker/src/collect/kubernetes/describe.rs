//! Pods, volume claims and nodes in words, as `kubectl describe` shows them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Found;
use super::api::{Api, CLAIMS, JOBS, NODES};
use super::pods::{Pod, items};
use crate::collect::{Fact, Place};
use crate::text::one_line;

/// Environment variables that are named.
const MAX_NAMES: usize = 60;
/// Jobs, claims and nodes that are looked at, of each.
const MAX_OTHERS: usize = 4;

/// What a pod is and how it fares.
pub(super) fn pod(pod: &Pod) -> Fact {
    let (spec, status) = (&pod.object["spec"], &pod.object["status"]);
    let mut lines = vec![format!(
        "phase {}, node {}, started {}, service account {}, QoS {}",
        text(&status["phase"]),
        text(&spec["nodeName"]),
        text(&status["startTime"]),
        text(&spec["serviceAccountName"]),
        text(&status["qosClass"]),
    )];
    if let Some((kind, name)) = pod.owner() {
        lines.push(format!("owned by {kind} {name}"));
    }
    if let Some(reason) = status["reason"].as_str() {
        lines.push(format!("{reason}: {}", text(&status["message"])));
    }
    for condition in items(&status["conditions"]) {
        if condition["status"] != "True" {
            lines.push(format!(
                "condition {} is {}{}, since {}",
                text(&condition["type"]),
                text(&condition["status"]),
                because(condition),
                text(&condition["lastTransitionTime"]),
            ));
        }
    }
    for (field, what) in [("initContainers", "init container"), ("containers", "container")] {
        for container in items(&spec[field]) {
            self::container(pod, container, what, &mut lines);
        }
    }
    for volume in items(&spec["volumes"]) {
        let of = |kind: &str, field: &str| volume[kind][field].as_str().map(|name| format!("{kind} {name}"));
        let source = of("persistentVolumeClaim", "claimName")
            .or_else(|| of("configMap", "name"))
            .or_else(|| of("secret", "secretName"));
        if let Some(source) = source {
            lines.push(format!("volume {}: {source}", text(&volume["name"])));
        }
    }
    Fact {
        title: format!("Kubernetes: pod {} in namespace {}", pod.name, pod.namespace),
        content: lines.join("\n"),
    }
}

fn container(pod: &Pod, container: &Value, what: &str, lines: &mut Vec<String>) {
    let name = text(&container["name"]);
    let status = pod
        .containers()
        .find(|status| status["name"] == container["name"]);
    lines.push(format!("{what} {name}: image {}", text(&container["image"])));
    if let Some(status) = status {
        lines.push(format!(
            "  {}; {} restarts; {}ready",
            state(&status["state"]).unwrap_or_else(|| "state unknown".to_owned()),
            status["restartCount"].as_i64().unwrap_or(0),
            if status["ready"] == true { "" } else { "not " },
        ));
        if let Some(last) = state(&status["lastState"]) {
            lines.push(format!("  before that {last}"));
        }
    }
    for field in ["command", "args"] {
        let words: Vec<String> = items(&container[field]).iter().map(text).collect();
        if !words.is_empty() {
            lines.push(format!("  {field}: {}", one_line(&words.join(" "), 300)));
        }
    }
    for (field, what) in [("requests", "requests"), ("limits", "limits")] {
        let amounts: Vec<String> = container["resources"][field]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, amount)| format!("{name} {}", text(amount)))
            .collect();
        lines.push(match amounts.as_slice() {
            [] => format!("  {what}: none"),
            amounts => format!("  {what}: {}", amounts.join(", ")),
        });
    }
    for field in ["startupProbe", "readinessProbe", "livenessProbe"] {
        if let Some(probe) = probe(&container[field]) {
            lines.push(format!("  {field}: {probe}"));
        }
    }
    let names: Vec<String> = items(&container["env"])
        .iter()
        .map(|variable| {
            let from = &variable["valueFrom"];
            let source = [("secretKeyRef", "secret"), ("configMapKeyRef", "config map")]
                .iter()
                .find(|(field, _)| from[field].is_object())
                .map(|(field, what)| format!(" (from {what} {})", text(&from[field]["name"])));
            format!("{}{}", text(&variable["name"]), source.unwrap_or_default())
        })
        .take(MAX_NAMES)
        .collect();
    if !names.is_empty() {
        lines.push(format!("  environment, names only: {}", names.join(", ")));
    }
    for source in items(&container["envFrom"]) {
        for (field, what) in [("secretRef", "secret"), ("configMapRef", "config map")] {
            if let Some(name) = source[field]["name"].as_str() {
                lines.push(format!("  environment from {what} {name}"));
            }
        }
    }
}

/// Running, waiting or ended, and why.
fn state(state: &Value) -> Option<String> {
    if state["waiting"].is_object() {
        return Some(format!("waiting{}", because(&state["waiting"])));
    }
    let ended = &state["terminated"];
    if ended.is_object() {
        let signal = ended["signal"].as_i64().filter(|signal| *signal != 0);
        return Some(format!(
            "terminated{}, exit code {}{}, {} to {}",
            because(ended),
            ended["exitCode"].as_i64().unwrap_or(0),
            signal.map_or_else(String::new, |signal| format!(", signal {signal}")),
            text(&ended["startedAt"]),
            text(&ended["finishedAt"]),
        ));
    }
    let running = &state["running"];
    running
        .is_object()
        .then(|| format!("running since {}", text(&running["startedAt"])))
}

fn probe(probe: &Value) -> Option<String> {
    let number = |field: &str, usual: i64| probe[field].as_i64().unwrap_or(usual);
    let how = if probe["httpGet"].is_object() {
        let get = &probe["httpGet"];
        format!("GET {} on port {}", text(&get["path"]), text(&get["port"]))
    } else if probe["tcpSocket"].is_object() {
        format!("TCP port {}", text(&probe["tcpSocket"]["port"]))
    } else if probe["grpc"].is_object() {
        format!("gRPC port {}", text(&probe["grpc"]["port"]))
    } else if probe["exec"].is_object() {
        let words: Vec<String> = items(&probe["exec"]["command"]).iter().map(text).collect();
        format!("runs {}", one_line(&words.join(" "), 120))
    } else {
        return None;
    };
    Some(format!(
        "{how}, after {} s, every {} s, timeout {} s, {} failures",
        number("initialDelaySeconds", 0),
        number("periodSeconds", 10),
        number("timeoutSeconds", 1),
        number("failureThreshold", 3),
    ))
}

/// Jobs that made the pods, claims that they mount, and the nodes that they are on.
pub(super) async fn surroundings(api: &Api, pods: &[Pod], place: &Place, found: &mut Found) {
    let jobs: BTreeSet<(&str, &str)> = pods
        .iter()
        .filter_map(|pod| match pod.owner() {
            Some(("Job", name)) => Some((pod.namespace.as_str(), name)),
            _ => None,
        })
        .collect();
    for (namespace, name) in jobs.into_iter().take(MAX_OTHERS) {
        match api.get(JOBS, Some(namespace), name).await {
            Ok(job) => found.facts.push(self::job(name, &job)),
            Err(error) => found.gaps.push(error.to_string()),
        }
    }
    let claims: BTreeSet<(&str, &str)> = pods
        .iter()
        .flat_map(|pod| {
            let volumes = items(&pod.object["spec"]["volumes"]).iter();
            volumes
                .filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str())
                .map(|claim| (pod.namespace.as_str(), claim))
        })
        .collect();
    for (namespace, name) in claims.into_iter().take(MAX_OTHERS) {
        match api.get(CLAIMS, Some(namespace), name).await {
            Ok(claim) => found.facts.push(self::claim(name, &claim)),
            Err(error) => found.gaps.push(error.to_string()),
        }
    }
    let nodes: BTreeSet<&str> = pods
        .iter()
        .filter_map(|pod| pod.object["spec"]["nodeName"].as_str())
        .chain(place.node.as_deref())
        .collect();
    for name in nodes.into_iter().take(MAX_OTHERS) {
        match api.get(NODES, None, name).await {
            Ok(node) => found.facts.push(self::node(name, &node)),
            Err(error) => {
                found.gaps.push(error.to_string());
                break;
            }
        }
    }
}

fn job(name: &str, job: &Value) -> Fact {
    let (spec, status) = (&job["spec"], &job["status"]);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let mut lines = vec![format!(
        "{} active, {} succeeded, {} failed, of {} completions; {} retries are allowed; started {}",
        count("active"),
        count("succeeded"),
        count("failed"),
        text(&spec["completions"]),
        text(&spec["backoffLimit"]),
        text(&status["startTime"]),
    )];
    for condition in items(&status["conditions"]) {
        lines.push(format!(
            "condition {} is {}{}",
            text(&condition["type"]),
            text(&condition["status"]),
            because(condition)
        ));
    }
    Fact {
        title: format!("Kubernetes: job {name}"),
        content: lines.join("\n"),
    }
}

fn claim(name: &str, claim: &Value) -> Fact {
    let (spec, status) = (&claim["spec"], &claim["status"]);
    Fact {
        title: format!("Kubernetes: persistent volume claim {name}"),
        content: format!(
            "phase {}, storage class {}, asked for {}, has {}, access {}, volume {}",
            text(&status["phase"]),
            text(&spec["storageClassName"]),
            text(&spec["resources"]["requests"]["storage"]),
            text(&status["capacity"]["storage"]),
            items(&spec["accessModes"])
                .iter()
                .map(text)
                .collect::<Vec<_>>()
                .join(" "),
            text(&spec["volumeName"]),
        ),
    }
}

fn node(name: &str, node: &Value) -> Fact {
    let status = &node["status"];
    let mut lines = Vec::new();
    for condition in items(&status["conditions"]) {
        lines.push(format!(
            "{} is {}{}, since {}",
            text(&condition["type"]),
            text(&condition["status"]),
            because(condition),
            text(&condition["lastTransitionTime"]),
        ));
    }
    if node["spec"]["unschedulable"] == true {
        lines.push("is cordoned: no pod is placed on it".to_owned());
    }
    for taint in items(&node["spec"]["taints"]) {
        lines.push(format!(
            "taint {}={}:{}",
            text(&taint["key"]),
            taint["value"].as_str().unwrap_or(""),
            text(&taint["effect"])
        ));
    }
    let amounts: Vec<String> = ["cpu", "memory", "ephemeral-storage", "pods"]
        .iter()
        .map(|name| format!("{name} {}", text(&status["allocatable"][name])))
        .collect();
    lines.push(format!("allocatable: {}", amounts.join(", ")));
    let info = &status["nodeInfo"];
    lines.push(format!(
        "{} {}, kubelet {}",
        text(&info["operatingSystem"]),
        text(&info["architecture"]),
        text(&info["kubeletVersion"])
    ));
    Fact {
        title: format!("Kubernetes: node {name}"),
        content: lines.join("\n"),
    }
}

/// ` (Reason: message)`, as far as there are.
pub(super) fn because(value: &Value) -> String {
    let part = |field: &str| value[field].as_str().filter(|text| !text.is_empty());
    match (part("reason"), part("message")) {
        (Some(reason), Some(message)) => format!(" ({reason}: {})", one_line(message, 300)),
        (Some(only), None) | (None, Some(only)) => format!(" ({})", one_line(only, 300)),
        (None, None) => String::new(),
    }
}

/// A text or number; `none` when it is not there.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => "none".to_owned(),
    }
}
