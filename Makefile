# Two commands set up everything on a machine that has Python >= 3.11 and make:
#   make demo   the whole method on the embedded default: drives -> pretraining -> PPO -> judging, with films
#   make test   the tests (fast ones; `make test-all` adds the slow ones)
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python; do \
  if command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
  then echo $$p; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_OUT ?= runs/demo
# Test processes: one per core, at most four (each wants 2 to 3 GiB).
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$n -gt 4 ] && echo 4 || echo $$n)

.PHONY: demo test test-all lint bench clean

demo: $(VENV)/.installed
	$(BIN)/python -m experiments.demo --out=$(DEMO_OUT)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist=worksteal --durations=20 -m "not slow"

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist=worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-dev
	$(BIN)/python -m experiments.bench

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo 'No Python >= 3.11 found; install one or pass PYTHON=/path/to/python3.11'; exit 1; }
	$(PYTHON) -m venv $(VENV)

# --no-compile: what is imported is compiled then; all of it would take 40 s more
$(VENV)/.installed: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile -c requirements.lock -e '.[data]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile -c requirements.lock -e '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache *.egg-info
