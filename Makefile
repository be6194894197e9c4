# The two commands of the README are `demo` and `test`; both set up what they need in a cache that a new clone reuses.
SHELL := bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c

export ESKER_CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/esker
export CARGO_TARGET_DIR ?= $(ESKER_CACHE)/target
export ESKER_BIN := $(CARGO_TARGET_DIR)/debug/esker
RELEASE := $(CARGO_TARGET_DIR)/release
UV := scripts/uv.sh
PYTEST := -q -rA --no-header -p no:cacheprovider --durations=10

.DEFAULT_GOAL := help
.PHONY: help audit demo test test-unit test-engine-slice test-hostile-slice test-engines build build-demo build-release lint soak soak-hostile docs bench-maintenance bench-query bench-pairs bench-catalog bench-appenders bench-expiry bench-autopilot bench-service bench-format bench-security bench-scale bench-build dist sbom clean-cache test-previous

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	echo "docs/quick-start.md starts here; CONTRIBUTING.md says how to work on Esker."

demo: build-demo  ## Load real flights, let the table decay, maintain it, and prove that the answers stayed the same.
	python=$$($(UV) demo/requirements.txt)
	"$$python" demo/flights.py --esker "$(ESKER_BIN)" --data-dir "$(ESKER_CACHE)/demo" $(if $(KEEP),--keep)

test: build lint test-unit test-hostile-slice test-engine-slice  ## Run all that CI runs: build, lint, unit and integration tests, a slice of every engine.
build:  ## Build every crate, and the tests, for development.
	scripts/build.sh tests

build-demo:  ## Build the program for development.
	scripts/build.sh demo

build-release:  ## Build the program and the benchmarks, optimised.
	cargo build --release --workspace --bins

lint:  ## Check formatting, clippy, layers, spelling, licences and Python style.
	cargo fmt --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings --document-private-items" cargo doc --workspace --no-deps --quiet
	cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml > /dev/null
	cargo metadata --locked --format-version 1 --manifest-path oracle/Cargo.toml > /dev/null
	python3 scripts/layers.py
	python3 scripts/features.py
	python3 scripts/licenses.py
	bin=$$(dirname "$$($(UV) scripts/lint-requirements.txt)")
	"$$bin/ruff" check --quiet .
	"$$bin/ruff" format --quiet --check .
	"$$bin/typos"

# Modules of the integration tests that are about values, files and plans: the state database is the same for them.
NOT_ON_POSTGRES := sql::composed_values sql::conversions sql::dialect sql::semantics sql::subqueries irregular_tables:: missing_columns:: partitions:: variants:: layering::

# Unit and integration tests on SQLite, then those that reach the state database on PostgreSQL, and the checker on MinIO.
test-unit: build  ## Run the Rust tests on SQLite and PostgreSQL.
	python=$$($(UV) tests/engines/requirements.txt)
	cd tests/engines
	"$$python" -m stack.postgres cargo test --workspace --quiet
	ESKER_TEST_STATE=postgres "$$python" -m stack.postgres cargo test --workspace --quiet --test it -- $(addprefix --skip ,$(NOT_ON_POSTGRES))
	"$$python" -m stack.minio cargo test --workspace --quiet --test it -- checker

# A slice of every engine.
test-engine-slice: build  ## Run a slice of every engine.
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" -m pytest tests/engines -m slice $(PYTEST)
	spark4=$$($(UV) tests/engines/spark4/requirements.txt)
	ESKER_SPARK=4 "$$spark4" -m pytest tests/engines/test_spark.py -m slice $(PYTEST)

# Hostile tables and statements against other engines, a minute of each.
test-hostile-slice: build  ## Run hostile tables and statements for a minute each.
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" -m pytest tests/hostile $(PYTEST)

# All of every engine; then `make docs` makes the pages of what ran: compatibility, and types.
test-engines: build  ## Run all tests of every engine.
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" -m pytest tests/engines $(PYTEST)
	spark4=$$($(UV) tests/engines/spark4/requirements.txt)
	ESKER_SPARK=4 "$$spark4" -m pytest tests/engines/test_spark.py tests/engines/test_version3.py $(PYTEST)

# Upgrades: builds the newest landing with other migrations, which takes minutes. Says so if there is none.
test-previous: build  ## Run the previous landing's binary on a database that this one migrated.
	scripts/previous.sh

