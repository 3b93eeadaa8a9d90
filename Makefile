# On a fresh Debian or Raspberry Pi OS machine: apt install git make python3-venv, then `make demo`.
# No root, no compiler: everything is installed from wheels into $(VENV).

PYTHON ?= python3
VENV   ?= .venv
OUT    ?= out/demo
# For cameras by picamera2 or GStreamer, which come from apt: make demo VENV_ARGS=--system-site-packages
VENV_ARGS ?=
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary

.DEFAULT_GOAL := help
.PHONY: help demo test test-unit test-long faults fleet lint bench check-wheels clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'
	@echo "  Variables: PYTHON=$(PYTHON) (3.10 or newer), VENV=$(VENV), OUT=$(OUT), ARGS= (for pytest, bench)"

demo: $(VENV)/.demo ## play the sample clip through model and broker; results in out/demo/
	@$(BIN)/edge-agent demo --out $(OUT)

test: $(VENV)/.dev ## run the tests that take less than a minute each
	$(BIN)/python -m pytest -m "not long" $(ARGS)

test-unit: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not long" tests/unit tests/contract $(ARGS)

test-long: $(VENV)/.dev ## run the tests that take longer
	$(BIN)/python -m pytest -m long --timeout 1800 $(ARGS)

faults: $(VENV)/.dev ## kill agent and broker in a storm of events, then watch memory: about nine minutes
	$(BIN)/python -m tests.faults storm --events 50000 --kills 100 --restarts 30 --restarts-by-kill 10
	$(BIN)/python -m tests.bench soak --minutes 3

fleet: $(VENV)/.dev ## boot three Debian hosts; roll out, break and roll back over SSH (root; what is missing is skipped)
	$(BIN)/python -m pytest -x -m long --timeout 1800 tests/fleet/test_lint.py tests/fleet/test_rollout.py $(ARGS)

lint: $(VENV)/.dev ## check style, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## measure speed, processor time, memory and start-up; ARGS="--model BUNDLE ..."
	$(BIN)/edge-agent bench $(ARGS)

check-wheels: $(VENV)/.dev ## ask the package index whether every dependency has wheels for every platform
	$(BIN)/python tests/check_wheels.py

clean: ## remove the environments, build outputs and out/
	rm -rf .venv .venv-* build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find agent calibration tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say what was installed, and from which pyproject.toml.
$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	@echo "Installing edge-agent into $(VENV) (about 100 MB to download, 500 MB on disk; a minute or two) ..."
	@$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.made
	@echo "Installing edge-agent and its test tools into $(VENV) (a minute or two) ..."
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) here; apt install python3-venv, or name another: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: Python 3.10 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1); name a newer one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) can't make virtual environments; apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV_ARGS) $(VENV)
	@touch $@
