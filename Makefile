# Every target sets up what it needs. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
SOURCES := layers/shared/backfill migrations local tests functions cli benchmarks

export PYTHONPATH := $(CURDIR):$(CURDIR)/layers/shared
export SAM_CLI_TELEMETRY := 0
# Behind a proxy with a certificate of its own, the system knows it and uv's built-in list does not.
export UV_SYSTEM_CERTS := 1
# Each of hundreds of processes would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: wheel data-dictionary query-examples demo up down env env-file architecture build deploy delete help setup lint format test check soak bench bench-rivals lock clean sbom audit

help: ## list the targets
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: .venv/.ready ## the development environment in .venv

.venv/.ready: requirements/dev.txt requirements/uv.txt local/find-python.sh
	@# Nothing on stdout: make env prints what a shell evaluates, also where it sets up first.
	@python=$$(sh local/find-python.sh); echo "environment: $$python" >&2; "$$python" -m venv --clear .venv >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.txt
	@printf '#!/bin/sh\nPYTHONPATH="%s:%s/layers/shared" exec "%s/.venv/bin/python" -m cli "$$@"\n' \
		"$(CURDIR)" "$(CURDIR)" "$(CURDIR)" > $(BIN)/backfill; chmod +x $(BIN)/backfill
	@touch $@

# The SAM CLI and the local AWS pin botocore, each its own: environments apart.
.venv-sam/.ready: requirements/sam.txt .venv/.ready
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-sam
	@VIRTUAL_ENV=.venv-sam $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/sam.txt
	@touch $@

.venv-aws/.ready: requirements/aws.txt .venv/.ready
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-aws
	@VIRTUAL_ENV=.venv-aws $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/aws.txt
	@touch $@

# What Lambda itself brings for Python, and nothing of ours: a package that the layer lacks is missed here.
.venv-lambda/.ready: requirements/lambda.txt .venv/.ready
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lambda
	@VIRTUAL_ENV=.venv-lambda $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/lambda.txt
	@touch $@

.venv-checks/.ready: requirements/checks.txt .venv/.ready
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-checks
	@VIRTUAL_ENV=.venv-checks $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/checks.txt
	@touch $@

demo: .venv/.ready .venv-sam/.ready .venv-aws/.ready ## the whole system on this machine: set-up, backfill, proof (REPO=, KEEP=1)
	@$(BIN)/python -m local.demo

up: .venv/.ready .venv-sam/.ready .venv-aws/.ready ## start the local stack and deploy the template to it (CONTAINERS=1: within reach of containers)
	@$(BIN)/python -m local.stack up $(if $(CONTAINERS),--containers)

down: .venv/.ready ## stop the local stack; its data stays in .local
	@$(BIN)/python -m local.stack down

env: .venv/.ready ## addresses of the running local stack, and the path to backfill, as shell exports
	@$(BIN)/python -m local.stack env

env-file: .venv/.ready ## write env.json, with which functions reach the running local stack
	@$(BIN)/python -m local.stack env-file

architecture: ## the instruction set of this machine, as the template calls it
	@case "$$(uname -m)" in arm64|aarch64) echo arm64;; *) echo x86_64;; esac

build: .venv/.ready .venv-sam/.ready ## build for Lambda, without Docker (ARCHITECTURE=arm64, or x86_64)
	LAYER_PLATFORM=$(if $(filter x86_64,$(ARCHITECTURE)),x86_64,aarch64)-manylinux2014 PATH="$(CURDIR)/$(BIN):$$PATH" LAYER_PYTHON="$$(sh local/find-python.sh 3.13 || true)" .venv-sam/bin/sam build

deploy: .venv/.ready .venv-sam/.ready ## build and deploy to AWS; asks for what is needed (PARAMETERS=parameters.toml)
	@$(BIN)/python -m cli.deploy $(if $(PARAMETERS),--file $(PARAMETERS))

delete: .venv/.ready .venv-sam/.ready ## delete the stack from AWS; the database stays (STACK_NAME=, CONFIRM=)
	@$(BIN)/python -m cli.delete $(if $(PARAMETERS),--file $(PARAMETERS))

