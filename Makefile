# Everything a user or a developer runs; each target prints what it does.
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c docker/constraints.txt
PACKAGES := cloud_server edge_client shared_protocol
DEMO_OUT ?= demo_out
EVAL_OUT ?= eval_out
CLIENTS ?= .clients
SCALE ?= .scale
GPU_OUT ?= gpu_out

.PHONY: help install demo ui test test-clients test-scale quick check format lint types contracts unit bench bench-edge bench-sessions exactness exactness-arch fuzz soak eval eval-smoke eval-builtin gpu mutants clean

help:
	@echo "make demo     install, start a server, run all four tasks, write $(DEMO_OUT)/"
	@echo "make ui       install, start a server, and open the page of this device in the browser: PORT=8401"
	@echo "make test     everything CI runs: format, lint, types, import contracts, tests"
	@echo "make quick    the same without the slow tests: under three minutes on two cores"
	@echo "make test-clients  real clients of OpenAI's API against the gateway and the built-in server;"
	@echo "              environments of their own in $(CLIENTS)/; ONLY=openai3 runs one"
	@echo "make test-scale  the server under Ray Serve beside uvicorn: bytes, killed replicas, drain, ratios; an"
	@echo "              environment of its own in $(SCALE)/"
	@echo "make bench    time, energy, memory and bytes of every task and of the entropy coder (medians);"
	@echo "              FULL=1 adds a random model of Show-o's size (8 GB, an hour or more on a CPU)"
	@echo "make bench-edge  megabytes, first byte, memory and times of the edge in fresh environments"
	@echo "make bench-sessions  bytes of eight turns about one picture, counted by a proxy"
	@echo "make gpu      one report about a machine with a GPU, in ten minutes: exactness, decoding with and"
	@echo "              without CUDA graphs, training, entropy coding; in $(GPU_OUT)/; SMALL=1: toy sizes"
	@echo "make exactness-arch  the decoder on aarch64, armv7 and riscv64, and numpy on aarch64, emulated"
	@echo "              (needs root once: tests/architectures/install.sh); SEQUENCES=100"
	@echo "make exactness  every way to compute probabilities, 10,000 messages there and back: half an hour"
	@echo "make fuzz     coverage-guided fuzzing of every reader, random requests to a real server: MINUTES=10"
	@echo "make soak     a million messages through every coder, then good and bad clients of a server that"
	@echo "              is killed at times: MINUTES=10 of that, SERVER_FLAGS=, TOY=, BUILTIN= messages"
	@echo "make eval     the papers' tables over the wire: DATA=folder (cases or pictures), LIMIT=, STEPS=, QP=paper,"
	@echo "              CODECS=jpeg,vvc; hours. edge_client/evaluation/PAPERS.md says which table is which"
	@echo "make eval-smoke  the same for one sample of each kind, in minutes"
	@echo "make eval-builtin  what the built-in models can do, measured over the wire (hours; LIMIT=20 for a look);"
	@echo "              BEFORE=report.json prints an older report beside, SEED=3100 asks its cases"
	@echo "make mutants  300 small changes of the code by chance: does a test notice? MUTANTS=, SEED_OF_MUTANTS=; an hour"
	@echo "make format   rewrite the code in the project's format"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.cloud: $(BIN)/python pyproject.toml docker/constraints.txt
	@echo "installing into $(VENV) (torch is the large one)"
	$(PIP) -e ".[cloud]"
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml docker/constraints.txt
	@echo "installing with development tools into $(VENV)"
	$(PIP) -e ".[cloud,gateway,dev,bench]"
	@touch $@ $(VENV)/.cloud $(VENV)/.ui

install: $(VENV)/.cloud

demo: $(VENV)/.cloud
	$(BIN)/python -m edge_client.demo --spawn --out $(DEMO_OUT)

$(VENV)/.ui: $(VENV)/.cloud
	@echo "installing what the page needs into $(VENV)"
	$(PIP) -e ".[cloud,gateway]"
	@touch $@

ui: $(VENV)/.ui
	$(BIN)/edge-client ui --spawn --port $(or $(PORT),8401) $(UI_FLAGS)

test: contracts types unit

quick: contracts types
	$(BIN)/python -m pytest -m "not slow"

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
	$(BIN)/vulture

unit: $(VENV)/.dev
	$(BIN)/python -m pytest

test-clients: $(VENV)/.dev
	$(BIN)/python tests/clients/run.py $(CLIENTS) $(ONLY)

test-scale: $(VENV)/.dev
	$(BIN)/python tests/fleet/scale_run.py $(SCALE)

bench: $(VENV)/.cloud
	$(BIN)/python -m edge_client.evaluation.task_bench
	$(BIN)/python -m shared_protocol.selfcheck.coder_bench
	$(BIN)/python -m cloud_server.benchmarks.engine_bench $(if $(FULL),--full)

$(VENV)/.bench: $(VENV)/.cloud
	@echo "installing metrics, codecs and plots into $(VENV)"
	$(PIP) -e ".[cloud,bench]"
	@touch $@

