#!/usr/bin/env bash
# Places the Python environment of the conformance tests at .setup/venv-conformance.
# Usage: [PYTHON=python3.12] scripts/setup-conformance.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python_or_fail 11 13 # what ONNX Runtime's wheel and the stock clients support
# --prefer-binary: python-rapidjson has no wheel for some of the supported platforms and is compiled there.
make_venv "$setup/venv-conformance" "$root/conformance/requirements.lock" --prefer-binary
