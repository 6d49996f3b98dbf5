# shellcheck shell=bash
# Sourced: a kube-apiserver for the time of the script, and waiting. Sets `state`, a folder, and KUBECONFIG.
# `k8s_up` is the script that brings etcd and kube-apiserver up (`api`) and down; `log` is shown when something is not seen.
: "${k8s_up:?}"
state=$(mktemp -d)
export K8S_DIR=$state/k8s
log=$state/log
pids=()
# shellcheck disable=SC2329 # the trap runs it
leave() {
  for pid in "${pids[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  "$k8s_up" down >/dev/null || true
  rm -rf "$state"
}
trap leave EXIT
"$k8s_up" api
export KUBECONFIG=$K8S_DIR/admin.kubeconfig

# until_holds SECONDS WHAT COMMAND...: the command holds within that time.
until_holds() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [[ $SECONDS -lt $end ]] || {
      echo "not seen: $what" >&2
      cat "$log" >&2
      exit 1
    }
    sleep 0.1
  done
  echo "seen: $what"
}
