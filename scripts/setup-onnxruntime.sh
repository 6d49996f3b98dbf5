#!/usr/bin/env bash
# Places ONNX Runtime's shared library at .setup/onnxruntime/lib/libonnxruntime.{so,dylib}, its version in
# .setup/onnxruntime/VERSION. It comes out of the pinned wheel, whatever Python the user has.
# Usage: scripts/setup-onnxruntime.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lock=$root/scripts/onnxruntime.lock
version=$(sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' "$lock")
platform=$(uname -s)-$(uname -m)
case $platform in
  Linux-x86_64) tag=manylinux_2_28_x86_64 ;;
  Linux-aarch64 | Linux-arm64) tag=manylinux_2_28_aarch64 ;;
  Darwin-arm64) tag=macosx_14_0_arm64 ;;
  *)
    fail "no ONNX Runtime library is pinned for $platform" \
      "supported: Linux x86-64 and arm64, macOS arm64; elsewhere set ORT_DYLIB_PATH to a library of version $version"
    ;;
esac
case $tag in
  macosx*) member=libonnxruntime.$version.dylib library=libonnxruntime.dylib ;;
  *) member=libonnxruntime.so.$version library=libonnxruntime.so ;;
esac

if [[ $tag == manylinux* ]]; then
  libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true) # "glibc 2.36"
  minor=${libc#glibc 2.}
  [[ $libc == glibc\ 2.* && ${minor%%.*} -ge 28 ]] ||
    fail "ONNX Runtime $version needs glibc 2.28 or newer, found ${libc:-none}" "use a newer distribution (not a musl one)"
fi

python_or_fail 9
target=$setup/onnxruntime
stamp="$(digest "$lock") $tag"
if [[ -f $target/.stamp && $(cat "$target/.stamp") == "$stamp" && -f $target/lib/$library ]]; then
  exit 0
fi

"$root/scripts/setup-python.sh" # for its pip
echo "setting up ${target#"$root"/} from ${lock#"$root"/} ($tag)"
new=$setup/onnxruntime.new
rm -rf "$new"
mkdir -p "$new/lib"
trap 'rm -rf "$new"' EXIT
download_wheel "$new" "$lock" --platform "$tag" --implementation cp --python-version 3.11
"$python" "$root/scripts/take_from_wheel.py" "$new"/*.whl \
  "onnxruntime/capi/$member=$new/lib/$library" \
  "onnxruntime/LICENSE=$new/LICENSE" \
  "onnxruntime/ThirdPartyNotices.txt=$new/ThirdPartyNotices.txt"
rm "$new"/*.whl
echo "$version" >"$new/VERSION"
echo "$stamp" >"$new/.stamp"
# Whole or not at all: whoever finds the directory finds a complete library.
rm -rf "$target"
mv "$new" "$target"
