# Each target installs what it needs into .venv, once for each change of pyproject.toml or
# constraints.txt. The versions are those of constraints.txt, here and in CI.

PYTHON ?= python3
PYTEST_ARGS ?=
# a folder with the CSV files of benchmarks/README.md; without it they come from the network
BENCHMARK_DATA ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint types doctest docs benchmarks benchmarks-quick clean
.NOTPARALLEL:

help:
	@echo "make demo     complete a table with missing values and draw what was found"
	@echo "make test     the tests (PYTEST_ARGS='-k flow' chooses among them)"
	@echo "make lint     ruff, formatting, spelling"
	@echo "make types    mypy"
	@echo "make doctest  the examples in docstrings and in the user guide"
	@echo "make docs     the documentation, into docs/_build/html"
	@echo "make benchmarks-quick  the benchmarks on few rows, in minutes"
	@echo "make benchmarks        the tables of README and documentation, in many hours"
	@echo "make clean    remove what the others made"

demo: $(VENV)/.installed-plot
	MPLBACKEND=Agg $(BIN)/python examples/demo.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

# mypy reads the libraries that the tests need
types: $(VENV)/.installed-test $(VENV)/.installed-lint
	$(BIN)/mypy

doctest: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --doctest-modules \
		sklearn_qavi docs/*.rst docs/user_guide/*.rst

docs: $(VENV)/.installed-docs
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

RESULTS := benchmarks/results
DATA := $(if $(BENCHMARK_DATA),--data-dir $(BENCHMARK_DATA))

# every script that makes a table of README or the documentation goes on where it was stopped
benchmarks: $(VENV)/.installed-benchmarks
	$(BIN)/python benchmarks/panel.py --half both --protocols unseen --seeds 0 --methods qavi knn \
		bayesian_ridge_draws miceforest extra_trees --out $(RESULTS)/panel.jsonl \
		--markdown $(RESULTS)/panel.md
	$(BIN)/python benchmarks/panel.py --half scored --protocols unseen --seeds 0 1 2 \
		--methods qavi knn bayesian_ridge_draws miceforest gcimpute mice_pmm \
		--out $(RESULTS)/panel.jsonl
	$(BIN)/python benchmarks/panel.py --half scored --protocols in_sample mar --seeds 0 \
		--methods qavi knn bayesian_ridge_draws miceforest --out $(RESULTS)/panel.jsonl
	$(BIN)/python benchmarks/peers.py $(DATA) --out $(RESULTS)/peers.jsonl
	for posterior in gaussian mixture flow; do for resampling in False True; do \
		$(BIN)/python benchmarks/peers.py $(DATA) --tables concrete --seeds 0 --methods qavi \
		--qavi-param posterior=$$posterior --qavi-param importance_resampling=$$resampling \
		--out $(RESULTS)/peers.jsonl || exit 1; done; done
	$(BIN)/python benchmarks/table1.py $(DATA) --test-rows 120 --out $(RESULTS)/table1.jsonl
	$(BIN)/python benchmarks/speed.py --parts grow --out $(RESULTS)/speed.jsonl
	$(BIN)/python benchmarks/image_scores.py --parts digits --out $(RESULTS)/image_scores.jsonl

# the same scripts on tables that come with scikit-learn, in three minutes of one idle core; few of
# these numbers mean anything
benchmarks-quick: $(VENV)/.installed-benchmarks
	mkdir -p $(RESULTS)/quick
	$(BIN)/python benchmarks/panel.py --tables wine --protocols unseen --seeds 0 \
		--methods qavi knn --out $(RESULTS)/quick/panel.jsonl
	$(BIN)/python benchmarks/peers.py --tables breast_cancer --seeds 0 --quick \
		--methods qavi mean knn bayesian_ridge --out $(RESULTS)/quick/peers.jsonl
	$(BIN)/python benchmarks/table1.py --tables breast_cancer --seeds 0 --quick \
		--out $(RESULTS)/quick/table1.jsonl
	$(BIN)/python benchmarks/speed.py --parts grow --max-steps 50 --grow-rows 1000 \
		--grow-columns 5 --grow-components 1 --out $(RESULTS)/quick/speed.jsonl
	$(BIN)/python benchmarks/image_scores.py --parts normals --distances 1 \
		--out $(RESULTS)/quick/image_scores.jsonl

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	rm -rf benchmarks/results/quick
	rm -rf docs/_build docs/generated docs/auto_examples docs/sg_execution_times.rst
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$*]'
	touch $@
