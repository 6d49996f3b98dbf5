#!/usr/bin/env bash
# `plumbline drift` on real tables: halves of a shuffled table have not drifted, tables with a known break have.
# Usage: tests/data/run.sh PLUMBLINE DATA_DIR
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$here/../../.setup/venv/bin/python
plumbline=$1 data=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# compare WHAT EXPECTED_STATUS EXPECTED_TEXT [DRIFT_OPTION...]: of the two parts in $work.
compare() {
  local what=$1 expected=$2 text=$3 status=0
  shift 3
  "$plumbline" drift "$work/a.csv" "$work/b.csv" "$@" >"$work/out" 2>&1 || status=$?
  if [[ $status == "$expected" ]] && grep -qE "$text" "$work/out"; then
    passed=$((passed + 1))
    echo "ok: $what"
  else
    failed=$((failed + 1))
    echo "FAILED: $what: exit status $status, expected $expected, and a line that matches $text:"
    cat "$work/out"
  fi
}

split() { "$python" "$here/split.py" "$1" "$work/a.csv" "$work/b.csv" "${@:2}"; }

telco=$data/telco_churn/telco_churn.csv
bank=$data/bank_marketing_2008_2010/bank_marketing.csv
elec2=$data/elec2_nsw/elec2.csv
for seed in 1 2 3 4 5; do
  split "$telco" --seed "$seed"
  compare "telco churn, random halves, seed $seed: nothing" 0 'tenure' --exclude customerID
  split "$bank" --seed "$seed"
  compare "bank marketing, random halves, seed $seed: nothing" 0 'euribor3m'
done
split "$elec2" --at 17424
compare "electricity, before and after the market's extension: vicdemand" 1 '^ *vicdemand.*drift' --exclude date
split "$bank" --at 27690
compare "bank marketing, before and after the crisis: euribor3m" 1 '^ *euribor3m.*drift'

echo "$passed passed, $failed failed"
((failed == 0))
