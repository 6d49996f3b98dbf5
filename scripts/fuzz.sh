#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS each, beginning with its corpus. Needs the stable Rust toolchain and a C++
# compiler (for libFuzzer), nothing else: coverage counters come from LLVM's passes, which stable can be told to run.
# Usage: [FUZZ_SECONDS=20] scripts/fuzz.sh [TARGET...]
#        FUZZ_MINIMIZE=1 scripts/fuzz.sh [TARGET...]   also keeps what was found, minimized, in the corpus
# A crash ends the script with status 1 and leaves its input in target/fuzz/findings/TARGET/.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

seconds=${FUZZ_SECONDS:-20}
host=$(rustc -vV | sed -n 's/^host: //p')
command -v c++ >/dev/null || {
  echo "fuzz.sh: \`c++\` not found: libFuzzer is C++; Debian and Ubuntu: apt-get install g++" >&2
  exit 1
}

# What `cargo fuzz build -s none` does, without its nightly-only sanitizers; debug assertions find overflows.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks \
-Cdebuginfo=line-tables-only --cfg=fuzzing"

targets=()
for source in fuzz/targets/*.rs; do
  target=$(basename "$source" .rs)
  if [[ $# -eq 0 || " $* " == *" $target "* ]]; then targets+=("$target"); fi
done
# With --target, build scripts and macros are built without the flags above. Not --locked: the targets' lock is their own, and
# a dependency that a part has gained since is added to it here.
cargo build --quiet --release --target "$host" --target-dir target/fuzz --manifest-path fuzz/Cargo.toml \
  "${targets[@]/#/--bin=}"

# Usage: run_target TARGET
run_target() {
  local target=$1 status=0
  local binary=target/fuzz/$host/release/$target kept=fuzz/corpus/$target
  local found=target/fuzz/corpus/$target findings=target/fuzz/findings/$target log=target/fuzz/$target.log
  mkdir -p "$kept" "$found" "$findings"
  if "$binary" "$found" "$kept" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
    -artifact_prefix="$findings/" -print_final_stats=1 >"$log" 2>&1; then
    local runs cover
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    cover=$(sed -n 's/^#[0-9]*[[:space:]]*DONE.* cov: \([0-9]*\).*/\1/p' "$log")
    printf '%-16s %9s runs, %5s edges, no crash\n' "$target" "$runs" "$cover"
  else
    printf '%-16s CRASH, see %s and %s\n' "$target" "$log" "$findings" >&2
    tail -n 25 "$log" >&2
    status=1
  fi
  if [[ ${FUZZ_MINIMIZE:-} == 1 ]]; then
    rm -rf "$found.min"
    mkdir "$found.min"
    "$binary" "$found.min" "$kept" "$found" -merge=1 -max_len=2048 >>"$log" 2>&1
    rm -rf "$kept" && mv "$found.min" "$kept"
  fi
  return "$status"
}

# As many at a time as there are cores.
status=0
running=()
for target in "${targets[@]}"; do
  if ((${#running[@]} >= $(nproc))); then
    wait "${running[0]}" || status=1
    running=("${running[@]:1}")
  fi
  run_target "$target" &
  running+=($!)
done
for pid in "${running[@]}"; do
  wait "$pid" || status=1
done
exit "$status"
