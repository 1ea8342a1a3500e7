# Each target installs what it needs into .venv, once for each change of pyproject.toml or
# constraints.txt. The versions are those of constraints.txt, here and in CI.

PYTHON ?= python3
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint types doctest docs clean
.NOTPARALLEL:

help:
	@echo "make demo     complete a table with missing values and draw what was found"
	@echo "make test     the tests (PYTEST_ARGS='-k flow' chooses among them)"
	@echo "make lint     ruff, formatting, spelling"
	@echo "make types    mypy"
	@echo "make doctest  the examples in docstrings and in the user guide"
	@echo "make docs     the documentation, into docs/_build/html"
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
	MPLBACKEND=Agg $(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	rm -rf docs/_build docs/generated docs/auto_examples docs/sg_execution_times.rst
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$*]'
	touch $@
