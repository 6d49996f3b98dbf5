#!/usr/bin/env bash
# Puts the sidecar in front of MLServer and of the KServe SDK's server, and compares answers with the direct ones.
# Usage: tests/upstreams/run.sh SIDECAR MODEL.onnx
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
setup=$root/.setup
sidecar=$(realpath "$1") model=$(realpath "$2")

patience=60 # seconds
state=$(mktemp -d)
server=
# shellcheck disable=SC2329 # the trap runs it
leave() {
  stop
  rm -rf "$state"
}
trap leave EXIT

stop() {
  if [[ -n $server ]]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  server=
}

free_port() {
  "$setup/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Starts SERVER [ARGUMENT...] in the peer's environment and waits until it is ready.
start() {
  local python=$1
  shift
  (cd "$root/load-tests/peers" && MODEL_FILE=$model PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 exec "$python" "$@") \
    >"$state/log" 2>&1 &
  server=$!
  local name end=$((SECONDS + patience))
  name=$(basename "$(dirname "$model")")
  until curl -sf -m "$patience" -o "$state/ready" "http://127.0.0.1:$http/v2/models/$name/ready"; do
    if ! kill -0 "$server" 2>/dev/null; then
      fail "$1 ended before it was ready"
    elif ((SECONDS > end)); then
      fail "$1 is not ready within $patience s"
    fi
    sleep 0.1
  done
}

# Ends the test, with what the server said.
fail() {
  cat "$state/log" >&2
  echo "run.sh: $1" >&2
  exit 1
}

PYTHONPATH=$root/model-source "$setup/venv/bin/python" "$here/write_profile.py" "$model" "$state/profile.json"
status=0
for peer in mlserver kserve; do
  http=$(free_port) grpc=$(free_port)
  case $peer in
    mlserver) start "$setup/peer-mlserver/bin/python" mlserver_runtime.py "$http" "$grpc" 0 ;;
    kserve) start "$setup/peer-kserve/bin/python" kserve_server.py --http_port "$http" --grpc_port "$grpc" ;;
  esac
  "$setup/venv-triton/bin/python" "$here/check.py" --server "$peer" --http "127.0.0.1:$http" --grpc "127.0.0.1:$grpc" \
    --sidecar "$sidecar" --profile "$state/profile.json" --model "$(basename "$(dirname "$model")")" || status=1
  stop
done
exit "$status"
