#!/usr/bin/env bash
# Places an MLflow tracking server at .setup/venv-mlflow, about 360 MB. Usage: [PYTHON=python3.12] scripts/setup-mlflow.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python_or_fail 11 13
make_venv "$setup/venv-mlflow" "$root/tests/mlflow/requirements.lock" --prefer-binary
