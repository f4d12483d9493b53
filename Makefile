# Every target sets up what it needs. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
SOURCES := layers/shared/backfill migrations local tests functions

.PHONY: help setup lint format test lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: .venv/.ready ## the development environment in .venv

.venv/.ready: requirements/dev.txt requirements/uv.txt local/find-python.sh
	@python=$$(sh local/find-python.sh); echo "environment: $$python"; "$$python" -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

lint: .venv/.ready ## ruff, and mypy in strict mode
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy $(SOURCES)

format: .venv/.ready ## ruff's formatting and safe fixes
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

test: .venv/.ready ## all tests, on a real Postgres
	$(BIN)/python -m pytest

lock: .venv/.ready ## resolve the lock files anew
	@for name in requirements/uv requirements/dev requirements/migrator layers/shared/requirements; do \
		$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
			--custom-compile-command "make lock" $$name.in -o $$name.txt; done

clean: ## remove the environment and everything that is made
	rm -rf .venv .local .aws-sam
