# Two commands for a newcomer: `make demo` and `make test`. Both set up what they need on a fresh Debian 12:
# as root also Debian's packages, otherwise only the virtual environment in .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: demo test test-quick bench bench-quick lint format units wheel clean help

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

demo: $(STAMP)   ## the main job on a real repository, by itself, in under a minute
	@$(RUN)/python scripts/demo.py

test: setup lint ## all tests, with coverage
	$(RUN)/coverage erase
	$(RUN)/python -m pytest --cov --cov-report=term:skip-covered

test-quick: $(STAMP)  ## the tests that need no systemd host
	$(RUN)/python -m pytest tests/unit tests/postgres -q

bench: $(STAMP)  ## the worker beside its peers and the limit: about 40 minutes, see benchmarks/README.md
	@$(RUN)/python -m benchmarks --output benchmarks/results

bench-quick: $(STAMP)  ## the same, small: under 3 minutes
	@$(RUN)/python -m benchmarks --quick --output build/bench-quick

lint: $(STAMP)   ## ruff and mypy --strict
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

format: $(STAMP) ## ruff format
	$(RUN)/ruff check --fix . ; $(RUN)/ruff format .

wheel: $(STAMP)  ## dist/*.whl
	$(RUN)/python -m build --wheel --outdir dist .

.PHONY: setup
setup: $(STAMP)  ## what the tests need beyond Python packages: Debian's, when root
	@scripts/setup debian

$(STAMP): pyproject.toml scripts/setup
	@PYTHON=$(PYTHON) scripts/setup venv $(VENV)
	@touch $(STAMP)

clean:           ## take the virtual environment and all caches away
	rm -rf $(VENV) dist build .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
