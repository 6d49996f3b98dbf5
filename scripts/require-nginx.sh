#!/usr/bin/env bash
# Checks that nginx can be started. Usage: scripts/require-nginx.sh
set -euo pipefail

# Debian keeps it where only root looks.
if ! PATH=$PATH:/usr/sbin command -v nginx >/dev/null; then
  echo "not found: nginx" >&2
  echo "  on Debian and Ubuntu: apt-get install --no-install-recommends nginx" >&2
  exit 1
fi
