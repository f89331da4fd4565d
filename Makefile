# One command each on a fresh machine: `make demo`, `make test`, `make check`, `make bench`, `make prove`.
PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= .venv-bench
WORKERS ?= auto
TESTS ?= tests
PYTEST_ARGS ?=
PROVE_ARGS ?=
BENCH_ARGS ?=
GPU_ARGS ?=

BIN := $(VENV)/bin
# Constraints always: a torch newer than the pinned one brings gigabytes of other packages.
INSTALL := -m pip install --quiet --disable-pip-version-check -c constraints.txt
# What the reference's video processors need, where only tests/oracle.py sees it: this build fails on plain import.
ORACLE = -m pip install --quiet --disable-pip-version-check --no-deps --upgrade torchvision==0.28.0 --target
# One thread per test process, and no test may reach for the network.
QUIET := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

.PHONY: demo test check format bench bench-gpu prove checkpoints clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo    see small models answer about clips and stills, offline"
	@echo "make test    run the tests (TESTS=tests/cli PYTEST_ARGS='-x -k show' to narrow)"
	@echo "make check   ruff, the type checker, and the import-direction test"
	@echo "make format  let ruff format and fix"
	@echo "make bench   measure against the newest transformers, in an environment of its own (build/bench.json, .png)"
	@echo "make bench-gpu  measure what a GPU does: graphs, prefill, vision, beside transformers"
	@echo "make checkpoints  train the checkpoints inside the package anew (4 hours of one core; goes on where it stopped)"
	@echo "make prove   measure the checkpoints inside the package on data that no training has seen (build/proof.md)"

demo: $(VENV)/.base
	@$(QUIET) $(BIN)/python -m examples.demo

test: $(VENV)/.test
	$(QUIET) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS) $(TESTS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(QUIET) $(BIN)/python -m pytest -q tests/test_imports.py

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# BENCH_ARGS='--only decode --rounds 3' for some of the rows, '--tiny' to see that all of it runs.
bench: $(BENCH_VENV)/.bench
	@mkdir -p build
	$(QUIET) $(BENCH_VENV)/bin/onlooker bench --out build/bench.json --plot build/bench.png $(BENCH_ARGS)

# On a machine with a CUDA GPU, in the same environment; GPU_ARGS='--depth 8' for a small one, '--dry' without one.
bench-gpu: $(BENCH_VENV)/.bench
	$(BENCH_VENV)/bin/python benchmarks/bench_gpu.py $(GPU_ARGS)

# RUNS='tower clip' for some of the runs, MINUTES=45 to stop after so long; the same command goes on from there.
checkpoints: $(VENV)/.recipes
	$(QUIET) $(BIN)/python -m recipes.make $(if $(RUNS),--only $(RUNS)) $(if $(MINUTES),--minutes $(MINUTES))
	$(if $(RUNS),,$(QUIET) $(BIN)/python -m recipes.pack)
	$(if $(RUNS),,$(QUIET) $(BIN)/python -m recipes.curves)

# PROVE_ARGS='--checks qa,captions --scale 0.1' for a quick look at some of it.
prove: $(VENV)/.test
	$(QUIET) $(BIN)/python -m recipes.evaluate $(PROVE_ARGS)

clean:
	rm -rf $(VENV) $(BENCH_VENV) .mypy_cache .pytest_cache .ruff_cache dist build

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(INSTALL) -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(INSTALL) -e '.[test]'
	-$(BIN)/python $(ORACLE) $(VENV)/oracle
	@touch $@ $(VENV)/.base

$(VENV)/.recipes: $(VENV)/.test
	$(BIN)/python $(INSTALL) 'matplotlib>=3.8'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(INSTALL) -e '.[dev]'
	-$(BIN)/python $(ORACLE) $(VENV)/oracle
	@touch $@ $(VENV)/.base $(VENV)/.test

# The newest transformers: the test pins do not hold here, only torch's does.
$(BENCH_VENV)/.bench: pyproject.toml constraints.txt
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	grep '^torch==' constraints.txt > $(BENCH_VENV)/constraints.txt
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c $(BENCH_VENV)/constraints.txt -e '.[bench]'
	-$(BENCH_VENV)/bin/python $(ORACLE) $(BENCH_VENV)/oracle
	@touch $@
