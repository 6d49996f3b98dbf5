#!/usr/bin/env bash
# The worker's evidence from a real kube-apiserver, read with the role that docs/worker/context.md gives, and with less.
# Usage: tests/kubernetes/worker.sh WORKER K8S_UP
# WORKER: the program. K8S_UP: the script that brings etcd and kube-apiserver up (`api`) and down; it says which variables it needs.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
worker=$1 k8s_up=$2
# shellcheck source=tests/kubernetes/cluster.sh
source "$here/cluster.sh"
models() { kubectl --namespace models "$@"; }
uid() { models get "$1" "$2" -o jsonpath='{.metadata.uid}'; }

kubectl create namespace models
# The role as it is printed for people to copy.
# shellcheck disable=SC2016 # the backticks are of Markdown
sed -n '/^```yaml$/,/^```$/p' "$here/../../docs/worker/context.md" | sed '/^```/d' >"$state/role.yaml"
kubectl apply -f "$state/role.yaml"
sed 's/^  name: .*/  name: no-events/; s/\[pods, events\]/[pods]/; s/, nodes\]/]/' "$state/role.yaml" | kubectl apply -f -
server=$(kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}')
for role in plumbline-analysis-worker no-events; do
  models create serviceaccount "$role"
  kubectl create clusterrolebinding "$role" --clusterrole="$role" --serviceaccount="models:$role"
  kubectl config set-credentials "$role" --token="$(models create token "$role")" --kubeconfig="$state/$role" >/dev/null
  kubectl config set-cluster real --server="$server" --certificate-authority="$K8S_DIR/pki/ca.crt" --embed-certs --kubeconfig="$state/$role" >/dev/null
  kubectl config set-context real --cluster=real --user="$role" --kubeconfig="$state/$role" >/dev/null
  kubectl config use-context real --kubeconfig="$state/$role" >/dev/null
done

# A Deployment whose second rollout is killed for memory; no controller runs, so each object is made here.
apply() { kubectl apply --server-side --field-manager=spec -f "$1" && kubectl apply --server-side --field-manager=status --subresource=status -f "$1"; }
apply "$here/node.yaml"
apply "$here/deployment.yaml"
deployment=$(uid deployment churn)
# rollout REVISION MEMORY
rollout() {
  sed "s/UID_DEPLOYMENT/$deployment/; s/REVISION/$1/g; s/MEMORY/$2/" "$here/replica-set.yaml" >"$state/set.yaml"
  apply "$state/set.yaml"
}
rollout 1 1Gi
sleep 1.1 # a creation time has whole seconds, and the second rollout is the later one
rollout 2 100Mi
sed "s/UID_SET/$(uid replicaset churn-2)/" "$here/pod.yaml" >"$state/pod.yaml"
apply "$state/pod.yaml"
models create -f - <<YAML
apiVersion: v1
kind: Event
metadata: {name: churn-2-abcde.1, namespace: models}
involvedObject: {apiVersion: v1, kind: Pod, name: churn-2-abcde, namespace: models, uid: $(uid pod churn-2-abcde)}
type: Warning
reason: BackOff
message: Back-off restarting failed container server
count: 9
firstTimestamp: "$(date -u -d '-10 min' +%FT%TZ)"
lastTimestamp: "$(date -u +%FT%TZ)"
source: {component: kubelet, host: worker-1}
YAML

# report ROLE: the report on the pod's alert, read with the role, in `$state/ROLE.md`.
report() {
  log=$state/$1.log
  "$worker" --listen 127.0.0.1:18090 --admin-listen 127.0.0.1:19904 --store "$state/$1.db" --provider offline --drain-delay 0 \
    --kubernetes --kubeconfig "$state/$1" --kubernetes-namespace models --print-reports >"$state/$1.md" 2>"$log" &
  pids+=($!)
  until_holds 30 "$1: the worker is ready" curl -fs -o /dev/null http://127.0.0.1:19904/readyz
  curl -fsS -H 'content-type: application/json' http://127.0.0.1:18090/api/v1/alerts -d '{
    "version": "4", "groupKey": "{}:{}", "status": "firing", "receiver": "plumbline", "groupLabels": {}, "commonLabels": {},
    "commonAnnotations": {}, "externalURL": "", "truncatedAlerts": 0,
    "alerts": [{"status": "firing", "labels": {"alertname": "PodCrashLooping", "namespace": "models", "pod": "churn-2-abcde"},
      "annotations": {"summary": "restarts"}, "startsAt": "'"$(date -u +%FT%TZ)"'", "endsAt": "0001-01-01T00:00:00Z",
      "generatorURL": "", "fingerprint": "c0ffee0000000001"}]}' -o /dev/null
  until_holds 30 "$1: a report" grep -q '^# ' "$state/$1.md"
  kill "${pids[-1]}"
  wait "${pids[-1]}" || true
  unset 'pids[-1]'
  log=$state/$1.md
}
says() { until_holds 1 "$1" grep -qF -- "$1" "$log"; }

report plumbline-analysis-worker
says 'terminated (OOMKilled), exit code 137'
says 'waiting (CrashLoopBackOff: back-off 5m0s); 6 restarts'
says 'environment, names only: DB_PASSWORD'
says 'Back-off restarting failed container server) 9 times'
says 'image: scorer:1 → scorer:2'
says 'resources.limits.memory: 1Gi → 100Mi'
says 'MemoryPressure is True (KubeletHasInsufficientMemory)'
says 'pods/log churn-2-abcde: ' # no kubelet runs: the reason is named
if grep -F 'does not allow' "$log" || grep -F hunter2 "$log"; then
  echo "the documented role is too small, or a value of the environment was taken" >&2
  exit 1
fi

report no-events
says 'the role does not allow to list events in namespace models'
says 'the role does not allow to get nodes'
says 'terminated (OOMKilled), exit code 137'
echo "evidence comes from a real API server with the documented role"
