#!/usr/bin/env bash
# uv.sh REQUIREMENTS: prints the Python of a virtual environment with these requirements. It is made once for each content of the file.
set -euo pipefail
requirements=$1
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  uv=$ESKER_CACHE/uv/bin/uv
  if [ ! -x "$uv" ]; then
    python3 -m venv "$ESKER_CACHE/uv" >&2
    "$ESKER_CACHE/uv/bin/pip" install --quiet uv >&2
  fi
fi
venv=$ESKER_CACHE/venv/$(sha256sum "$requirements" | cut -c1-12)
if [ ! -e "$venv/.complete" ]; then
  echo "setting up Python for $requirements" >&2
  "$uv" venv --quiet --clear --python 3.11 "$venv" >&2
  "$uv" pip install --quiet --python "$venv" -r "$requirements" >&2
  touch "$venv/.complete"
fi
echo "$venv/bin/python"