eval: $(VENV)/.bench
	$(BIN)/edge-client evaluate all --spawn --out $(EVAL_OUT)/tables --timeout 600 \
		$(if $(DATA),--data $(DATA)) $(if $(LIMIT),--limit $(LIMIT)) $(if $(STEPS),--steps $(STEPS)) \
		$(if $(QP),--qp $(QP)) $(if $(CODECS),--codecs $(CODECS))

eval-smoke: $(VENV)/.bench
	$(BIN)/edge-client evaluate t2i inpaint outpaint vqa ablation text rate-control --spawn \
		--out $(EVAL_OUT)/smoke --limit 1 --steps 4 --keep-ratio 0.5 --timeout 600

gpu: $(VENV)/.cloud
	$(BIN)/python -m cloud_server.benchmarks.gpu_report --out $(GPU_OUT) $(if $(SMALL),--small)

exactness: $(VENV)/.bench
	$(BIN)/python -m shared_protocol.selfcheck.recorded_digests --battery --sequences 500
	$(BIN)/python -m shared_protocol.selfcheck.roundtrip --messages 10000 --weights tests/golden/entropy/tiny.safetensors --witness
	$(BIN)/python -m shared_protocol.selfcheck.roundtrip --messages 500 --witness

SEQUENCES ?= 100
exactness-arch: $(VENV)/.dev
	$(BIN)/python tests/architectures/replay.py --sequences $(SEQUENCES) \
		--numpy-sequences $(if $(filter 100,$(SEQUENCES)),50,$(SEQUENCES))

MINUTES ?= 10
$(VENV)/.fuzz: $(VENV)/.dev
	$(PIP) -e ".[cloud,dev,fuzz]"
	@touch $@

# What is found lies in fuzz_out/; three quarters of the time are the readers'.
fuzz: $(VENV)/.fuzz
	@failed=0; \
	$(BIN)/python tests/fuzz/run.py --minutes $(MINUTES) --share 0.75 || failed=1; \
	$(BIN)/python tests/fuzz/flips.py --minutes $(MINUTES) --share 0.1 || failed=1; \
	$(BIN)/python tests/fuzz/real_server.py --minutes $(MINUTES) --share 0.15 || failed=1; \
	exit $$failed

TOY ?= 1000000
BUILTIN ?= 10000
soak: $(VENV)/.dev
	$(BIN)/python tests/soak/coders.py --toy $(TOY) --builtin $(BUILTIN)
	$(BIN)/python tests/soak/service.py --minutes $(MINUTES) $(if $(SERVER_FLAGS),--server-flags "$(SERVER_FLAGS)")

bench-sessions: $(VENV)/.bench
	$(BIN)/python -m edge_client.evaluation.session_bench --turns

$(VENV)/.mutants: $(VENV)/.dev
	$(PIP) -e ".[mutants]"
	@touch $@

mutants: $(VENV)/.mutants
	$(BIN)/python tests/mutants/run.py --count $(or $(MUTANTS),300) --seed $(or $(SEED_OF_MUTANTS),1)

bench-edge: $(VENV)/.cloud
	$(BIN)/python -m edge_client.evaluation.edge_bench

# Cases of other seeds and records of other weights are never mixed: their folders bear the seed and
# the digest of all weights. Decisions have looked at SEED=3100, that of earlier results.
SEED ?= $(shell sed -n 's/^SEED = //p' cloud_server/training/benchmark/cases.py)
CASES = $(EVAL_OUT)/cases-$(SEED)
WEIGHTS = $(shell cat cloud_server/weights/builtin/* shared_protocol/weights/builtin/bundle.json | sha256sum | cut -c1-10)
RECORDS = $(EVAL_OUT)/records-$(SEED)-$(WEIGHTS)
EVAL_INPUTS = --data $(CASES) --records $(RECORDS)

$(CASES)/cases.jsonl:
	$(BIN)/cloud-server train cases --easy-vqa --seed $(SEED) --out $(CASES)

cloud_server/weights/judge/judge.safetensors:
	$(BIN)/cloud-server train judge --out $@

eval-builtin: $(VENV)/.dev $(CASES)/cases.jsonl cloud_server/weights/judge/judge.safetensors
	$(BIN)/python -m edge_client.evaluation.run_cases --data $(CASES) --out $(RECORDS) \
		$(if $(TASKS),--tasks $(TASKS)) $(if $(LIMIT),--limit $(LIMIT)) $(if $(STEPS),--steps $(STEPS))
	$(BIN)/cloud-server train report $(EVAL_INPUTS) $(if $(BEFORE),--before $(BEFORE)) $(if $(KODAK),--photographs $(KODAK)) \
		$(if $(TOKENS),--tokens $(TOKENS)) $(if $(PHOTO_TOKENS),--photo-tokens $(PHOTO_TOKENS))
	$(BIN)/cloud-server train failures $(EVAL_INPUTS)

clean:
	rm -rf $(VENV) $(DEMO_OUT) $(GPU_OUT) build dist *.egg-info
