# Two commands on a fresh Debian or Ubuntu machine:
#   make demo   environment, installation, the main job end to end; says where the results are
#   make test   everything that demo needs, R and its packages and Chromium too; then every test and check
# and
#   make docs   the site, vignettes executed: build/site/index.html
#   make linkcheck   whether the addresses in it answer (needs internet)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A bare torch would be the newest build, with gigabytes of CUDA.
TORCH ?= 2.13.0
SOURCES := pycombat_gam r_bridge tests benchmarks vignettes
SPHINX := $(BIN)/python -m sphinx -W --keep-going -n -E -a -q -d build/doctrees

.PHONY: demo test docs linkcheck environment test-environment docs-environment r chromium tests checks bench clean help

help:
	@grep -E '^#  ' Makefile

demo: environment
	$(BIN)/pycombat-gam demo --out demo-output --force

test: r chromium test-environment checks tests

environment: $(VENV)/installed
$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

test-environment: $(VENV)/installed-test
$(VENV)/installed-test: pyproject.toml | r $(VENV)/installed
	$(BIN)/python -m pip install --quiet 'torch==$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[test,r,flow,images]'
	touch $@

docs-environment: $(VENV)/installed-docs
$(VENV)/installed-docs: pyproject.toml | r $(VENV)/installed
	$(BIN)/python -m pip install --quiet 'torch==$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[docs,r,flow,images]'
	touch $@

r:
	.ci/install-r

chromium:
	.ci/install-chromium

checks: test-environment
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

# Each worker computes on one thread: threads of several workers would wait for each other.
tests: test-environment
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# Every page anew, so that no warning is forgotten; cells are executed anew where anything they may show has changed.
docs: r docs-environment
	rm -rf build/site
	$(SPHINX) vignettes build/site
	$(BIN)/python vignettes/check_links.py build/site README.md benchmarks/README.md
	@echo "The site: build/site/index.html"

linkcheck: r docs-environment
	$(SPHINX) -b linkcheck vignettes build/linkcheck

bench:
	benchmarks/bench.sh

clean:
	rm -rf $(VENV) .venv-bench* demo-output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/_artifacts
