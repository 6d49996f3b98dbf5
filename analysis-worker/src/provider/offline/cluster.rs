//! What the state of the cluster says by itself: words that Kubernetes uses for one thing only.

use crate::evidence::Source;
use crate::provider::Case;
use crate::report::{Citation, Remediation, Risk, RootCause};
use crate::text::prefix;

/// Words in a line about a pod or an event, what they mean, what to do, and how sure that is.
const SIGNS: [(&[&str], &str, &str, f64); 10] = [
    (
        &["OOMKilled"],
        "A container was killed for memory: it needed more than its limit.",
        "compare its memory before the end with the limit; raise the limit or find what grew",
        0.8,
    ),
    (
        &["ImagePullBackOff", "ErrImagePull", "InvalidImageName"],
        "The image cannot be pulled: a wrong name or tag, or no access to the registry.",
        "check the image's name and the pull secret",
        0.8,
    ),
    (
        &[
            "CreateContainerConfigError",
            "CreateContainerError",
            "FailedMount",
        ],
        "A container cannot be made: a ConfigMap, Secret or volume that it names is not there.",
        "look at the event's message for the name that is missing",
        0.75,
    ),
    (
        &["ProvisioningFailed", "FailedBinding"],
        "A volume cannot be provided for the pod's claim: its storage class is not there or cannot provide one.",
        "check the storage class that the claim names",
        0.75,
    ),
    (
        &["FailedScheduling"],
        "The pod fits on no node: resources, taints, selectors or volumes.",
        "the event's message says which of them, for how many nodes",
        0.7,
    ),
    (
        &["FailedCreate"],
        "The workload's controller cannot make pods: a quota, an admission rule or an account that is not there.",
        "the event's message says what refused them",
        0.65,
    ),
    (
        &[
            "Evicted",
            "NodeHasDiskPressure",
            "NodeHasMemoryPressure",
            "Preempted",
        ],
        "The node had too little for its pods and ended some of them.",
        "look at the node's conditions and at what uses its disk and memory",
        0.65,
    ),
    (
        &["NodeNotReady", "NodeStatusUnknown"],
        "The node of the pod is not ready.",
        "look at the node: its kubelet, network and power",
        0.65,
    ),
    (
        &["Liveness probe failed"],
        "The container is restarted because its liveness probe fails: it hangs, or the probe is too strict.",
        "compare the probe's timeout with how long the container takes under load",
        0.6,
    ),
    (
        &["CrashLoopBackOff", "BackOff", "exit code 1,"],
        "The process ends by itself again and again: a missing file, a bad setting, something that it needs and cannot reach.",
        "read the last lines of its log before the restart",
        0.4,
    ),
];

/// Rollouts this long before the incident may be its cause, in minutes.
const ROLLOUT: i64 = 60;

/// Causes that a line of the cluster's state shows, the surest first; at most two.
pub(super) fn causes(case: &Case) -> Vec<RootCause> {
    let facts = || {
        case.context
            .evidence
            .iter()
            .filter(|fact| fact.source == Source::Kubernetes)
    };
    let mut causes: Vec<RootCause> = SIGNS
        .iter()
        .filter_map(|(words, hypothesis, action, confidence)| {
            let line = |line: &&str| words.iter().any(|word| line.contains(word));
            let (id, line) = facts().find_map(|fact| Some((&fact.id, fact.content.lines().find(line)?)))?;
            Some(cause(hypothesis, action, *confidence, id, line))
        })
        .collect();
    let rollout = facts().find_map(|fact| {
        let recent = |line: &&str| minutes_before(line).is_some_and(|minutes| minutes <= ROLLOUT);
        Some((&fact.id, fact.content.lines().find(recent)?))
    });
    if let Some((id, line)) = rollout {
        causes.push(cause(
            "A rollout came shortly before.",
            "compare what it changed with what fails; go back one version if they fit",
            0.5,
            id,
            line,
        ));
    }
    causes.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    causes.truncate(2);
    causes
}

fn cause(hypothesis: &str, action: &str, confidence: f64, id: &str, line: &str) -> RootCause {
    RootCause {
        hypothesis: hypothesis.to_owned(),
        confidence,
        evidence: vec![Citation {
            id: id.to_owned(),
            quote: Some(prefix(line.trim(), 240).trim().to_owned()),
        }],
        remediation: Remediation {
            action: action.to_owned(),
            command: None,
            risk: Risk::Low,
        },
    }
}

/// How long before the incident a rollout was, as its line says.
fn minutes_before(line: &str) -> Option<i64> {
    let rest = line.strip_prefix("rollout ")?.split_once('(')?.1;
    if rest.starts_with("as the incident began") {
        return Some(0);
    }
    rest.split_once(" min before the incident began")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Context;
    use crate::report::{Subject, Urgency};

    fn case(content: &str) -> Case {
        let mut context = Context::default();
        context.add(Source::Kubernetes, "Kubernetes: pod x", content);
        Case {
            subject: Subject {
                id: "0123".to_owned(),
                kind: "X".to_owned(),
                model: None,
                title: "x".to_owned(),
                started_at: "2026-11-22T22:00:00Z".to_owned(),
            },
            urgency: Urgency::P1,
            context,
        }
    }

    #[test]
    fn what_kubernetes_says_is_quoted() {
        let causes = causes(&case(
            "phase Running\n  waiting (CrashLoopBackOff: back-off 5m0s)\n  before that terminated (OOMKilled), exit code 137",
        ));
        assert_eq!(causes.len(), 2);
        assert!(causes[0].hypothesis.contains("killed for memory"), "{causes:?}");
        assert_eq!(
            causes[0].evidence[0].quote.as_deref(),
            Some("before that terminated (OOMKilled), exit code 137")
        );
        assert_eq!(self::causes(&case("phase Running, node a")), Vec::new());
    }

    #[test]
    fn only_a_recent_rollout_is_a_cause() {
        let line = |minutes| {
            format!("rollout 7: ReplicaSet x made 2026 ({minutes} min before the incident began), 1")
        };
        assert_eq!(minutes_before(&line(12)), Some(12));
        assert_eq!(causes(&case(&line(12))).len(), 1);
        assert_eq!(causes(&case(&line(600))), Vec::new());
    }
}
