#!/usr/bin/env bash
# debian.sh NAME PACKAGE...: prints a directory of the cache with unpacked Debian packages, and their dependencies that the machine
# lacks. Nothing is installed. It is for programs that no language's registry has.
set -euo pipefail
dir=$ESKER_CACHE/debian/$1
shift
if [ ! -e "$dir/.complete" ]; then
  command -v apt-get > /dev/null || { echo "install what provides: $*" >&2; exit 1; }
  echo "fetching $*, once" >&2
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  needed() { apt-get -s -o APT::Get::Show-User-Simulation-Note=false install --no-install-recommends "$@" | sed -n 's/^Inst \([^ ]*\).*/\1/p'; }
  fetch() { packages=$(needed "$@") && { [ -z "$packages" ] || apt-get download $packages >&2; }; }
  fetch "$@" 2> /dev/null || { apt-get update >&2 && fetch "$@"; }
  mkdir -p "$dir"
  find . -name '*.deb' -exec dpkg-deb -x {} "$dir" \;
  touch "$dir/.complete"
fi
echo "$dir"
