#!/usr/bin/env bash
# Runs the previous landing's binary on a database that the present binary has migrated (`make test-previous`).
#
# The previous landing is the newest commit whose migrations differ from the present ones, at or after the commit that brought
# migration 0016. Migrations before that one are not made for this. The landing is built in a worktree in the cache, with its own
# target directory. PREVIOUS names another commit; DRY=1 only prints the choice.
set -euo pipefail
cd "$(dirname "$0")/.."
migrations=crates/state/migrations

present=$(find "$migrations" -name '*.sql' | LC_ALL=C sort | while read -r file; do echo "$(git hash-object "$file") $file"; done)
first=$(git log --diff-filter=A --format=%H -- "$migrations/sqlite/0016_vocabulary.sql" | tail -1)
[ -n "$first" ] || { echo "previous: this clone does not have the commit that brought migration 0016" >&2; exit 1; }

previous=${PREVIOUS:-}
if [ -z "$previous" ]; then
    for commit in $(git rev-list --first-parent HEAD); do
        git merge-base --is-ancestor "$first" "$commit" || break
        then=$(git ls-tree -r --format='%(objectname) %(path)' "$commit" -- "$migrations" | LC_ALL=C sort -k 2)
        [ "$then" = "$present" ] || { previous=$commit; break; }
    done
fi
if [ -z "$previous" ]; then
    echo "previous: no later migration than those of the first landing with 0016; nothing to run"
    exit 0
fi
echo "previous: $(git log -1 --format='%h %s' "$previous")"
[ -z "${DRY:-}" ] || exit 0

cache=${ESKER_CACHE:?is set by the Makefile}/previous
if [ -d "$cache/tree" ]; then
    git -C "$cache/tree" checkout --quiet --detach "$previous"
else
    git worktree prune
    git worktree add --quiet --detach "$cache/tree" "$previous"
fi
(cd "$cache/tree" && CARGO_TARGET_DIR="$cache/target" cargo build --quiet --locked -p esker)
python=$(scripts/uv.sh tests/engines/requirements.txt)
ESKER_PREVIOUS_BIN="$cache/target/debug/esker" "$python" -m pytest tests/engines/test_previous.py -q -rA --no-header -p no:cacheprovider
