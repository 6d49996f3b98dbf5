#!/usr/bin/env bash
# Checks that HAProxy can be started. Usage: scripts/require-haproxy.sh
set -euo pipefail

# Debian keeps it where only root looks.
if ! PATH=$PATH:/usr/sbin command -v haproxy >/dev/null; then
  echo "not found: haproxy" >&2
  echo "  on Debian and Ubuntu: apt-get install --no-install-recommends haproxy" >&2
  exit 1
fi
