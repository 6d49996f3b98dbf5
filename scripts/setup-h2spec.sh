#!/usr/bin/env bash
# Places h2spec at .setup/h2spec. It is compiled by Go from what scripts/h2spec pins, once per machine, outside the repository.
# The newest version that a module proxy has is 2.2.1: later ones have a go.mod without the /v2 that Go asks for.
# Usage: scripts/setup-h2spec.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=2.2.1
tools=${XDG_CACHE_HOME:-$HOME/.cache}/plumbline/h2spec-$version
if [[ ! -x $tools/h2spec ]]; then
  command -v go >/dev/null || fail "\`go\` not found: Go compiles h2spec" "install it: https://go.dev/dl, or apt-get install golang"
  echo "setting up h2spec $version in $tools"
  (cd "$root/scripts/h2spec" && GOBIN=$tools go install github.com/summerwind/h2spec/cmd/h2spec) ||
    fail "h2spec $version could not be compiled" "go's message above says why; a module proxy must be reachable"
fi
mkdir -p "$setup"
ln -sfn "$tools/h2spec" "$setup/h2spec"
