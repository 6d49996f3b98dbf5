#!/usr/bin/env bash
# Places the Python environment of schemathesis at .setup/venv-openapi.
# Usage: [PYTHON=python3.12] scripts/setup-openapi.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python_or_fail 10
make_venv "$setup/venv-openapi" "$root/tests/openapi/requirements.lock" --prefer-binary
