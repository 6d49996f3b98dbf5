#!/usr/bin/env bash
# h2spec with its strict cases against the gateway and an endpoint behind it: under TLS every case; without TLS all but one.
# Usage: tests/h2spec/run.sh GATEWAY H2SPEC
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
gateway=$(realpath "$1")
h2spec=$(realpath "$2")
source "$here/../gateway.sh"

python3 "$here/endpoint.py" >"$state/endpoint.log" 2>&1 &
processes+=($!)
endpoint=$(wait_for "$state/endpoint.log" 's/^listening on //p')
start_gateway "$gateway" --route "churn=http://$endpoint"

status=0
# judge NAME PATH FLAG_OR_CASE...: the cases that failed, and how many there were.
judge() {
  echo "== $1, $2"
  "$h2spec" --strict --host 127.0.0.1 --path "$2" "${@:3}" >"$state/report" 2>&1 || status=1
  sed -n '/^Failures:/,$p' "$state/report" | grep -v '^Finished\|^[0-9]* tests' || true
  tail -n 1 "$state/report"
  # A case that is skipped has shown nothing.
  grep -q ' 0 skipped, 0 failed$' <(tail -n 1 "$state/report") || status=1
}

# What is wrong with a POST has to arrive before its answer: these ask for what only a POST may, all others for what only a GET may.
posts=(http2/8.1/1 http2/8.1.2.1/3 http2/8.1.2.6)
gets=(generic hpack http2/4 http2/5 http2/6 http2/7 http2/8.1.2/1 http2/8.1.2.1/1 http2/8.1.2.1/2 http2/8.1.2.1/4 http2/8.1.2.2
  http2/8.1.2.3 http2/8.2)
judge TLS /v1/models/churn:predict --tls --insecure --port "${tls##*:}" "${posts[@]}"
judge TLS /v2/models/churn --tls --insecure --port "${tls##*:}" http2/3.5 "${gets[@]}"
judge h2c /v1/models/churn:predict --port "${plain##*:}" "${posts[@]}"
# Without http2/3.5/2, a preface that is none: this port has HTTP/1.1, too, which answers 400 and closes.
judge h2c /v2/models/churn --port "${plain##*:}" http2/3.5/1 "${gets[@]}"
exit $status
