#!/usr/bin/env bash
# Lets schemathesis test a model server with one model of each kind against the server's OpenAPI document.
# Usage: tests/openapi/run.sh MODEL_SERVER
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
setup=$here/../../.setup
server=$(realpath "$1")
state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT

"$setup/venv/bin/python" "$here/models.py" "$state/models"
cd "$state" # schemathesis leaves files where it runs
"$setup/venv-openapi/bin/python" "$here/check.py" "$server" "$state/models"
