#!/usr/bin/env bash
# Random access policies, decided by Esker's engine and by the crate `cedar-policy`, from a seed (1) on. The first difference fails this,
# with the policy and the request.
#
#   oracle/run.sh [POLICIES] [SEED]
set -euo pipefail
cd "$(dirname "$0")"
kept=${ESKER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/esker}/oracle
CARGO_TARGET_DIR="$kept/target" cargo run --locked --release --quiet -- "${1:-20000}" "${2:-1}"
