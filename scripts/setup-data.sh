#!/usr/bin/env bash
# Places the churn table at model-source/artifacts/data/churn.csv, out of the pinned evalml wheel.
# Usage: scripts/setup-data.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lock=$root/scripts/data.lock
target=$root/model-source/artifacts/data/churn.csv
rows=7043

python_or_fail 9
# rows_of FILE: rows of a CSV below its header.
rows_of() {
  "$python" -c 'import csv, sys; print(sum(1 for _ in csv.reader(open(sys.argv[1], newline=""))) - 1)' "$1"
}
if [[ -f $target && $(rows_of "$target") == "$rows" ]]; then
  exit 0
fi

"$root/scripts/setup-python.sh" # for its pip
echo "setting up ${target#"$root"/} from ${lock#"$root"/}"
new=$setup/data.new
rm -rf "$new"
mkdir -p "$new"
trap 'rm -rf "$new"' EXIT
download_wheel "$new" "$lock"
"$python" "$root/scripts/take_from_wheel.py" "$new"/*.whl "evalml/demos/data/churn.csv=$new/churn.csv"
found=$(rows_of "$new/churn.csv")
[[ $found == "$rows" ]] || fail "churn.csv has $found rows, expected $rows" "the wheel of scripts/data.lock is not the one it was"
mkdir -p "$(dirname "$target")"
mv "$new/churn.csv" "$target"
