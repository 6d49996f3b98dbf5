#!/usr/bin/env bash
# Checks that Prometheus and Alertmanager can be started. Usage: scripts/require-prometheus.sh
set -euo pipefail

missing=()
command -v prometheus >/dev/null || missing+=(prometheus)
command -v prometheus-alertmanager >/dev/null || command -v alertmanager >/dev/null || missing+=(prometheus-alertmanager)
if ((${#missing[@]})); then
  echo "not found: ${missing[*]}" >&2
  echo "  on Debian and Ubuntu: apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
