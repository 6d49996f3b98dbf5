#!/usr/bin/env bash
# Checks that these can be started. Usage: scripts/require-proxies.sh nginx [haproxy]
set -euo pipefail

missing=()
for proxy in "$@"; do
  # Debian keeps them where only root looks.
  PATH=$PATH:/usr/sbin command -v "$proxy" >/dev/null || missing+=("$proxy")
done
if ((${#missing[@]})); then
  echo "not found: ${missing[*]}" >&2
  echo "  on Debian and Ubuntu: apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
