#!/usr/bin/env bash
# Makes the Python locks anew, with the newest versions: one lock for every supported Python and platform.
# Usage: scripts/lock-python.sh
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools"
"$tools/bin/pip" install --quiet uv==0.13.9

# lock IN OUT OLDEST_PYTHON [OPTION...]
lock() {
  local in=$1 out=$2 oldest=$3
  shift 3
  # Without the header and annotations: they would name the command's machine-specific paths.
  "$tools/bin/uv" pip compile --quiet --universal --python-version "$oldest" --generate-hashes --upgrade \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file "$out" "$@" "$in"
  echo "locked $(grep -c '==' "$out") packages in ${out#"$root"/}"
}

peers=$root/load-tests/peers
for peer in kserve mlserver asgi; do
  lock "$peers/requirements-$peer.in" "$peers/requirements-$peer.lock" 3.11
done
lock "$root/model-source/requirements.in" "$root/model-source/requirements.lock" 3.9
for peer in river evidently nannyml; do
  lock "$root/evaluation/drift/requirements-$peer.in" "$root/evaluation/drift/requirements-$peer.lock" 3.11
done
clients=$root/tests/clients
lock "$root/conformance/requirements.in" "$root/conformance/requirements.lock" 3.11
lock "$clients/requirements-triton.in" "$clients/requirements-triton.lock" 3.10
lock "$clients/requirements-kserve.in" "$clients/requirements-kserve.lock" 3.10 --excludes "$clients/excluded-kserve.txt"
lock "$root/tests/mlflow/requirements.in" "$root/tests/mlflow/requirements.lock" 3.11
lock "$root/tests/providers/requirements.in" "$root/tests/providers/requirements.lock" 3.11
lock "$root/tests/openapi/requirements.in" "$root/tests/openapi/requirements.lock" 3.10
