#!/usr/bin/env bash
# Places one Python environment per stock inference client at .setup/venv-triton and .setup/venv-kserve.
# Two, because each brings its own copy of the same gRPC package, and protobuf refuses the second.
# Usage: [PYTHON=python3.12] scripts/setup-clients.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python_or_fail 10 13 # what kserve supports
# --prefer-binary: gevent and psutil have no wheel for some of the supported platforms and are compiled there.
make_venv "$setup/venv-triton" "$root/tests/clients/requirements-triton.lock" --prefer-binary
# --no-deps: the lock leaves out what kserve declares for its server only (tests/clients/excluded-kserve.txt).
make_venv "$setup/venv-kserve" "$root/tests/clients/requirements-kserve.lock" --prefer-binary --no-deps
