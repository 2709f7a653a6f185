# `make demo` and `make test` do everything on a fresh machine: environment, installation, and then their job.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)

.PHONY: help demo test test-slow test-demo test-wheel test-matrix test-matrix-fast lint bench bench-gpu conversions tasks characters tiny tiny-bart ablation evidence litbank embeddings retrieval-memory clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,demo,serve,test,dev]'
	touch $@

demo: $(VENV)/installed ## Convert the small encoder that comes along, prove it, read long documents with it
	$(BIN)/hf-longformer demo

test: $(VENV)/installed ## Run the tests
	$(BIN)/python tests/fetch_transformers_tests.py --optional
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q

test-demo: $(VENV)/installed ## Run the README's demonstration, and look at what it says
	$(BIN)/python -m pytest -q -m slow tests/test_readme.py -k "make and demo"

test-wheel: $(VENV)/installed ## Build what would be published, and run the demo and the converter from the wheel
	$(BIN)/python tests/published.py

test-slow: $(VENV)/installed ## Run the slow tests too
	$(BIN)/python tests/fetch_transformers_tests.py --optional
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q -m 'slow or not slow'

test-matrix: $(VENV)/installed ## Run the core of the suite with the oldest and the newest releases (gigabytes)
	$(BIN)/python tests/matrix.py

test-matrix-fast: $(VENV)/installed ## The same with other releases of Transformers alone
	$(BIN)/python tests/matrix.py oldest-transformers newest-transformers

lint: $(VENV)/installed ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

BENCH = $(BIN)/hf-longformer bench --size base --output benchmarks/results/cpu.json $(ANEW)
DTYPES ?= float32,bfloat16
BOTH = --dtype $(DTYPES)
bench: $(VENV)/installed ## Measure against peers, some hours (DTYPES=float32: one and a half); goes on where it stopped
	$(BENCH) inference --lengths 128,256,512 --passes 9 $(BOTH)
	$(BENCH) inference --lengths 1024,2048,4096 $(BOTH)
	$(BENCH) inference --lengths 4096 --allocator keeps --peers hf-longformer,stock $(BOTH)
	$(BENCH) training --lengths 512,1024,2048,4096 --passes 2 --longest 60 $(BOTH)
	$(BENCH) causal --lengths 2048,8192 --passes 2 $(BOTH)
	$(BENCH) causal --size characters --lengths 2048,8192 $(BOTH)
	$(BENCH) padding --lengths 4096
	$(BENCH) operator --lengths 512,1024,2048,4096 $(BOTH)
	$(BENCH) operator --lengths 4096 --windows 64,128,256,1024 --peers hf-longformer,dense $(BOTH)
	$(BENCH) operator --lengths 4096 --dilations 2 --peers hf-longformer,dense $(BOTH)
	$(BENCH) operator --lengths 8192,16384 --peers hf-longformer,dense $(BOTH)
	$(BENCH) inference --lengths 16384 --passes 2 --peers hf-longformer,stock,chunks $(BOTH)
	$(BENCH) inference --lengths 4096 --windows 64,128,256,1024 --peers hf-longformer,stock
	$(BENCH) inference --lengths 4096 --dilations 2 --peers hf-longformer
	$(BENCH) memory --lengths 512,4096 $(BOTH)
	$(BENCH) memory --size small --lengths 512,2048 $(BOTH)
	$(BENCH) training --lengths 4096 --allocator returns --passes 1 --peers hf-longformer,checkpointing,stock $(BOTH)
	$(BENCH) inference --lengths 8192 --passes 2 $(BOTH)
	$(BIN)/python -m hf_longformer.benchmarks.report

BENCH_GPU = $(BIN)/hf-longformer bench --size base --device cuda --dtype bfloat16 --output benchmarks/results/gpu.json
bench-gpu: $(VENV)/installed ## The same on a GPU, some minutes
	$(BENCH_GPU) training --lengths 4096 --batch 1,2,16 --peers hf-longformer,compiled,graphs,modernbert,modernbert-flash,modernbert-flash-compiled $(ANEW)
	$(BENCH_GPU) training --lengths 4096 --batch 8 --peers hf-longformer,checkpointing,stock,roberta $(ANEW)
	$(BENCH_GPU) operator --lengths 4096,16384 --batch 8 --peers hf-longformer,dense $(ANEW)
	$(BENCH_GPU) inference --lengths 512,4096,8192 --batch 1,2,16 --peers hf-longformer,graphs,stock,roberta,modernbert,modernbert-flash $(ANEW)
	$(BENCH_GPU) causal --lengths 8192 --batch 4 $(ANEW)
	$(BENCH_GPU) padding --lengths 8192 --batch 8 $(ANEW)
	$(BIN)/python -m hf_longformer.benchmarks.report

conversions: $(VENV)/installed ## Convert every family; writes conversion/results.json and its tables
	$(BIN)/python tests/measure_conversions.py $(REAL)

tasks: $(VENV)/installed ## Fine-tune on real documents; writes finetune/results.json and its tables
	$(BIN)/python tests/measure_tasks.py $(TASKS)

characters: $(VENV)/installed ## Table 4 with a small model of characters; writes finetune/characters.json
	$(BIN)/python tests/measure_characters.py $(CHARACTERS)

tiny: $(VENV)/installed ## Train the small English RoBERTa, and measure table 5 with it
	$(BIN)/python tests/make_tiny.py $(TINY)

tiny-bart: $(VENV)/installed ## Train a small BART for 16,384 tokens, and ask it for names far away
	$(BIN)/python tests/make_tiny_bart.py $(TINY_BART)

ablation: $(VENV)/installed ## Table 10 with the small English models; writes finetune/ablation.json and its table
	$(BIN)/python tests/measure_ablation.py $(ABLATION)

evidence: $(VENV)/installed ## Time and memory of answers with evidence; writes finetune/evidence.json and its table
	$(BIN)/python tests/measure_evidence.py

litbank: $(VENV)/installed ## Coreference and entities in LitBank; writes finetune/litbank.json and its tables
	$(BIN)/python tests/measure_litbank.py $(LITBANK)

embeddings: $(VENV)/installed ## Train a sentence encoder without labels; writes finetune/embeddings.json and its table
	$(BIN)/python tests/measure_embeddings.py $(EMBEDDINGS)

retrieval-memory: $(VENV)/installed ## What a small model of characters gains from an index; writes the README's tables
	$(BIN)/python tests/measure_retrieval_memory.py $(RETRIEVAL_MEMORY)

clean: ## Remove what the other targets made
	rm -rf $(VENV) .cache build dist demo-output
