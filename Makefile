# Everything a user or a developer runs; each target prints what it does.
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c docker/constraints.txt
PACKAGES := cloud_server edge_client shared_protocol
DEMO_OUT ?= demo_out

.PHONY: help install demo test check format lint types contracts unit bench clean

help:
	@echo "make demo     install, start a server, run all four tasks, write $(DEMO_OUT)/"
	@echo "make test     everything CI runs: format, lint, types, import contracts, tests"
	@echo "make bench    time, memory and bytes of every task (medians)"
	@echo "make format   rewrite the code in the project's format"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.cloud: $(BIN)/python pyproject.toml docker/constraints.txt
	@echo "installing into $(VENV) (torch is the large one)"
	$(PIP) -e ".[cloud]"
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml docker/constraints.txt
	@echo "installing with development tools into $(VENV)"
	$(PIP) -e ".[cloud,dev]"
	@touch $@ $(VENV)/.cloud

install: $(VENV)/.cloud

demo: $(VENV)/.cloud
	$(BIN)/python -m edge_client.demo --spawn --out $(DEMO_OUT)

test: contracts types unit

check: test

format: $(VENV)/.dev
	$(BIN)/ruff format $(PACKAGES) tests
	$(BIN)/ruff check --fix $(PACKAGES) tests

lint: $(VENV)/.dev
	$(BIN)/ruff format --check $(PACKAGES) tests
	$(BIN)/ruff check $(PACKAGES) tests

types: lint
	$(BIN)/mypy

contracts: lint
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/python -m pytest

bench: $(VENV)/.cloud
	$(BIN)/python -m edge_client.evaluation.bench

clean:
	rm -rf $(VENV) $(DEMO_OUT) build dist *.egg-info
