#!/usr/bin/env bash
# Is the load generator itself a limit? wrk and plumbline-load in turn on the constant-answer server, which has a CPU of
# its own. Fails when plumbline-load reaches less than 90 % of wrk's rate.
# Usage: load-tests/against-wrk.sh [RESULT_FILE] (ROUNDS=5 SECONDS_EACH=2 CONNECTIONS="16 64")
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-2}
command -v wrk >/dev/null || { echo "not found: wrk; on Debian and Ubuntu: apt-get install wrk" >&2; exit 1; }

work=$(mktemp -d)
server=
# shellcheck disable=SC2329 # the trap runs it
leave() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap leave EXIT

mkfifo "$work/log"
taskset -c 0 target/release/constant-server --listen 127.0.0.1:0 2>"$work/log" &
server=$!
read -r line <"$work/log"
address=${line##*\"address\":\"}
address=${address%%\"*}

# The same body for both.
row=0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0
printf '{"inputs":[{"name":"X","shape":[1,20],"datatype":"FP32","data":[%s,%s]}]}' $row $row >"$work/body.json"
cat >"$work/post.lua" <<LUA
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("$work/body.json")
wrk.body = file:read("*a")
file:close()
LUA

# middle: the median of the lines.
middle() {
  sort -g | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}

status=0
{
  echo "Requests/s on the constant-answer server, $rounds rounds of $seconds s in turn, medians; server on CPU 0, generator on CPU 1"
  echo
  echo "| connections | wrk | plumbline-load | ratio |"
  echo "| --- | --- | --- | --- |"
  for connections in ${CONNECTIONS:-16 64}; do
    : >"$work/wrk" && : >"$work/own"
    for ((round = 0; round < rounds; round++)); do
      taskset -c 1 wrk -t1 -c"$connections" -d"$seconds" -s "$work/post.lua" "http://$address/v2/models/m/infer" |
        sed -n 's,^Requests/sec: *,,p' >>"$work/wrk"
      taskset -c 1 target/release/plumbline-load "http://$address" --encoding v2 --body "$work/body.json" \
        --path /v2/models/m/infer --header 'content-type: application/json' -c "$connections" -d "$seconds" --warm-up 0.1 |
        sed -n 's,^rate *\([0-9]*\) .*,\1,p' >>"$work/own"
    done
    wrk=$(middle <"$work/wrk") own=$(middle <"$work/own")
    ratio=$(awk -v own="$own" -v wrk="$wrk" 'BEGIN { printf "%.2f", own / wrk }')
    echo "| $connections | $wrk | $own | $ratio |"
    awk -v ratio="$ratio" 'BEGIN { exit ratio < 0.9 }' || status=1
  done
} >"$work/table"
cat "$work/table"
[[ $# -eq 0 ]] || cp "$work/table" "$1"
exit "$status"
