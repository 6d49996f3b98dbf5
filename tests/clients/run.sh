#!/usr/bin/env bash
# Starts the stack with a model and lets the stock clients predict through the gateway.
# Usage: tests/clients/run.sh PLUMBLINE MODEL_DIR [CHECK_OPTION...]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
setup=$here/../../.setup
plumbline=$1 model=$2
shift 2

state=$(mktemp -d)
stack=
# shellcheck disable=SC2329 # the trap runs it
leave() {
  if [[ -n $stack ]]; then
    kill "$stack" 2>/dev/null || true
    wait "$stack" || true
  fi
  rm -rf "$state"
}
trap leave EXIT

# What it prints arrives through a pipe, so that the wait for "up" is an event: its line, or the end of the program.
mkfifo "$state/out"
"$plumbline" up "$model" --any-port --state-dir "$state/state" >"$state/out" &
stack=$!
exec 3<"$state/out"
gateway=
while [[ -z $gateway ]] && read -r what address _ <&3; do
  [[ $what != gRPC ]] || gateway=$address
done
if [[ -z $gateway ]]; then
  echo "run.sh: \`plumbline up\` ended before it was up" >&2
  exit 1
fi

status=0
for client in triton kserve; do
  "$setup/venv-$client/bin/python" "$here/check_$client.py" --url "http://$gateway" --grpc "$gateway" \
    --model "$(basename "$model")" --rows "$model/heldout.csv" --scores "$model/heldout_scores.csv" "$@" || status=1
done
kill "$stack"
wait "$stack" || { echo "run.sh: \`plumbline up\` ended with $? after SIGTERM" >&2 && status=1; }
stack=
exit "$status"
