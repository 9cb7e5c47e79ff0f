# Everything a contributor or a user needs. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .tools/uv/bin/uv
BIN := .venv/bin
ARGS ?=
# tests side by side, each worker on control planes of its own (tests/conftest.py); 0: one by one
WORKERS ?= auto
export UV_NO_PROGRESS := 1
export UV_PROJECT_ENVIRONMENT := .venv
# no configuration of the machine's own may change what is installed
export UV_NO_CONFIG := 1

SOURCES := $(shell find src deploy/crds controlplane examples -type f -o -type l 2>/dev/null) pyproject.toml README.md
WHEEL := .cache/wheel/.built

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(UV):
	@echo "installing uv $(UV_VERSION)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "$(PYTHON): not found or too old: Python 3.11 or newer is needed;" \
	    "set PYTHON=/path/to/python3" >&2; exit 1; }
	@rm -rf .tools/uv && $(PYTHON) -m venv .tools/uv && \
	  .tools/uv/bin/python -m pip install --quiet --disable-pip-version-check \
	    --require-hashes --no-deps -r requirements/uv.txt

.venv/.synced: $(UV) requirements/dev.txt
	@echo "syncing .venv from requirements/dev.txt"
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	@rm -f $(WHEEL)
	@touch $@

# The tests run on the built wheel, never on the source tree: hashed dependencies first, then the
# wheel without dependencies.
$(WHEEL): .venv/.synced requirements/build.txt $(SOURCES)
	@echo "building and installing the wheel"
	@rm -rf .cache/wheel && mkdir -p .cache/wheel
	@$(UV) build --quiet --wheel --python $(BIN)/python --require-hashes \
	  --build-constraints requirements/build.txt --out-dir .cache/wheel
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --reinstall .cache/wheel/*.whl
	@touch $@

.PHONY: install
install: $(WHEEL) ## Create .venv with the locked dependencies and the built wheel

.PHONY: binaries
binaries: install ## Fetch or build etcd, kube-apiserver, kube-controller-manager, kubectl
	@$(BIN)/dpucluster binaries >/dev/null

.PHONY: kamaji
kamaji: install ## Fetch or build also Kamaji and what it runs, for `up --with-kamaji` and its tests
	@$(BIN)/dpucluster binaries --with-kamaji >/dev/null

.PHONY: demo
demo: binaries ## A real control plane, the guide's static flow, a live table (ARGS="--tour")
	@$(BIN)/dpucluster demo $(ARGS)

.PHONY: test
test: kamaji ## All tests of everyday use, on real control planes and the real Kamaji
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  $(ARGS)

.PHONY: soak
soak: kamaji ## The long tests: 50 kills, chaos by the minute, properties by the thousand
	@$(BIN)/python -m pytest tests --timeout 3600 --hypothesis-profile soak \
	  -m "soak or hypothesis" $(ARGS)

.PHONY: e2e
e2e: install ## Real nodes with containers, the real Kamaji and keepalived (as root)
	@$(BIN)/python -m pytest tests/e2e --timeout 300 -m e2e $(ARGS)

.PHONY: bench
bench: binaries ## Time, writes, CPU and memory of 1,000 clusters against a bare client
	@$(BIN)/python -m tests.bench $(ARGS)

.PHONY: check
check: install ## Format, lint, types, layers, size budgets
	@$(BIN)/ruff format --quiet --check src tests tools
	@$(BIN)/ruff check --quiet src tests tools
	@$(BIN)/mypy
	@said=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$said" >&2; exit 1; }
	@$(BIN)/python tools/budgets.py

.PHONY: format
format: .venv/.synced ## Format and mend what the linter can
	@$(BIN)/ruff format src tests tools
	@$(BIN)/ruff check --fix src tests tools

.PHONY: lock
lock: $(UV) ## Resolve the dependencies again into requirements/
	@$(UV) pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 \
	  --no-emit-index-url --no-header pyproject.toml -o requirements/run.txt
	@$(UV) pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 \
	  --no-emit-index-url --no-header --group dev pyproject.toml -o requirements/dev.txt
	@$(UV) pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 \
	  --no-emit-index-url --no-header requirements/build.in -o requirements/build.txt
	@$(UV) pip compile --quiet --generate-hashes --universal --python-version 3.11 \
	  --no-emit-index-url --no-header requirements/uv.in -o requirements/uv.txt

.PHONY: clean
clean: ## Remove what make made here (the binaries' cache in the home directory stays)
	@rm -rf .venv .tools .cache dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
