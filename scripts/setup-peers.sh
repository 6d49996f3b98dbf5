#!/usr/bin/env bash
# Places one Python environment per peer of `make peers`, at .setup/peer-kserve, .setup/peer-mlserver and .setup/peer-asgi.
# Apart, because they ask for different versions of the same packages.
# Usage: [PYTHON=python3.12] scripts/setup-peers.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python_or_fail 11 13 # what kserve and ONNX Runtime 1.32 support together
for peer in kserve mlserver asgi; do
  make_venv "$setup/peer-$peer" "$root/load-tests/peers/requirements-$peer.lock" --prefer-binary
done
