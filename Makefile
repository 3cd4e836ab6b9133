# `make` prints what there is. Needs Python 3.10+ with venv, and make; everything else is installed
# into .venv. A target installs again only when pyproject.toml has changed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PYTEST := $(PY) -m pytest
PIP := $(PY) -m pip --disable-pip-version-check --no-input

DEMO_READY := $(VENV)/.ready-demo
DEV_READY := $(VENV)/.ready-dev

# Tests see no cluster but their own, and no Ray at all where none is needed. They start hundreds of
# processes, which compile all modules again where nobody writes down what was compiled.
WITHOUT_RAY := env -u RAY_ADDRESS -u PYTHONDONTWRITEBYTECODE RAYSTREAM_TEST_NO_RAY=1
WITH_RAY := env -u RAY_ADDRESS -u PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check fmt lint types tidy unit pure sim cluster golden wheel bench clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help: ## Print this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(DEMO_READY) ## Install what the demo needs, run it on real departures, print its table
	@$(PY) jobs/flight_delays.py

test: lint types pure cluster wheel ## Install everything and run every test, with and without Ray

check: lint types tidy unit ## What to run before each commit: no Ray, under a minute

fmt: $(DEV_READY) ## Format, and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(DEV_READY) ## Check format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(DEV_READY) ## Check types
	$(BIN)/mypy

tidy: $(DEV_READY) ## Check layers, sizes, names
	$(WITHOUT_RAY) $(PYTEST) -q tests/tidy

unit: $(DEV_READY) ## The quick tests of behaviour: unit, property, conformance; without Ray
	$(WITHOUT_RAY) $(PYTEST) -q tests --ignore tests/tidy --ignore tests/golden -m "not cluster and not slow"

pure: $(DEV_READY) ## Every test that needs no Ray, with Ray not importable
	$(WITHOUT_RAY) $(PYTEST) -q -n auto --dist worksteal --durations 30 tests -m "not cluster"

sim: $(DEV_READY) ## Let whole jobs die in many ways (SEEDS=2000) and compare what is left
	$(WITHOUT_RAY) SEEDS=$(or $(SEEDS),200) $(PYTEST) -q tests/simulation

cluster: $(DEV_READY) ## The tests with real Ray actors
	$(WITH_RAY) $(PYTEST) -q --durations 20 tests -m cluster

golden: $(DEV_READY) ## Run every job of jobs/ against its recorded rows (UPDATE=1 records them anew)
	$(WITHOUT_RAY) RAYSTREAM_UPDATE_GOLDEN=$(UPDATE) $(PYTEST) -q tests/golden -m "not cluster"

wheel: $(DEV_READY) ## Build the wheel and try it outside of the checkout
	$(PY) tests/wheel_smoke.py

bench: $(DEV_READY) ## Measure (ARGS="..." goes to the benchmark); not a test
	$(WITH_RAY) RAY_worker_niceness=0 $(PY) tests/bench $(ARGS)

clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo 'raystream needs Python 3.10 or newer: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo 'cannot make $(VENV): install python3-venv (Debian, Ubuntu)' >&2; exit 1; }

# An environment for development has all that the demo needs.
$(DEMO_READY): pyproject.toml | $(PY)
	@[ $(DEV_READY) -nt pyproject.toml ] || { \
	  echo 'installing raystream into $(VENV): a minute or two, once' >&2; \
	  $(PIP) install --quiet --editable '.[demo]'; }
	@touch $@

$(DEV_READY): pyproject.toml | $(PY)
	@echo 'installing raystream and its tests into $(VENV): a minute or two, once' >&2
	@$(PIP) install --quiet --editable '.[dev]'
	@touch $@
