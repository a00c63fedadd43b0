# A newcomer needs two commands: `make demo` and `make test`. Both set up a fresh Debian 12: the virtual environment in
# .venv, and as root also Debian's packages.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: demo test coverage test-quick test-long mutants bench bench-quick dashboard pages host lint format units wheel deb lock clean help

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

demo: $(STAMP)   ## the main job on a real repository, in under a minute
	@$(RUN)/python scripts/demo.py

# Four processes share the tests, a file each: most tests wait for others most of the time. See tests/conftest.py.
SHARED := --numprocesses=4 --dist=loadfile --no-loadscope-reorder --durations=15

test: setup lint ## all tests
	$(RUN)/python -m pytest $(SHARED)

coverage: setup  ## the same with coverage of every process, which takes longer
	$(RUN)/coverage erase
	$(RUN)/python -m pytest $(SHARED) --cov --cov-report=term:skip-covered

SEED := $(or $(SEED),$(shell shuf --input-range=1-999999999 --head-count=1))
test-long: setup ## the long tests: alerts, incidents, torture, mutants (2.5 hours); with new random examples, or those of SEED=123
	@scripts/setup long
	@echo "the random examples are those of make test-long SEED=$(SEED)"
	SEED=$(SEED) $(RUN)/python -m pytest -m 'long or loop or torture or drawn or hypothesis' --hypothesis-seed=$(SEED)
	@echo "the random examples were those of make test-long SEED=$(SEED)"
	@echo "what the operator saw of each incident, and how long it took: build/incidents.md"
	@$(MAKE) mutants

mutants: setup   ## change one thing of the product after the other, and see that a test finds it; RESUME=1 goes on
	@PYTHONPATH=tests $(RUN)/python -m mutants $(if $(RESUME),--resume)

test-quick: $(STAMP)  ## the tests that need no systemd host
	$(RUN)/python -m pytest tests/unit tests/postgres -q

bench: $(STAMP)  ## measure the worker beside its peers (40 minutes, see benchmarks/README.md)
	@$(RUN)/python -m benchmarks --output benchmarks/results

bench-quick: $(STAMP)  ## the same, small: under 3 minutes
	@$(RUN)/python -m benchmarks --quick --output build/bench-quick

dashboard: $(STAMP)  ## write runbooks/dashboard.json from scripts/dashboard_panels.py; PICTURE=1: its picture, too (5 minutes)
	@$(RUN)/python scripts/dashboard.py
ifdef PICTURE
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check --group picture
	@PYTHONPATH=.:tests:tests/systemd:tests/runbooks $(RUN)/python tests/runbooks/dashboard_picture.py
endif

pages: dashboard ## write all pages that are made from the code: of docs/, man/, debian/worker.env
	@$(RUN)/python scripts/settings_pages.py
	@$(RUN)/python scripts/command_pages.py
	@$(RUN)/python scripts/man_pages.py
	@PYTHONPATH=tests:tests/systemd $(RUN)/python tests/made_pages.py

host: setup      ## a booted systemd host with the worker on it, and a shell in it (root)
	@$(RUN)/python tests/systemd/host_shell.py

lint: $(STAMP)   ## ruff and mypy --strict
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

format: $(STAMP) ## ruff format
	$(RUN)/ruff check --fix . ; $(RUN)/ruff format .

wheel: $(STAMP)  ## dist/*.whl
	$(RUN)/python -m build --wheel --outdir dist .

deb:             ## dist/*.deb, for the Debian that it is built on
	@scripts/setup packaging
	@mkdir -p dist && scripts/deb dist

lock:            ## debian/requirements.txt: what the Debian package brings from PyPI
	scripts/lock

.PHONY: setup
setup: $(STAMP)  ## install what the tests need, as root Debian's packages, too
	@scripts/setup debian

$(STAMP): pyproject.toml scripts/setup
	@PYTHON=$(PYTHON) scripts/setup venv $(VENV)
	@touch $(STAMP)

clean:           ## remove the virtual environment and all caches
	rm -rf $(VENV) dist build .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
