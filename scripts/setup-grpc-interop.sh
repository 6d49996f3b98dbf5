#!/usr/bin/env bash
# Places grpc-go's interoperability client and server in .setup/grpc-interop. They are compiled by Go, once per machine and
# version, outside the repository.
# Usage: scripts/setup-grpc-interop.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=1.85.0
tools=${XDG_CACHE_HOME:-$HOME/.cache}/plumbline/grpc-interop-$version
if [[ ! -x $tools/client || ! -x $tools/server ]]; then
  command -v go >/dev/null || fail "\`go\` not found: Go compiles grpc-go's programs" "install it: https://go.dev/dl, or apt-get install golang"
  echo "setting up grpc-go's interoperability programs $version in $tools"
  GOBIN=$tools go install "google.golang.org/grpc/interop/client@v$version" "google.golang.org/grpc/interop/server@v$version" ||
    fail "grpc-go $version could not be compiled" "go's message above says why; a module proxy must be reachable"
fi
mkdir -p "$setup"
ln -sfn "$tools" "$setup/grpc-interop"
