#!/usr/bin/env bash
# Discovery against a real kube-apiserver: a model appears, is served, moves to another endpoint, and goes.
# Usage: tests/kubernetes/gateway.sh GATEWAY K8S_UP
# Needs the right to add an address to the loopback interface: an API server takes no endpoint at 127.0.0.0/8.
# GATEWAY: the program. K8S_UP: the script that brings etcd and kube-apiserver up (`api`) and down; it says which variables it needs.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
gateway=$1 k8s_up=$2
address=192.0.2.1 # of TEST-NET-1, which nothing outside has
# shellcheck source=tests/kubernetes/cluster.sh
source "$here/cluster.sh"
trap 'ip address delete "$address/32" dev lo || true; leave' EXIT
ip address add "$address/32" dev lo
kubectl apply -f "$here/crd.yaml"
kubectl wait --for=condition=Established crd/inferenceservices.serving.kserve.io --timeout=30s
kubectl create namespace models

# predictor NAME: an endpoint on a free port that answers its name; sets `port`.
predictor() {
  mkfifo "$state/$1"
  python3 "$here/predictor.py" "$address" "$1" >"$state/$1" &
  pids+=($!)
  read -r port <"$state/$1"
}

# slice PORT: the one EndpointSlice of the model's Service.
slice() {
  kubectl apply -f - <<YAML
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: churn-predictor-1, namespace: models, labels: {kubernetes.io/service-name: churn-predictor}}
addressType: IPv4
ports: [{name: http1, port: $1, protocol: TCP}]
endpoints: [{addresses: ["$address"], conditions: {ready: true}}]
YAML
}

ask() { curl -s -H 'content-type: application/json' -d '{}' "http://127.0.0.1:18080/v2/models/churn/infer"; }
answers() { [[ $(ask) == *"$1"* ]]; }
ready() { curl -fsS -o /dev/null "http://127.0.0.1:19901/readyz" 2>/dev/null; }

predictor first
first=$port
predictor second
second=$port

"$gateway" --kubernetes --listen 127.0.0.1:18080 --admin-listen 127.0.0.1:19901 --drain-delay 0 2>"$log" >&2 &
pids+=($!)
until_holds 30 "ready with an empty cluster" ready
until_holds 10 "no such model" answers "unknown model"

kubectl apply -f "$here/churn.yaml"
slice "$first"
until_holds 10 "the model is served" answers first
slice "$second"
until_holds 10 "the change of its slice" answers second
kubectl -n models delete inferenceservice churn
until_holds 10 "the model is gone" answers "unknown model"

kubectl apply -f "$here/churn.yaml"
slice "$first"
until_holds 10 "a model of the same name is served" answers first
kill "$(<"$K8S_DIR/pids/kube-apiserver")"
until_holds 10 "the API server is gone" bash -c '! kubectl get namespaces >/dev/null 2>&1'
for _ in {1..200}; do
  answers first || {
    echo "not answered without an API server: $(ask)" >&2
    exit 1
  }
done
echo "seen: 200 requests are answered without an API server"
echo "discovery follows a real API server"
