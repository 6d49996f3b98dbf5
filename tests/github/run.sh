#!/usr/bin/env bash
# Holds testkit's GitHub against the stock client, octokit.
# Usage: tests/github/run.sh FAKE
set -euo pipefail
fake=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../../.setup/octokit"
node client.mjs "$fake"
