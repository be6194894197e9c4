#!/usr/bin/env bash
# Builds what `make demo` or `make test` runs: `scripts/build.sh demo`, `scripts/build.sh tests`. A build for the tests begins with that
# for the demo, and adds only what the demo does not need.
#
# A cold build is measured, in seconds and in yardsticks: its CPU time divided by that of compiling scripts/yardstick.rs, which happens
# every minute during the build. So machines with other speeds or loads can be compared. In CI, a cold build that takes a quarter more
# yardsticks than scripts/build-budget fails. A warm target directory is not emptied for that, because a run of CI is cut at 90 minutes,
# half of which a cold build takes on a slow machine: `make bench-build` measures one in a directory of its own.
set -euo pipefail
what=$1
# The key of a measurement has the external crates only, as they take nearly all the time of a cold build. Changes of the workspace's
# own crates and their profiles need no new measurement.
key=$( {
  awk -v RS= '/\nsource = /' Cargo.lock
  sed -n '/^\[profile/,$p' Cargo.toml | awk -v RS= '!/^\[profile\.dev\.package\.esker-/'
  rustc -V
} | sha256sum | cut -c1-16)
record=$ESKER_CACHE/cold-build/$key
mkdir -p "$ESKER_CACHE/cold-build"
TIMEFORMAT='%R %U %S'

demo() {
  cargo build
}

tests() {
  cargo build --workspace
  cargo test --workspace --no-run --quiet
}

yardsticks() {
  while :; do
    { time rustc --edition 2024 --crate-type lib -O -C codegen-units=1 --out-dir "$1" scripts/yardstick.rs; } 2>&1 | tail -n 1 >> "$1/samples"
    sleep 60
  done
}

# Runs a function, and records what it cost under its name.
measured() {
  local beside cost
  beside=$(mktemp -d)
  yardsticks "$beside" > /dev/null 2>&1 &
  local sampler=$!
  trap 'kill $sampler 2>/dev/null || true; rm -rf "$beside"' RETURN
  cost=$( { time "$1" 1>&3 2>&4; } 3>&1 4>&2 2>&1 | tail -n 1)
  awk -v name="$1" 'NR == FNR { sum += $2 + $3; n++; next } { cpu = $2 + $3; printf "%s wall_s %d cpu_s %d yardsticks %d\n", name, $1, cpu, cpu * n / sum }' \
    "$beside/samples" - <<<"$cost" | tee -a "$record.new"
}

if [ -d "$CARGO_TARGET_DIR/debug/deps" ]; then
  "$what"
else
  rm -f "$record.new"
  measured demo
  [ "$what" = demo ] || measured tests
  mv "$record.new" "$record"
fi

# Prints the yardsticks of the build for the demo, or of both if the argument is `tests`.
spent() {
  awk -v what="$1" '$1 == "demo" || $1 == what { sum += $NF } END { print sum }' "$record"
}

if [ "${CI:-}" = true ] && grep -q "^$what " "$record" 2> /dev/null; then
  for build in demo $what; do
    budget=$(awk -v build="$build" '$1 == build { print $2 }' scripts/build-budget)
    if [ "$(spent "$build")" -gt $((budget * 5 / 4)) ]; then
      echo "the cold build for $build cost $(spent "$build") yardsticks, a quarter more than the budget of $budget (scripts/build-budget)" >&2
      exit 1
    fi
  done
fi
