//! What the cluster knows is in the report; what it does not tell is named.

use std::time::Duration;

use plumbline_analysis_worker::{Config, Findings, KubernetesSource, Report, Source};
use plumbline_testkit::kubernetes::FakeApiServer;
use serde_json::{Value, json};

use crate::support::TestWorker;

/// A deployment whose second rollout is killed for memory.
async fn cluster() -> FakeApiServer {
    let server = FakeApiServer::start().await;
    let controller = |kind: &str, name: &str| json!([{"kind": kind, "name": name, "controller": true}]);
    let labels = json!({"app": "churn", "serving.kserve.io/inferenceservice": "churn"});
    let container = |image: &str, memory: &str, password: &str| {
        json!({
            "name": "server", "image": image, "resources": {"limits": {"memory": memory}},
            "env": [{"name": "DB_PASSWORD", "value": password}],
            "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": 8080}},
        })
    };
    let set = |revision: &str, made: &str, image: &str, memory: &str| {
        let name = format!("churn-{revision}");
        json!({
            "kind": "ReplicaSet",
            "metadata": {
                "namespace": "models", "name": name, "labels": labels, "creationTimestamp": made,
                "annotations": {"deployment.kubernetes.io/revision": revision},
                "ownerReferences": controller("Deployment", "churn"),
            },
            "spec": {"replicas": 1, "template": {"spec": {"containers": [container(image, memory, "hunter2-old")]}}},
            "status": {"readyReplicas": 0},
        })
    };
    server.apply(set("1", "2026-11-01T08:00:00Z", "scorer:1", "1Gi"));
    server.apply(set("2", "2026-11-22T21:48:00Z", "scorer:2", "100Mi"));
    server.apply(json!({
        "kind": "Deployment",
        "metadata": {"namespace": "models", "name": "churn"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "churn"}}},
        "status": {"unavailableReplicas": 1},
    }));
    server.apply(json!({
        "kind": "Pod",
        "metadata": {
            "namespace": "models", "name": "churn-2-abcde", "labels": labels,
            "ownerReferences": controller("ReplicaSet", "churn-2"),
        },
        "spec": {"nodeName": "worker-1", "containers": [container("scorer:2", "100Mi", "hunter2-new")]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
            "containerStatuses": [{
                "name": "server", "ready": false, "restartCount": 6,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
                "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137,
                    "startedAt": "2026-11-22T22:01:00Z", "finishedAt": "2026-11-22T22:02:00Z"}},
            }],
        },
    }));
    server.apply(json!({
        "kind": "Event",
        "metadata": {"namespace": "models", "name": "e1"},
        "involvedObject": {"kind": "Pod", "name": "churn-2-abcde"},
        "type": "Warning", "reason": "BackOff", "message": "Back-off restarting failed container server",
        "count": 9, "firstTimestamp": "2026-11-22T22:00:00Z", "lastTimestamp": "2026-11-22T22:09:00Z",
    }));
    server.apply(json!({
        "kind": "Event",
        "metadata": {"namespace": "models", "name": "e2"},
        "involvedObject": {"kind": "Pod", "name": "another"},
        "type": "Warning", "reason": "Other", "message": "not about this",
    }));
    server.apply(json!({
        "kind": "Node",
        "metadata": {"name": "worker-1"},
        "status": {"conditions": [{"type": "MemoryPressure", "status": "True", "reason": "KubeletHasInsufficientMemory"}]},
    }));
    server.log(
        "models",
        "churn-2-abcde",
        "server",
        true,
        "2026-11-22T22:01:30Z INFO batch of 4096 rows\n2026-11-22T22:01:59Z ERROR cannot allocate 96 MiB for tensor\n",
    );
    server.log(
        "models",
        "churn-2-abcde",
        "server",
        false,
        "2026-11-22T22:05:00Z INFO starting\n",
    );
    server
}

fn configure(config: &mut Config, server: &FakeApiServer, folder: &tempfile::TempDir) {
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, server.kubeconfig()).expect("written");
    config.sources.kubernetes = Some(KubernetesSource {
        kubeconfig: Some(kubeconfig),
        namespaces: vec!["models".to_owned()],
    });
}

/// The report on an alert with these labels.
async fn report(server: &FakeApiServer, labels: &Value, change: impl FnOnce(&mut Config)) -> Report {
    let folder = tempfile::tempdir().expect("a folder");
    let mut worker = TestWorker::start(|config| {
        configure(config, server, &folder);
        change(config);
    })
    .await;
    worker.alert(labels, &json!({"summary": "restarts"})).await;
    worker.report().await.report.clone()
}

fn facts(report: &Report, source: Source) -> String {
    report
        .evidence
        .iter()
        .filter(|fact| fact.source == source)
        .flat_map(|fact| [fact.title.as_str(), "\n", &fact.content, "\n"])
        .collect()
}

fn gaps(report: &Report) -> String {
    let gaps = report.missing.iter();
    gaps.flat_map(|gap| [gap.source.as_str(), ": ", &gap.reason, "\n"])
        .collect()
}

