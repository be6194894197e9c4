# The two commands of the README are `demo` and `test`; both set up what they need in a cache that a new clone reuses.
SHELL := bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c

export ESKER_CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/esker
export CARGO_TARGET_DIR ?= $(ESKER_CACHE)/target
export ESKER_BIN := $(CARGO_TARGET_DIR)/debug/esker
UV := scripts/uv.sh

.PHONY: demo test test-unit test-engines build lint bench-maintenance bench-service dist clean-cache

demo: build
	python=$$($(UV) demo/requirements.txt)
	"$$python" demo/flights.py --esker "$(ESKER_BIN)" --data-dir "$(ESKER_CACHE)/demo" $(if $(KEEP),--keep)

test: build lint test-unit test-engines

build:
	scripts/build.sh

lint:
	cargo fmt --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	python3 scripts/licenses.py
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" -m ruff check --quiet .
	"$$python" -m ruff format --quiet --check .

test-unit: build
	cargo test --workspace --quiet

test-engines: build
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" -m pytest tests/engines -q -rA --no-header -p no:cacheprovider

# Compaction beside the naive decode + encode of the same files; SCALE=1 is 600,000 rows.
bench-maintenance: build
	cargo run --quiet -p esker-benches --bin maintenance -- $(or $(SCALE),1)

# Start-up, idle memory, loadTable latency.
bench-service: build
	python3 benches/service.py "$(ESKER_BIN)"

dist:
	cargo build --release -p esker

clean-cache:
	rm -rf "$(ESKER_CACHE)"
