#!/usr/bin/env bash
# gRPC's interoperability cases (grpc/doc/interop-test-descriptions.md): grpc-go's client, the gateway, grpc-go's server. The
# services are not of the inference protocol: the route is the one of their host. Each case also directly, so that a failure is
# the gateway's.
# Usage: tests/grpc-interop/run.sh GATEWAY DIRECTORY_OF_CLIENT_AND_SERVER
set -euo pipefail

gateway=$(realpath "$1")
programs=$(realpath "$2")
source "$(dirname "${BASH_SOURCE[0]}")/../gateway.sh"

cases=(empty_unary large_unary client_streaming server_streaming ping_pong empty_stream timeout_on_sleeping_server cancel_after_begin
  cancel_after_first_response status_code_and_message special_status_message custom_metadata unimplemented_method
  unimplemented_service)

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$programs/server" --port "$port" >"$state/server.log" 2>&1 &
processes+=($!)
cat >"$state/gateway.toml" <<TOML
[[route]]
model = "interop"
hosts = ["localhost", "gateway.test"]
endpoints = ["http://localhost:$port"]
TOML
start_gateway "$gateway" --config "$state/gateway.toml"

failed=0
# check NAME FLAG...: every case.
check() {
  local passed=0
  for case in "${cases[@]}"; do
    if timeout 60 "$programs/client" "${@:2}" --test_case "$case" >"$state/client.log" 2>&1; then
      passed=$((passed + 1))
    else
      failed=1
      echo "$1: $case: $(tail -n 1 "$state/client.log")"
    fi
  done
  echo "$1: $passed of ${#cases[@]} cases"
}

check "direct" --server_host localhost --server_port "$port"
check "through the gateway, h2c" --server_host localhost --server_port "${plain##*:}"
check "through the gateway, TLS" --server_host localhost --server_port "${tls##*:}" --use_tls --use_test_ca --ca_file "$state/cert.pem" \
  --server_host_override gateway.test
exit $failed
