#!/usr/bin/env bash
# Places the linters: ruff, mypy and shellcheck at .setup/venv-lint, cargo-deny in the user's cache.
# Usage: scripts/setup-lint.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python_or_fail 9
make_venv "$setup/venv-lint" "$root/scripts/requirements-lint.lock" --only-binary :all:
"$root/scripts/setup-python.sh" # mypy reads the types of what training imports

# cargo-deny is compiled once per machine and version, outside the repository: it takes minutes.
deny=0.20.2
tools=${XDG_CACHE_HOME:-$HOME/.cache}/plumbline/cargo-deny-$deny
if [[ ! -x $tools/bin/cargo-deny ]]; then
  echo "setting up cargo-deny $deny in $tools"
  CARGO_TARGET_DIR=$tools/target cargo install --quiet --locked --root "$tools" --version "$deny" cargo-deny ||
    fail "cargo-deny $deny could not be installed" "cargo's message above says why; a crate registry must be reachable"
  rm -rf "$tools/target"
fi
mkdir -p "$setup"
ln -sfn "$tools/bin/cargo-deny" "$setup/cargo-deny"
