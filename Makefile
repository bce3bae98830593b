# Every target does its own set-up. `make help` lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup run test fuzz test-heavy faults soak lint gen bench docs lock baseline system clean

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
DATA ?= ./data
ARGS ?=
MINUTES ?= 2
SEED ?=

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed ## make .venv with the locked packages, and install what the system lacks
	@.ci/system-packages run

run: setup ## start everything; the ready line names the page
	$(BIN)/portway up --data $(DATA) $(ARGS)

test: $(VENV)/.installed ## set up and run the tests
	@.ci/system-packages run test
	.ci/tests $(BIN)/pytest $(ARGS)

fuzz: $(VENV)/.installed ## send nonsense to every method of every server; MINUTES=n, SEED=n
	@.ci/system-packages run test
	PORTWAY_FUZZ_SECONDS=$$(( $(MINUTES) * 60 )) PORTWAY_FUZZ_SEED=$(or $(SEED),$$(date +%s)) \
		$(BIN)/pytest -n auto --timeout $$(( $(MINUTES) * 60 + 300 )) $(ARGS) tests/fuzz

test-heavy: $(VENV)/.installed ## the tests that need a real peer or minutes of time
	@.ci/system-packages run test heavy
	.ci/tests $(BIN)/pytest -m heavy $(ARGS)

faults: setup ## MINUTES (10) of random kills under load, then every invariant is checked; SEED=n, DATABASE=postgresql
	@.ci/system-packages run test
	$(PY) -m tests.faults.storm --minutes $(or $(MINUTES),10) --database $(or $(DATABASE),sqlite) $(if $(SEED),--seed $(SEED)) $(ARGS)

soak: setup ## overload at five times capacity, then MINUTES (60) of steady load, then look for what grew
	$(PY) -m tests.faults.soak --minutes $(or $(MINUTES),60) $(ARGS)

lint: $(VENV)/.installed ## linters, types, import directions, the contract and its generated code
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf breaking --against protos/baseline.binpb
	$(PY) protos/plugins/generate.py --check

gen: $(VENV)/.installed ## generate gen/ from protos/, and the schema of new databases from the migrations
	$(PY) protos/plugins/generate.py
	$(PY) -m portway.server.storage_engine.migrations.snapshot

bench: setup ## measure, each row with its floor
	$(PY) -m bench $(ARGS)

docs: $(VENV)/.installed ## write docs/status.md from the contract and the servers
	$(PY) docs/status.py > docs/status.md.new && mv docs/status.md.new docs/status.md

lock: $(PY) ## pin every package with its hashes in requirements.lock
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet -o requirements.lock

baseline: $(VENV)/.installed ## protect the contract as it is now against breaking changes
	$(BIN)/buf build --exclude-source-info -o protos/baseline.binpb

clean: ## remove the environment and what tools leave
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(PY):
	.ci/make-venv $(VENV)

# `uv pip install` adds and changes but never removes; after a package left the lock, `make clean setup` starts anew.
$(VENV)/.installed: requirements.lock pyproject.toml | $(PY)
	.ci/install-locked $(VENV)
	touch $@
