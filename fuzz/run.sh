#!/usr/bin/env bash
# libFuzzer over each decoder of the format, for so many seconds each (60). What it finds interesting is kept, so that the next run begins
# there; what fails is kept beside it and fails this. It needs a nightly compiler.
#
#   fuzz/run.sh [SECONDS] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
shift || true
targets=("$@")
[ $# -gt 0 ] || targets=(manifest list table view puffin)
kept=${ESKER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/esker}/fuzz
mkdir -p "$kept/seeds"

# What cargo-fuzz passes, which is not needed for more.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
host=$(rustc -vV | sed -n 's/^host: //p')
# With a target of its own the flags are not those of build scripts.
RUSTFLAGS="$coverage -Zsanitizer=address" CARGO_TARGET_DIR="$kept/target" \
	cargo +nightly build --locked --release --target "$host"
"$kept/target/$host/release/seeds" "$kept/seeds"
for target in "${targets[@]}"; do
	mkdir -p "$kept/$target" "$kept/failures"
	"$kept/target/$host/release/$target" "$kept/$target" "$kept/seeds/$target" -max_total_time="$seconds" -max_len=65536 \
		-rss_limit_mb=1024 -timeout=10 -artifact_prefix="$kept/failures/$target-" -print_final_stats=1
done
