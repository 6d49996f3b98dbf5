#!/usr/bin/env bash
# Places one Python environment per peer of `make drift-evaluation`, at .setup/drift-river, .setup/drift-evidently and
# .setup/drift-nannyml. Apart, because they ask for different versions of the same packages.
# Usage: [PYTHON=python3.12] scripts/setup-drift-evaluation.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python_or_fail 11 13 # what NannyML supports
for peer in river evidently nannyml; do
  # --prefer-binary: some of what they depend on has no wheel for every supported platform and is compiled there.
  # --no-deps: the locks are whole, and pip would look for another pandas for Evidently's `pandas[parquet]`.
  make_venv "$setup/drift-$peer" "$root/evaluation/drift/requirements-$peer.lock" --prefer-binary --no-deps
done
