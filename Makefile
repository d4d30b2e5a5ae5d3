# `make help` lists the targets. Everything installs into .venv with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACK ?= examples/portraits
DATA ?= data
LABELS ?= 5
SEEDS ?= 1
GENERATOR ?=
# Waiting torch threads must not spin: two test processes share the cores.
export OMP_WAIT_POLICY ?= PASSIVE

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Label Factory needs Python 3.11 or newer; set PYTHON=python3.11 (or newer)")'
	$(PYTHON) -m venv $(VENV)

# The stamps make a second `make demo` start at once; they age when the pins or the project file change.
$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[onnx]'
	@touch $@

$(VENV)/installed-dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/installed

install: $(VENV)/installed ## the service and the command line, into .venv

install-dev: $(VENV)/installed-dev ## the same with tests, checks and the test servers

demo: $(VENV)/installed ## the whole path on the example (PACK=DIR LABELS=5 SEEDS=1 STEPS=450 GENERATOR=DIR DATA=data)
	$(BIN)/label-factory demo --pack $(PACK) --data $(DATA) --labels $(LABELS) --seeds $(SEEDS) $(if $(STEPS),--student-steps $(STEPS)) $(if $(GENERATOR),--generator $(GENERATOR))

up: $(VENV)/installed ## the service on http://127.0.0.1:8000 until Ctrl-C (DATA=data GENERATORS=folder of generators)
	$(BIN)/label-factory up --data $(DATA) $(if $(GENERATORS),--generators $(GENERATORS))

check: $(VENV)/installed-dev ## ruff, strict types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed ## what labels, shards, training and masks cost (benchmarks/README.md)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.everything

load: $(VENV)/installed-dev ## how much one API process and four workers carry, and whether they grow (benchmarks/README.md)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.load

test: $(VENV)/installed-dev ## every test that is not marked slow or chaos
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow and not chaos"

test-slow: $(VENV)/installed-dev ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

sbom: $(VENV)/installed-dev ## what is installed, each package with version and licence, as CycloneDX (build/sbom.cdx.json)
	@mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o build/sbom.cdx.json $(BIN)/python

fuzz: $(VENV)/installed-dev ## schemathesis over the whole API with a key of each scope, FUZZ_SECONDS=300 each; `make test` gives it 40 s each
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),300) $(BIN)/python -m pytest -s tests/fuzz

chaos: $(VENV)/installed-dev ## kills, full disks, lost networks; ends with a table of what was survived (docs/chaos.md)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 tests/chaos

.PHONY: help install install-dev demo up check bench load test test-slow chaos sbom fuzz