# What takes minutes to hours: thousands of random histories and queries, hundreds of kills and of random restrictions, TPC-H at scale
# factor 1, all of TPC-DS, 1,000 hostile tables and 100,000 statements. Those can be stopped: they keep how far they came, and go on.
soak: build  ## Run what takes hours: histories, kills, hostile tables, fuzzing.
	ESKER_HISTORIES=$(or $(HISTORIES),10000) cargo test --workspace --test it -- histories
	ESKER_MERGES=$(or $(MERGES),10000) cargo test --workspace --test it -- random_merges
	for n in 12500 25000 50000; do ESKER_SNAPSHOTS=$$n cargo test --workspace --test it -- --nocapture long_history; done
	ESKER_RULES=$(or $(RULES),2000) cargo test --workspace --test it -- random_rules
	ESKER_DISASTERS=$(or $(DISASTERS),500) cargo test --workspace --test it -- disasters
	ESKER_KILLS=$(or $(KILLS),100) cargo test --workspace --test it -- random_kills
	ESKER_RESTRICTIONS=$(or $(RESTRICTIONS),500) cargo test --workspace --test it -- random_restrictions
	python=$$($(UV) tests/engines/requirements.txt)
	cd tests/engines
	ESKER_JOBS=$(or $(JOBS),1000) ESKER_TEST_STATE=postgres "$$python" -m stack.postgres cargo test --workspace --test it -- --nocapture jobs_of_killed
	ESKER_ROW_SECURITY=$(or $(ROW_SECURITY),500) "$$python" -m stack.postgres cargo test --workspace --test it -- row_security
	# The checker, for an hour: on both databases, in the local file system and in MinIO. PostgreSQL crashes too.
	checker="env ESKER_CHECKER=$(or $(CHECKER),900) cargo test --workspace --test it -- checker"
	for store in env "$$python -m stack.minio"; do
		$$store $$checker
		ESKER_TEST_STATE=postgres $$store "$$python" -m stack.postgres --crashes $$checker
	done
	cd ../..
	$(MAKE) soak-hostile
	ESKER_QUERIES=$(or $(QUERIES),200) ESKER_TPCH_SCALE=1 "$$python" -m pytest tests/engines/test_queries.py $(PYTEST)
	# The decoders of the format, with a nightly compiler.
	fuzz/run.sh $(or $(FUZZ_SECONDS),60)
	# Access policies, decided by Esker and by the crate cedar-policy.
	oracle/run.sh $(or $(POLICIES),20000) $(or $(SEED),1)
	$(MAKE) test-previous

soak-hostile: build  ## Run 1,000 hostile tables and 100,000 statements.
	python=$$($(UV) tests/engines/requirements.txt)
	kept="$(ESKER_CACHE)/hostile"
	mkdir -p "$$kept"
	cd tests
	ESKER_HOSTILE_SPARK=1 "$$python" -m hostile tables --seed $(or $(SEED),0) --count $(or $(HOSTILE_TABLES),1000) --resume "$$kept/tables-$(or $(SEED),0)"
	"$$python" -m hostile tables --new --seed $(or $(SEED),0) --count $(or $(HOSTILE_TABLES),1000) --resume "$$kept/new-$(or $(SEED),0)"
	"$$python" -m hostile statements --seed $(or $(SEED),0) --count $(or $(HOSTILE_STATEMENTS),100000) --resume "$$kept/statements-$(or $(SEED),0)"

docs: build  ## Make the generated pages: compatibility, types, pictures, dashboards.
	python3 scripts/dashboards.py
	python=$$($(UV) tests/engines/requirements.txt)
	ESKER_SCREENSHOTS=docs/images "$$python" -m pytest -q tests/engines/test_page.py -k pictures
	python3 scripts/compatibility.py "$(ESKER_CACHE)/engine-results" > docs/compatibility.md
	python3 scripts/type_table.py "$(ESKER_CACHE)/engine-results/types/cells.json" > docs/types.md

# Compaction beside its bounds, Spark and Trino; SCALE=1 is 6 M rows. DATASETS="s1 d2" chooses, PEERS=0 leaves the peers out.
bench-maintenance: build-release  ## Compare compaction with its bounds, Spark and Trino.
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" benches/maintenance.py "$(RELEASE)/esker" "$(RELEASE)/bound" $(DATASETS)

# SQL beside DuckDB and Trino over MinIO; SCALE is TPC-H's scale factor, PARTS="scans tpch deletes lookups" chooses, PEERS=duckdb,parquet,trino.
bench-query: build-release  ## Compare SQL with DuckDB and Trino.
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" benches/query.py "$(RELEASE)/esker" $(PARTS)

# This build beside another by turns, so that a change shows what it costs; BEFORE is the other's binary, PARTS as above and s1, s2.
bench-pairs: build-release  ## Compare this build with another by turns.
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" benches/pairs.py "$(BEFORE)" "$(RELEASE)/esker" $(PARTS)

# A table of 9,000 and one of 50,000 snapshots: loads and commits beside parsing, printing and writing its metadata once. Then Esker
# beside other catalogs over one MinIO, which takes an hour: PEERS="sqlite postgres reference nessie rustberg ducklake" and
# PARTS="tables appenders light static" choose, CLIENTS="1 2 8 32", SECONDS=20. PEERS="before sqlite" with the binary BEFORE shows what
# a change costs.
bench-catalog: build-release  ## Measure Esker beside other catalogs, and tables with many snapshots.
	"$(RELEASE)/catalog" 9000 50000
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" benches/catalog.py "$(RELEASE)/esker" "$(RELEASE)/light" $(CLIENTS)

# PyIceberg clients that append to one table, with default retries and without, with and without turns of late commits, and merged;
# CLIENTS="1 2 8 32", SECONDS=20, PEERS as for bench-catalog.
bench-appenders: build-release  ## Measure many clients that append to one table.
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" benches/appenders.py "$(RELEASE)/esker" $(CLIENTS)

# Commits beside the expiry of FILES=100000 files of another table, with the state on PostgreSQL, and how long the write lock is held.
bench-expiry: build-release  ## Measure commits beside a large expiry on PostgreSQL.
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" benches/expiry.py "$(RELEASE)/expiry" $(or $(FILES),100000)

# Twenty tables under streaming writes and the autopilot: files opened per query, as Trino and DuckDB count them. SECONDS=180.
bench-autopilot: build-release  ## Measure files opened per query under streaming writes.
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" benches/autopilot.py "$(RELEASE)/esker"

# Start-up, idle memory, loadTable latency.
bench-service: build-release  ## Measure start-up, idle memory and latency.
	python3 benches/service.py "$(RELEASE)/esker"

# Reading manifests beside the `iceberg` crate and PyIceberg, and planning a scan of FILES=1000000 by bounds.
bench-format: build-release  ## Measure reading of manifests and planning of scans.
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" benches/format.py "$(RELEASE)/format" $(or $(FILES),1000000)

# A cold build in a directory of its own, in seconds and in yardsticks beside the budget; takes half an hour on two cores.
bench-build:  ## Measure a cold build of the program and of the tests.
	cold=$$(mktemp -d)
	trap 'rm -rf "$$cold"' EXIT
	CI=true CARGO_TARGET_DIR="$$cold/target" scripts/build.sh tests

# Decisions on one thread, cold and warm, at 1,000 roles and 10,000 grants; then servers without and with them: the CPU time of loads in
# ROUNDS=12 turns, the first use of a token, and lists of 10,000 tables.
bench-security: build-release  ## Measure decisions of access control, and what they cost a server.
	"$(RELEASE)/security"
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" benches/security.py "$(RELEASE)/esker" $(ROUNDS)

# The catalog with SIZES="1000 100000 1000000" tables on DATABASES="sqlite postgres", and the plot of docs/state.md; takes an hour.
bench-scale: build-release  ## Measure the catalog with up to a million tables.
	python=$$($(UV) tests/engines/requirements.txt)
	"$$python" benches/scale.py "$(RELEASE)/scale" $(SIZES)

# cargo-deny is compiled once, into the cache. The database of advisories comes from the network.
audit:  ## Check dependencies against RustSec's advisories, licences and sources.
	cargo install --quiet --locked --root "$(ESKER_CACHE)/cargo-deny" cargo-deny@0.20.2
	"$(ESKER_CACHE)/cargo-deny/bin/cargo-deny" check

dist:  ## Build an optimised binary.
	cargo build --release -p esker

# Beside the binary of `make dist`. TARGET=aarch64-unknown-linux-gnu is another target, SOURCE_DATE_EPOCH dates it.
sbom:  ## Write the bill of materials of the binary, as CycloneDX.
	mkdir -p "$(RELEASE)"
	python3 scripts/sbom.py --target $(or $(TARGET),x86_64-unknown-linux-gnu) > "$(RELEASE)/esker.cdx.json"
	echo "$(RELEASE)/esker.cdx.json"

clean-cache:  ## Remove the cache under the user cache directory.
	rm -rf "$(ESKER_CACHE)"