invoke-%: .venv/.ready .venv-sam/.ready .venv-aws/.ready .venv-lambda/.ready ## run one function with an event: planner, chunk-worker, recovery, console, widget, migrator (EVENT=, ENV=)
	@$(BIN)/python -m local.invoke $* $(if $(EVENT),--event $(EVENT)) $(if $(ENV),--env-vars $(ENV))

lint: .venv/.ready .venv-checks/.ready ## ruff, mypy in strict mode, cfn-lint, checkov, squawk on the migrations
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy layers/shared/backfill migrations local tests cli benchmarks
	@for each in functions/*/app.py; do $(BIN)/mypy $$each; done
	$(BIN)/cfn-lint template.yaml monitoring.yaml
	.venv-checks/bin/checkov --config-file .checkov.yaml
	.venv-checks/bin/squawk migrations/versions/*.sql migrations/functions/*.sql

# What is shipped: the layer for all functions, and what the migrator has beside it.
SHIPPED := layers/shared/requirements.txt requirements/migrator.txt

sbom: .venv-checks/.ready ## software bill of materials of what is shipped, in CycloneDX, in sbom/
	@mkdir -p sbom
	@for file in $(SHIPPED); do name=$$(basename $$(dirname $$file))-$$(basename $$file .txt); \
		.venv-checks/bin/cyclonedx-py requirements --output-reproducible --outfile sbom/$$name.json $$file; \
		echo "sbom/$$name.json"; done

audit: .venv-checks/.ready ## known vulnerabilities of what is shipped; needs the internet
	@for file in $(SHIPPED); do .venv-checks/bin/pip-audit --strict --disable-pip --require-hashes -r $$file \
		|| { echo "audit: $$file has vulnerabilities, or the database cannot be reached: not audited" >&2; exit 1; }; done

format: .venv/.ready ## ruff's formatting and safe fixes
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

test: .venv/.ready .venv-sam/.ready .venv-aws/.ready .venv-lambda/.ready ## all tests, on a real Postgres
	@# Four files at a time on two cores: the end-to-end ones wait more than they compute.
	$(BIN)/python -m pytest -n 4 --durations 10

# The heart of integration: a chunk's life in SQL, what is stored, and a backfill from its beginning to its end.
HEART := tests/integration/test_store_chunks.py tests/integration/test_store_pull_requests.py \
	tests/integration/test_main_job.py::test_a_repository_is_added_and_completes_without_another_command

check: lint .venv-sam/.ready .venv-aws/.ready .venv-lambda/.ready ## lint, unit tests and the heart of integration, for every commit
	$(BIN)/python -m pytest -n 2 tests/unit $(HEART)

soak: .venv/.ready .venv-sam/.ready .venv-aws/.ready .venv-lambda/.ready ## the long tests that make test leaves out
	$(BIN)/python -m pytest -m soak --timeout 3600

bench: .venv/.ready .venv-sam/.ready .venv-aws/.ready .venv-lambda/.ready ## measure, beside rivals and targets (ONLY='subject …', JSON=file)
	POWERTOOLS_LOG_LEVEL=ERROR $(BIN)/python -m benchmarks $(ONLY) $(if $(JSON),--json $(JSON))

bench-rivals: .venv/.ready ## the same repository read by other tools, each in an environment of its own
	POWERTOOLS_LOG_LEVEL=ERROR $(BIN)/python -m benchmarks.rivals $(ONLY)

data-dictionary: .venv/.ready ## write docs/data.md and migrations/schema.sql from the migrated schema
	@$(BIN)/python -m local.data_dictionary

query-examples: .venv/.ready ## run the queries of the docs and write their output
	@POWERTOOLS_LOG_LEVEL=ERROR $(BIN)/python -m local.query_examples

lock: .venv/.ready ## resolve the lock files anew
	@for name in requirements/uv requirements/dev requirements/migrator requirements/sam requirements/aws requirements/lambda requirements/checks layers/shared/requirements; do \
		$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
			--custom-compile-command "make lock" $$name.in -o $$name.txt; done

wheel: .venv/.ready ## the command as a wheel, in dist/
	@$(BIN)/uv build --quiet --wheel --out-dir dist
	@ls dist/*.whl

clean: ## remove the environment and everything that is made
	rm -rf .venv .venv-sam .venv-aws .venv-lambda .venv-checks sbom dist .local .aws-sam
