# `make demo` and `make test` do everything on a fresh machine: environment, installation, and then their job.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)

.PHONY: help demo test test-slow lint bench conversions tasks clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,demo,test,dev]'
	touch $@

demo: $(VENV)/installed ## Convert a real encoder, prove it, read a long document with it
	$(BIN)/hf-longformer demo

test: $(VENV)/installed ## Run the tests
	$(BIN)/python tests/fetch_transformers_tests.py --optional
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -q

test-slow: $(VENV)/installed ## Run the slow tests too
	$(BIN)/python tests/fetch_transformers_tests.py --optional
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -q -m 'slow or not slow'

lint: $(VENV)/installed ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed ## Measure against peers; writes benchmarks/results
	$(BIN)/python -m hf_longformer.benchmarks.encoder

conversions: $(VENV)/installed ## Convert every family; writes conversion/results.json and its tables
	$(BIN)/python tests/measure_conversions.py $(REAL)

tasks: $(VENV)/installed ## Fine-tune on real documents; writes finetune/results.json and its tables
	$(BIN)/python tests/measure_tasks.py $(TASKS)

clean: ## Remove what the other targets made
	rm -rf $(VENV) .cache build dist demo-output
