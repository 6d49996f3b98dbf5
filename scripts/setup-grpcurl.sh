#!/usr/bin/env bash
# Places grpcurl at .setup/grpcurl. It is compiled by Go, once per machine and version, outside the repository.
# Usage: scripts/setup-grpcurl.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=1.9.3
tools=${XDG_CACHE_HOME:-$HOME/.cache}/plumbline/grpcurl-$version
if [[ ! -x $tools/grpcurl ]]; then
  command -v go >/dev/null || fail "\`go\` not found: Go compiles grpcurl" "install it: https://go.dev/dl, or apt-get install golang"
  echo "setting up grpcurl $version in $tools"
  GOBIN=$tools go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@v$version" ||
    fail "grpcurl $version could not be compiled" "go's message above says why; a module proxy must be reachable"
fi
mkdir -p "$setup"
ln -sfn "$tools/grpcurl" "$setup/grpcurl"
