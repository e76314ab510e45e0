# Thin: each target is one command that can be typed by hand. `make` lists them.

STACK ?= local
# Any Python from 3.11 on makes the environment; `make PYTHON=...` names one.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
UV_LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header \
	--no-emit-index-url --upgrade
JOINT := .atoll/joint.txt
# Most tests wait for processes most of the time; a file's tests share what they have started.
TWO_AT_ONCE := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help up down check test test-fast setup venv lock docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

up: venv ## bring up a stack, train its model, ask it a question (STACK=local)
	@$(BIN)/atoll up --stack $(STACK)

down: venv ## destroy a stack and prove that nothing is left (STACK=local)
	@$(BIN)/atoll down --stack $(STACK)

check: venv ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: venv ## all tests
	$(BIN)/pytest $(TWO_AT_ONCE)

test-fast: venv ## the tests that take seconds
	$(BIN)/pytest $(TWO_AT_ONCE) -m "not slow"

setup: venv ## .venv from the locks, and the engine; costs nothing when they are there
	@$(BIN)/python -m infra.engine

venv:
	@test -n "$(PYTHON)" || { echo "set-up: found no Python 3.11 or later; install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) infra/engine/set_up.py

# One resolution of everything first, so that the two locks agree wherever they meet.
lock: venv ## resolve all dependencies anew and pin them with hashes
	$(UV_LOCK) --no-annotate pyproject.toml --extra aws --group dev runtime/requirements.in -o $(JOINT)
	$(UV_LOCK) --generate-hashes pyproject.toml --extra aws --group dev -c $(JOINT) -o requirements.lock
	$(UV_LOCK) --generate-hashes runtime/requirements.in -c $(JOINT) -o runtime/requirements.lock
	$(UV_LOCK) --generate-hashes infra/engine/build/go.in -o infra/engine/build/go.lock

docs: venv ## the generated reference pages
	$(BIN)/python -m infra.plan.schema
	$(BIN)/python -m infra.cli.reference
	$(BIN)/python -m tests.benchmarks.page

clean: ## remove caches; .venv, stacks and their state stay
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
