# make demo: set up, then run the whole path on the built-in database. make test: set up, then run the fast tests.
# Everything is installed into .venv, once, and again when pyproject.toml or constraints.txt change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test test-all coverage lint hooks docs ui

help:
	@echo "make demo       set up and run the whole path on the built-in database"
	@echo "make test       set up and run the fast tests"
	@echo "make test-all   set up and run every test, the fast ones first"
	@echo "make coverage   set up, run the fast tests and say which lines they do not reach"
	@echo "make lint       set up, then ruff, mypy, import-linter and codespell"
	@echo "make hooks      set up, and have git run the same before every commit"
	@echo "make docs       set up and build docs/ into docs/_build, warnings as errors"
	@echo "make ui         open the demo's runs in MLflow on http://127.0.0.1:5000"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tfser needs Python 3.11 or newer, this is " \
	    + sys.version.split()[0] + "; name another with make PYTHON=python3.12")'
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/python -m tfser.sweep synthetic

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not full and not slow and not gpu and not latex'

test-all: $(STAMP)
	$(BIN)/python -m pytest -q

coverage: $(STAMP)
	$(BIN)/python -m pytest -q -m 'not full and not slow and not gpu and not latex' --cov --cov-report=term-missing

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache && $(BIN)/codespell

hooks: $(STAMP)
	$(BIN)/pre-commit install

docs: $(STAMP)
	$(BIN)/sphinx-build -qW --keep-going docs docs/_build

ui: $(STAMP)
	MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow server --workers 1 \
	    --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///$(CURDIR)/results/.tfser/mlflow.db
