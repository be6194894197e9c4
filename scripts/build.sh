#!/usr/bin/env bash
# Builds the workspace. A cold build is measured, in seconds and in yardsticks: its CPU time divided by that of compiling
# scripts/yardstick.rs, which happens every minute during the build. So machines with other speeds or loads can be compared.
# In CI, a cold build that takes over a quarter more yardsticks than scripts/build-budget fails. CI empties the target directory if
# this set of dependencies was never measured there.
set -euo pipefail
# The key of a measurement has the external crates only, as they take nearly all the time of a cold build. Changes of the workspace's
# own crates and their profiles need no new measurement.
key=$( {
  awk -v RS= '/\nsource = /' Cargo.lock
  sed -n '/^\[profile/,$p' Cargo.toml | awk -v RS= '!/^\[profile\.dev\.package\.esker-/'
  rustc -V
} | sha256sum | cut -c1-16)
record=$ESKER_CACHE/cold-build/$key
mkdir -p "$ESKER_CACHE/cold-build"
if [ "${CI:-}" = true ] && [ ! -e "$record" ]; then
  rm -rf "$CARGO_TARGET_DIR"
fi
TIMEFORMAT='%R %U %S'

yardsticks() {
  while :; do
    { time rustc --edition 2024 --crate-type lib -O -C codegen-units=1 --out-dir "$1" scripts/yardstick.rs; } 2>&1 | tail -n 1 >> "$1/samples"
    sleep 60
  done
}

if [ -d "$CARGO_TARGET_DIR/debug/deps" ]; then
  cargo build --workspace
else
  beside=$(mktemp -d)
  yardsticks "$beside" > /dev/null 2>&1 &
  trap 'kill $! 2>/dev/null || true; rm -rf "$beside"' EXIT
  cost=$( { time cargo build --workspace 1>&3 2>&4; } 3>&1 4>&2 2>&1 | tail -n 1)
  awk 'NR == FNR { sum += $2 + $3; n++; next } { cpu = $2 + $3; printf "wall_s %d\ncpu_s %d\nyardsticks %d\n", $1, cpu, cpu * n / sum }' \
    "$beside/samples" - <<<"$cost" > "$record"
  echo "cold build: $(paste -sd ' ' "$record")"
fi
if [ "${CI:-}" = true ] && [ -e "$record" ]; then
  cost=$(awk '$1 == "yardsticks" { print $2 }' "$record")
  budget=$(awk '$1 == "yardsticks" { print $2 }' scripts/build-budget)
  if [ "$cost" -gt $((budget * 5 / 4)) ]; then
    echo "the cold build cost $cost yardsticks, more than a quarter over the budget of $budget (scripts/build-budget)" >&2
    exit 1
  fi
fi
