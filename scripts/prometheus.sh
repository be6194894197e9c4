#!/usr/bin/env bash
# prometheus.sh: prints the directory that holds `prometheus` and `promtool`. Where they are not installed, Debian's package is unpacked
# into the cache, once; nothing is installed.
set -euo pipefail
if command -v prometheus promtool > /dev/null; then
  dirname "$(command -v promtool)"
  exit
fi
dir=$ESKER_CACHE/prometheus
if [ ! -x "$dir/usr/bin/promtool" ]; then
  echo "fetching Prometheus, once" >&2
  command -v apt-get > /dev/null || { echo "prometheus and promtool are not on PATH; install them" >&2; exit 1; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  apt-get download prometheus >&2 || { apt-get update >&2 && apt-get download prometheus >&2; }
  dpkg-deb -x prometheus_*.deb "$dir" >&2
fi
echo "$dir/usr/bin"
