# A gateway for tests from outside, plain and under TLS; sourced, never run. Everything it starts ends with the test.
# shellcheck shell=bash

state=$(mktemp -d)
processes=()
plain='' tls=''

end() {
  for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
  rm -rf "$state"
}
trap end EXIT

# wait_for LOG SED_SCRIPT: the first line that the script prints, of a log that is being written.
wait_for() {
  local line
  for _ in $(seq 600); do
    line=$(sed -n "$2" "$1" | head -n 1)
    [[ -z $line ]] || { echo "$line" && return; }
    sleep 0.1
  done
  cat "$1" >&2
  return 1
}

# start_gateway GATEWAY FLAG...: on free ports, whose addresses are then in `plain` and `tls`; the certificate is in `state`.
start_gateway() {
  local gateway=$1
  shift
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=gateway.test \
    -addext subjectAltName=DNS:gateway.test -keyout "$state/key.pem" -out "$state/cert.pem" 2>"$state/openssl.log" ||
    { cat "$state/openssl.log" >&2 && return 1; }
  "$gateway" --listen 127.0.0.1:0 --tls-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --log-format json \
    --tls-cert "$state/cert.pem" --tls-key "$state/key.pem" "$@" >"$state/gateway.log" 2>&1 &
  processes+=($!)
  # shellcheck disable=SC2034 # for whoever sources this
  plain=$(wait_for "$state/gateway.log" '/"port":"data"/{/"tls":false/s/.*"address":"\([^"]*\)".*/\1/p}')
  # shellcheck disable=SC2034
  tls=$(wait_for "$state/gateway.log" '/"port":"data"/{/"tls":true/s/.*"address":"\([^"]*\)".*/\1/p}')
}
