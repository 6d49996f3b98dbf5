#!/usr/bin/env bash
# Places octokit, the stock client of GitHub's API, at .setup/octokit, with the test that drives it.
# Usage: scripts/setup-octokit.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

for program in node npm; do
  command -v "$program" >/dev/null || fail "\`$program\` not found: Node.js 20 or newer is needed" "Debian and Ubuntu: apt-get install nodejs npm"
done
target=$setup/octokit
python_or_fail 9
stamp=$(digest "$root/tests/github/package.json" "$root/tests/github/package-lock.json")
if [[ ! -f $target/.stamp || $(cat "$target/.stamp") != "$stamp" ]]; then
  echo "setting up .setup/octokit from tests/github/package-lock.json"
  rm -rf "$target" && mkdir -p "$target"
  cp "$root/tests/github/package.json" "$root/tests/github/package-lock.json" "$target"
  (cd "$target" && npm ci --silent --no-audit --no-fund --ignore-scripts) ||
    fail "the packages of tests/github/package-lock.json could not be installed" "npm's message above says why; a package registry must be reachable"
  echo "$stamp" >"$target/.stamp"
fi
cp "$root/tests/github/client.mjs" "$target"
