#!/usr/bin/env bash
# Places the Python environment that trains and tests the example model at .setup/venv.
# Usage: [PYTHON=python3.12] scripts/setup-python.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python_or_fail 9
make_venv "$setup/venv" "$root/model-source/requirements.lock" --only-binary :all:
