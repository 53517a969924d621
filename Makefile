# Every command of the project. `make` alone lists them.
#
# Needs: Python 3.11 or later with venv, cargo and rustc, gcc (or another cc). `make lint` also wants
# clippy and rustfmt. All else comes from the lock files: Cargo.lock and requirements/*.txt.
#
# Two environments, so that a build with fault injection can never be what serves:
#   .venv      a release wheel, not editable, without test features: serve, demo, bench
#   .venv-dev  a debug build with `--features testing`, editable, and the tools: test, lint
# Files in .build/ remember what was done; a wheel is made again only when its sources changed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The first Python that is new enough; `make PYTHON=…` chooses another.
PYTHON ?= $(shell scripts/find-python)
BUILD := .build
BASE := .venv
DEV := .venv-dev
TOOLS := $(BUILD)/tools
DATA_DIR ?= ./penstock-data
# More of them: `make serve ARGS="--http 0.0.0.0:8000"`, `make test-python ARGS="-k tail"`.
ARGS ?=
# Crashes on the simulated disk; `make test-durability N=10000000` takes hours.
N ?= 100000
# Processes that run the Python tests side by side. More than cores are no help: servers, clients and
# readers are busy too.
JOBS ?= 2
# What `make fuzz` fuzzes: a name of `scripts/fuzz --list`, or all.
TARGET ?= request
# Iterations of the random tests; more by `make test PROPTEST_CASES=2000`.
export PROPTEST_CASES ?= 64
# A file's tests stay together, as they share servers; files go in their order, the long ones first.
PARALLEL := --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

# What maturin sets for the binding crate. Said here too, so that cargo on its own resolves the very
# same builds and nothing is compiled twice.
export PYO3_BUILD_EXTENSION_MODULE := 1
export CARGO_TERM_COLOR ?= auto
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PYTHONDONTWRITEBYTECODE := 1

PIP_INSTALL := -m pip install --quiet --require-hashes --no-deps
RUST_SOURCES := $(shell find rust_core -name fuzz -prune -o \( -name '*.rs' -o -name Cargo.toml \) -print) \
	Cargo.toml Cargo.lock
PYTHON_SOURCES := $(shell find python -name '*.py' -o -name '*.pyi' -o -name py.typed)

##@ Use
.PHONY: serve demo
serve: build-release ## build, then run the service on ./penstock-data (DATA_DIR=, ARGS=)
	@exec $(BASE)/bin/penstock serve --data-dir $(DATA_DIR) $(ARGS)

demo: build-release $(BUILD)/dev.stamp ## start it, send with a real SDK and by plain HTTP, query, stop
	@$(DEV)/bin/python scripts/demo.py --penstock $(BASE)/bin/penstock

##@ Build
.PHONY: setup build build-release
setup: $(BUILD)/base.stamp $(BUILD)/dev.stamp ## both environments from the lock files

build: $(BUILD)/develop.stamp ## debug build with test features into .venv-dev

build-release: $(BUILD)/wheel.stamp ## release wheel, no test features, into .venv

$(BUILD)/tools.stamp: requirements/build.txt | need
	@echo "tools: $(TOOLS)"
	@mkdir -p $(BUILD) && rm -rf $(TOOLS) && $(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python $(PIP_INSTALL) -r requirements/build.txt
	@touch $@

$(BUILD)/base.stamp: requirements/runtime.txt | need
	@echo "environment: $(BASE)"
	@mkdir -p $(BUILD) && rm -rf $(BASE) $(BUILD)/wheel.stamp && $(PYTHON) -m venv $(BASE)
	@$(BASE)/bin/python $(PIP_INSTALL) -r requirements/runtime.txt
	@touch $@

$(BUILD)/dev.stamp: requirements/dev.txt | need
	@echo "environment: $(DEV)"
	@mkdir -p $(BUILD) && rm -rf $(DEV) $(BUILD)/develop.stamp && $(PYTHON) -m venv $(DEV)
	@$(DEV)/bin/python $(PIP_INSTALL) -r requirements/dev.txt
	@touch $@

$(BUILD)/develop.stamp: $(BUILD)/tools.stamp $(BUILD)/dev.stamp $(RUST_SOURCES) pyproject.toml
	@VIRTUAL_ENV=$(CURDIR)/$(DEV) $(TOOLS)/bin/maturin develop --locked --features testing
	@touch $@

# One wheel at a time in the folder, so that the one installed is the one just built.
$(BUILD)/wheel.stamp: $(BUILD)/tools.stamp $(BUILD)/base.stamp $(RUST_SOURCES) $(PYTHON_SOURCES) pyproject.toml README.md
	@rm -rf $(BUILD)/wheels
	@$(TOOLS)/bin/maturin build --release --locked --interpreter $(BASE)/bin/python --out $(BUILD)/wheels
	@$(BASE)/bin/python -m pip install --quiet --no-index --no-deps --force-reinstall $(BUILD)/wheels/*.whl
	@touch $@

.PHONY: need need-lint
need: # What must be on the machine already; what is missing is said in one line.
	@scripts/need build
need-lint:
	@scripts/need lint

##@ Test
.PHONY: test test-rust test-python test-durability test-sdk conformance fuzz
test: test-rust test-python ## every test: Rust, Python, service, durability, real SDKs

test-rust: | need ## the crates' own tests
	@cargo test --locked --workspace --quiet

test-python: build ## unit, boundary, service, durability, SDK and tidy tests (ARGS=)
	@$(DEV)/bin/python -m pytest $(PARALLEL) $(ARGS)

test-durability: build ## crashes and recovery only (N= simulated ones, PENSTOCK_CRASH_ROUNDS= kills)
	@PENSTOCK_SIMULATION_CRASH_POINTS=$(N) cargo test --locked --quiet -p penstock-engine simulation
	@$(DEV)/bin/python -m pytest tests/durability $(PARALLEL) $(ARGS)

test-sdk: build ## real SDKs (those whose runtimes are here) and recorded requests of SDKs, only
	@$(DEV)/bin/python -m pytest tests/sdk $(PARALLEL) $(ARGS)

fuzz: | need ## one target (TARGET=, or all) for SECONDS=60; wants a C++ compiler
	@for target in $(if $(filter all,$(TARGET)),$$(scripts/fuzz --list),$(TARGET)); do \
		scripts/fuzz $$target $(or $(SECONDS),60); \
	done

conformance: build ## test-sdk, and what passed into README.md (wants Node.js, Go, Chromium)
	@$(DEV)/bin/python -m pytest tests/sdk --write-conformance
	@$(DEV)/bin/python scripts/readme_tables.py

##@ Check
.PHONY: check lint fmt
check: ## lint, then test, then bench-smoke: what CI runs
	@$(MAKE) lint
	@$(MAKE) test
	@$(MAKE) bench-smoke

lint: build | need-lint ## formatters' checks, ruff, mypy, stubtest, clippy, rustdoc, typos
	$(DEV)/bin/ruff check
	$(DEV)/bin/ruff format --check
	$(DEV)/bin/mypy
	$(DEV)/bin/python -m mypy.stubtest penstock._core
	$(DEV)/bin/typos
	cargo fmt --check
	cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --workspace --no-deps --document-private-items

fmt: $(BUILD)/dev.stamp | need-lint ## format everything
	$(DEV)/bin/ruff format
	$(DEV)/bin/ruff check --fix-only
	cargo fmt

##@ Measure
.PHONY: bench bench-smoke
bench: build-release build ## the real thing: micro, boundary and load benchmarks (minutes; a quiet machine)
	cargo bench --locked -p penstock-bench
	$(DEV)/bin/python -m pytest bench/python --benchmark-enable --benchmark-only
	$(DEV)/bin/python bench/run.py $(ARGS)

bench-smoke: build-release build ## each benchmark once, so that they don't rot
	cargo bench --locked --quiet -p penstock-bench -- --test
	$(DEV)/bin/python bench/run.py --smoke
	$(DEV)/bin/python -m pytest bench/python

##@ Remake
.PHONY: lock proto readme clean
lock: | need ## the lock files of Python, to the newest allowed versions
	@scripts/lock $(PYTHON)

proto: $(BUILD)/dev.stamp ## the generated code of the gRPC API
	@$(DEV)/bin/python scripts/make_proto.py

readme: build ## the tables of README.md that stand in the code
	@$(DEV)/bin/python scripts/readme_tables.py

clean: ## remove the environments and everything built (not your data)
	rm -rf $(BUILD) $(BASE) $(DEV) target python/penstock/*.so .mypy_cache .ruff_cache .pytest_cache .benchmarks

.PHONY: help
help: # Lists what has a `##` behind it.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