#[tokio::test]
async fn a_pod_its_rollout_its_events_and_its_logs_are_evidence() {
    let server = cluster().await;
    let labels = json!({"alertname": "PodCrashLooping", "namespace": "models", "pod": "churn-2-abcde"});
    let report = report(&server, &labels, |_| {}).await;
    let (objects, logs) = (
        facts(&report, Source::Kubernetes),
        facts(&report, Source::PodLogs),
    );
    for expected in [
        "terminated (OOMKilled), exit code 137",
        "waiting (CrashLoopBackOff: back-off 5m0s); 6 restarts",
        "limits: memory 100Mi",
        "environment, names only: DB_PASSWORD",
        "livenessProbe: GET /v2/health/live on port 8080",
        "Warning Pod churn-2-abcde (BackOff: Back-off restarting failed container server) 9 times",
        "made 2026-11-22T21:48:00Z (12 min before the incident began)",
        "image: scorer:1 → scorer:2",
        "resources.limits.memory: 1Gi → 100Mi",
        "MemoryPressure is True (KubeletHasInsufficientMemory)",
    ] {
        assert!(objects.contains(expected), "{expected}:\n{objects}");
    }
    assert!(
        !objects.contains("hunter2") && !objects.contains("not about this"),
        "{objects}"
    );
    assert!(logs.contains("container server, before its restart"), "{logs}");
    assert!(logs.contains("cannot allocate 96 MiB for tensor"), "{logs}");
    let Findings::Incident(findings) = &report.findings else {
        panic!("an incident")
    };
    assert!(
        findings.root_causes[0].hypothesis.contains("killed for memory"),
        "{findings:?}"
    );
}

#[tokio::test]
async fn a_model_leads_to_its_pods() {
    let server = cluster().await;
    let labels = json!({"alertname": "LatencyHigh", "model": "churn"});
    let report = report(&server, &labels, |_| {}).await;
    let objects = facts(&report, Source::Kubernetes);
    assert!(
        objects.contains("pod churn-2-abcde in namespace models"),
        "{objects}"
    );
}

#[tokio::test]
async fn what_the_role_does_not_allow_is_named_and_the_rest_is_there() {
    let server = cluster().await;
    server.forbid("get", "pods/log");
    server.forbid("list", "events");
    server.forbid("get", "nodes");
    let labels = json!({"alertname": "PodCrashLooping", "namespace": "models", "pod": "churn-2-abcde"});
    let report = report(&server, &labels, |_| {}).await;
    let gaps = gaps(&report);
    for expected in [
        "pod_logs: the role does not allow to get pods/log in namespace models",
        "kubernetes: the role does not allow to list events in namespace models",
        "kubernetes: the role does not allow to get nodes in all namespaces",
    ] {
        assert!(gaps.contains(expected), "{expected}:\n{gaps}");
    }
    assert!(facts(&report, Source::Kubernetes).contains("OOMKilled"));
}

#[tokio::test]
async fn what_is_late_is_named_and_what_came_in_time_is_kept() {
    let server = cluster().await;
    server.fall_silent("nodes");
    let labels = json!({"alertname": "PodCrashLooping", "namespace": "models", "pod": "churn-2-abcde"});
    let report = report(&server, &labels, |config| {
        config.sources.timeout = Duration::from_secs(3);
    })
    .await;
    assert!(
        facts(&report, Source::Kubernetes).contains("OOMKilled"),
        "{}",
        gaps(&report)
    );
    assert!(
        gaps(&report).contains("kubernetes: nodes worker-1: not in time"),
        "{}",
        gaps(&report)
    );
}

#[tokio::test]
async fn only_configured_namespaces_are_looked_in() {
    let server = cluster().await;
    let labels = json!({"alertname": "X", "namespace": "kube-system", "pod": "churn-2-abcde"});
    let report = report(&server, &labels, |_| {}).await;
    assert_eq!(facts(&report, Source::Kubernetes), "");
    assert!(
        gaps(&report).contains("namespace kube-system is not among kubernetes_namespace"),
        "{}",
        gaps(&report)
    );
}

#[tokio::test]
async fn an_alert_about_a_node_gets_its_conditions() {
    let server = cluster().await;
    let report = report(
        &server,
        &json!({"alertname": "NodePressure", "node": "worker-1"}),
        |_| {},
    )
    .await;
    let objects = facts(&report, Source::Kubernetes);
    assert!(objects.contains("MemoryPressure is True"), "{}", gaps(&report));
}

#[tokio::test]
async fn a_pod_that_is_gone_is_said_to_be() {
    let server = cluster().await;
    let labels = json!({"alertname": "X", "namespace": "models", "pod": "churn-0-zzzzz"});
    let report = report(&server, &labels, |_| {}).await;
    assert!(
        gaps(&report).contains("pods churn-0-zzzzz does not exist any more"),
        "{}",
        gaps(&report)
    );
}
