#!/usr/bin/env bash
# Builds the workspace and, where nothing was built before, records what that cost. In CI a cold build that costs a quarter
# more CPU than scripts/build-budget says is a failure; for a set of dependencies that was never measured there, the
# target directory is emptied first, so that it is measured.
set -euo pipefail
key=$( { cat Cargo.lock Cargo.toml; rustc -V; } | sha256sum | cut -c1-16)
record=$ESKER_CACHE/cold-build/$key
mkdir -p "$ESKER_CACHE/cold-build"
if [ "${CI:-}" = true ] && [ ! -e "$record" ]; then
  rm -rf "$CARGO_TARGET_DIR"
fi
cold=no
[ -d "$CARGO_TARGET_DIR/debug/deps" ] || cold=yes
TIMEFORMAT='%R %U %S'
cost=$( { time cargo build --workspace 1>&3 2>&4; } 3>&1 4>&2 2>&1 | tail -n 1)
if [ $cold = yes ]; then
  awk '{ printf "wall_s %d\ncpu_s %d\n", $1, $2 + $3 }' <<<"$cost" > "$record"
  echo "cold build: $(paste -sd ' ' "$record")"
fi
if [ -e "$record" ]; then
  cpu=$(awk '$1 == "cpu_s" { print $2 }' "$record")
  budget=$(awk '$1 == "cpu_s" { print $2 }' scripts/build-budget)
  if [ "${CI:-}" = true ] && [ "$cpu" -gt $((budget * 5 / 4)) ]; then
    echo "the cold build took $cpu CPU-seconds, more than a quarter over the budget of $budget (scripts/build-budget)" >&2
    exit 1
  fi
fi
