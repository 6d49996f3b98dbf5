#!/usr/bin/env bash
# Places the stock clients of language models: google-genai and openai at .setup/venv-providers, Google's command at
# .setup/gemini-cli. Usage: [PYTHON=python3.12] scripts/setup-providers.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python_or_fail 11 13
make_venv "$setup/venv-providers" "$root/tests/providers/requirements.lock" --prefer-binary

command -v npm >/dev/null || fail "\`npm\` not found: gemini-cli is a package of it" "install Node.js 20 or newer"
cli=$setup/gemini-cli
stamp=$(digest "$root/tests/providers/package-lock.json")
if [[ ! -f $cli/.stamp || $(cat "$cli/.stamp") != "$stamp" ]]; then
  echo "setting up ${cli#"$root"/} from tests/providers/package-lock.json"
  mkdir -p "$cli"
  cp "$root/tests/providers/package.json" "$root/tests/providers/package-lock.json" "$cli/"
  # Scripts of packages do not run; what it does not need to answer is left out.
  (cd "$cli" && npm ci --ignore-scripts --omit=optional --omit=dev --no-audit --no-fund --loglevel=error) ||
    fail "the packages of tests/providers/package-lock.json could not be installed" "npm's message above says why"
  echo "$stamp" >"$cli/.stamp"
fi
