# Every target sets up what it needs. Only make and Python 3.12 or newer are required.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# The scanners have their own environment, because they need other library versions than the service.
TOOLS := .venv-security
# So has the generator of the Python client. The one of the TypeScript client is installed by npm.
CLIENTS := .venv-clients
TYPESCRIPT := build/clients/typescript
# So has the builder of the documentation site.
SITE := .venv-docs
# A lock file is complete: with --no-deps, pip installs exactly what it lists, and a newer release changes nothing.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps
# Plain pytest uses one process, so that a debugger works and a single file starts at once. The targets use two
# processes. Each file runs in one of them, so that module fixtures are created once.
PARALLEL := -n 2 --dist loadfile
# Hundreds of short processes start, so each module is compiled once, even where the environment forbids it.
test coverage thorough: export PYTHONDONTWRITEBYTECODE :=
# Their folders are in memory if there is a gigabyte for them: thousands of databases wait for the disk otherwise.
ROOMY := [ -w /dev/shm ] && [ "$$(df -Pk /dev/shm | awk 'END {print $$4}')" -gt 1000000 ] && echo /dev/shm
test coverage thorough: export PYTEST_DEBUG_TEMPROOT = $(shell $(ROOMY))
SIEGE := $(if $(SIEGE_SECONDS),--seconds $(SIEGE_SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(ATTACK),--attack $(ATTACK))

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

.PHONY: up
up: $(VENV)/.ready ## Run the whole service on this machine until Ctrl-C
	@$(BIN)/giro up

.PHONY: setup
setup: $(VENV)/.ready ## Set up what the service needs without starting it

.PHONY: demo
demo: $(VENV)/.ready ## Send several hundred transfers through a throwaway service, and verify the ledger
	@$(BIN)/giro demo

.PHONY: test
test: $(VENV)/.test-ready ## Run the quick tests with coverage
	@$(BIN)/pytest $(PARALLEL) --cov --cov-report=term:skip-covered

.PHONY: thorough
thorough: $(VENV)/.test-ready ## Play all examples of the quick tests that have many (two minutes)
	@THOROUGH=1 $(BIN)/pytest $(PARALLEL) -m "thorough or hypothesis" tests/unit tests/api

.PHONY: coverage
coverage: $(VENV)/.test-ready ## Run the quick tests, and write an HTML report of the covered lines to tests/coverage/html
	@$(BIN)/pytest $(PARALLEL) --cov --cov-report=term:skip-covered --cov-report=html

.PHONY: flows
flows: $(VENV)/.test-ready ## Start, use, stop and restart whole services, and single processes
	@$(BIN)/pytest $(PARALLEL) -m "whole_service or processes" tests/flows tests/unit tests/api tests/workers tests/tidy

.PHONY: contract
contract: $(VENV)/.test-ready ## Check a throwaway service against its OpenAPI document, as a customer and as an operator
	@$(BIN)/python -m tests.contract.service

.PHONY: fuzz
fuzz: $(VENV)/.test-ready ## Fuzz a throwaway service with hostile input (FUZZ_SECONDS=300 FUZZ_SEED=1)
	@$(BIN)/python -m tests.fuzz

.PHONY: faults
faults: $(VENV)/.test-ready ## Inject faults into whole services, and check the money (KILLS=1000 SEED=1: the long run)
ifdef KILLS
	@$(BIN)/python -m tests.faults.harness --kills $(KILLS) --seed $(or $(SEED),1) $(if $(ELLE),--elle $(ELLE))
else
	@$(BIN)/pytest $(PARALLEL) tests/faults
endif

.PHONY: faults-all
faults-all: $(VENV)/.test-ready ## Make each disk call of five operations fail in turn (OPERATION=settle CALL=sync STEP=10; needs cc)
	@$(BIN)/python -m tests.faults.every $(if $(OPERATION),--operation $(OPERATION)) $(if $(CALL),--call $(CALL)) \
	    $(if $(STEP),--step $(STEP))

.PHONY: power
power: $(VENV)/.test-ready ## Simulate power cuts at every sync of a recorded service (CUTS=5000 SEED=2: more; needs strace)
	@$(BIN)/python -m tests.faults.power $(if $(CUTS),--cuts $(CUTS)) $(if $(SEED),--seed $(SEED))

.PHONY: drill
drill: $(VENV)/.test-ready ## Break the ledger and come back; lose all data under load, restore it, count the missing transfers
	@$(BIN)/pytest -q tests/flows/test_breaches.py
	@$(BIN)/python -m tests.faults.drill

.PHONY: siege
siege: $(VENV)/.test-ready ## Attack a throwaway service beside a well-behaved customer (SIEGE_SECONDS=15 SEED=1 ATTACK=bulk)
	@$(BIN)/python -m tests.siege $(SIEGE)

.PHONY: siege-quick
siege-quick: $(VENV)/.test-ready ## Do the same with shorter attacks and smaller months (some minutes)
	@$(BIN)/python -m tests.siege --quick $(SIEGE)

.PHONY: simulate
simulate: $(VENV)/.test-ready ## Play thousands of random sequences against a small model (two minutes)
	@SIMULATE_SECONDS=$${SIMULATE_SECONDS:-120} $(BIN)/pytest -n 2 --dist load tests/simulation

.PHONY: mutants
mutants: $(VENV)/.test-ready ## Put known bugs into a copy of the code, and check that the tests catch each (some minutes)
	@$(BIN)/python -m tests.mutants

.PHONY: mutants-quick
mutants-quick: $(VENV)/.test-ready ## Do the same with ten bugs (one minute)
	@$(BIN)/python -m tests.mutants --quick

.PHONY: monitoring
monitoring: $(VENV)/.test-ready ## Check metrics, rules and dashboards with a real Prometheus (needs prometheus, promtool, amtool)
	@$(BIN)/pytest -n 2 --dist loadscope tests/monitoring

.PHONY: dashboards
dashboards: $(VENV)/.test-ready ## Write Grafana's dashboards from their tables
	@$(BIN)/python -m deploy.grafana.dashboards

.PHONY: reference
reference: $(VENV)/.test-ready ## Write docs/reference/settings.md and .env.example from the settings
	@$(BIN)/python -m core.settings.reference

.PHONY: docs
docs: $(SITE)/.ready $(VENV)/.ready ## Build the documentation site in build/docs
	@REDOC=$$($(BIN)/python -c 'import fastapi_offline as f; print(f.__path__[0])')/static/redoc.standalone.js \
	    NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(SITE)/bin/python -m mkdocs build --strict --config-file deploy/docs/mkdocs.yml
	@echo 'Built build/docs/index.html. With search: $(SITE)/bin/python -m http.server --bind 127.0.0.1 --directory build/docs 8088'

.PHONY: pictures
pictures: $(VENV)/.test-ready $(SITE)/.ready ## Make the pictures in docs/pictures from real runs (needs prometheus; three minutes)
	@$(BIN)/python -m tests.pictures

.PHONY: package-test
package-test: $(VENV)/.test-ready ## Build a wheel, install it into an empty environment, and run the demo from there
	@$(BIN)/pytest tests/packaging

.PHONY: openapi
openapi: $(VENV)/.test-ready ## Write docs/reference/openapi.json from the code
	@$(BIN)/python -m tests.contract.document

.PHONY: breaking
breaking: $(VENV)/.test-ready ## List API changes since a git revision that break clients (BASE=v1.0.0)
	@$(BIN)/python -m tests.contract.breaking $(BASE)

.PHONY: clients
clients: $(CLIENTS)/.ready $(TYPESCRIPT)/.ready ## Generate a Python and a TypeScript client into build/clients (needs Node.js)
	@rm -rf build/clients/python $(TYPESCRIPT)/dist $(TYPESCRIPT)/*.ts
	@mkdir -p build/clients/python
	@PATH="$(CURDIR)/$(CLIENTS)/bin:$$PATH" openapi-python-client generate --fail-on-warning \
	    --path docs/reference/openapi.json --meta none --output-path build/clients/python/giro_client
	@cp tests/clients/client.ts tests/clients/tsconfig.json $(TYPESCRIPT)
	@$(TYPESCRIPT)/node_modules/.bin/openapi-typescript docs/reference/openapi.json --output $(TYPESCRIPT)/schema.ts
	@cd $(TYPESCRIPT) && node_modules/.bin/tsc

.PHONY: clients-test
clients-test: $(VENV)/.test-ready clients ## Use both clients with a throwaway service
	@$(BIN)/pytest tests/clients

.PHONY: deploy-test
deploy-test: $(VENV)/.test-ready ## Run the service behind real proxies, and check the systemd unit (needs caddy, nginx, openssl)
	@$(BIN)/pytest tests/deploy

.PHONY: stack-test
stack-test: $(VENV)/.test-ready ## Start the containers, use them, kill each in turn, and check the money (needs Docker)
	@$(BIN)/pytest -v -rA tests/containers

.PHONY: bench
bench: $(VENV)/.bench-ready ## Compare Giro with its alternatives on this machine (needs wrk; some minutes)
	@$(BIN)/python -m tests.benchmarks.compare

.PHONY: bench-service
bench-service: $(VENV)/.test-ready ## Measure a throwaway service: start, latency, rate, memory
	@$(BIN)/python -m tests.benchmarks.service

.PHONY: bench-statements
bench-statements: $(VENV)/.test-ready ## Measure a month's statements, and how much they slow transfers
	@$(BIN)/python -m tests.benchmarks.statements

.PHONY: bench-metrics
bench-metrics: $(VENV)/.test-ready ## Measure what the metrics cost when transfers are accepted
	@$(BIN)/python -m tests.benchmarks.metrics

.PHONY: bench-throttles
bench-throttles: $(VENV)/.test-ready ## Measure what throttling costs when transfers are accepted
	@$(BIN)/python -m tests.benchmarks.throttles

.PHONY: bench-changes
bench-changes: $(VENV)/.test-ready ## Measure what all changes since a revision cost when transfers are accepted (BASE=04afee0)
	@$(BIN)/python -m tests.benchmarks.changes $(if $(BASE),--base $(BASE))

.PHONY: bench-ledgers
bench-ledgers: $(VENV)/.test-ready ## Measure what all changes since a revision cost in accepting, settling and verifying (BASE=7fc31e5)
	@$(BIN)/python -m tests.benchmarks.ledgers $(if $(BASE),--base $(BASE))

.PHONY: bench-following
bench-following: $(VENV)/.test-ready ## Measure what `giro backup --follow` costs when transfers are accepted
	@$(BIN)/python -m tests.benchmarks.following

.PHONY: bench-chain
bench-chain: $(VENV)/.test-ready ## Measure what the chain of blocks costs settlement, and how fast a ledger is verified
	@$(BIN)/python -m tests.benchmarks.chain

.PHONY: bench-migration
bench-migration: $(VENV)/.test-ready ## Measure the migration of five million transfers, also when it is killed (ten minutes, 10 GB)
	@$(BIN)/python -m tests.benchmarks.migration $(if $(TRANSFERS),--transfers $(TRANSFERS))

.PHONY: bench-scale
bench-scale: $(VENV)/.test-ready ## Measure with five million transfers, a backlog and long-running processes (needs wrk; twenty minutes)
	@$(BIN)/python -m tests.benchmarks.scale $(if $(TRANSFERS),--transfers $(TRANSFERS))

.PHONY: lint
lint: $(VENV)/.test-ready ## Check style, types, imports and the Dockerfile
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/hadolint Dockerfile

.PHONY: security
security: $(VENV)/.test-ready $(TOOLS)/.ready ## Scan the code with bandit and our own rules, and test the scanners
	@$(BIN)/python -m tests.security.scan
	@$(BIN)/pytest $(PARALLEL) tests/security

.PHONY: audit
audit: $(TOOLS)/.ready ## Look up known vulnerabilities of every locked package (needs the internet)
	@$(TOOLS)/bin/python -m tests.security.audit

.PHONY: sbom
sbom: $(VENV)/.ready $(TOOLS)/.ready ## Write a CycloneDX bill of materials to build/giro.cdx.json
	@$(TOOLS)/bin/python -m tests.security.sbom build/giro.cdx.json

.PHONY: format
format: $(VENV)/.test-ready ## Format the code, and fix what ruff can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: lock
lock: $(VENV)/.test-ready ## Compile the lock files again, for all platforms (needs uv and npm)
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
	    --python-version 3.12 --group build pyproject.toml --output-file requirements.lock
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
	    --python-version 3.12 --group test --constraints requirements.lock --output-file tests/requirements.lock
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
	    --python-version 3.12 --group bench --constraints requirements.lock --constraints tests/requirements.lock \
	    --output-file tests/benchmarks/requirements.lock
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
	    --python-version 3.12 --group security --output-file tests/security/requirements.lock
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
	    --python-version 3.12 --group clients --output-file tests/clients/requirements.lock
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
	    --python-version 3.12 --group docs --output-file deploy/docs/requirements.lock
	@cd tests/clients && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund

.PHONY: clean
clean: ## Remove all virtual environments, build/ and every cache; data/ stays
	@rm -rf $(VENV) $(TOOLS) $(CLIENTS) $(SITE) build .coverage tests/coverage .pytest_cache .mypy_cache .ruff_cache \
	    .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './data/*' -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@python=; for name in $(PYTHON) python3.12 python3 python python3.13 python3.14; do \
	    if $$name -c 'import sys; raise SystemExit(sys.version_info < (3, 12))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo 'Giro needs Python 3.12 or newer, as python3.12 or python3 on the PATH (see https://www.python.org/downloads/).' >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$($$python --version) ..."; \
	$$python -m venv --clear $(VENV) || { \
	    echo "$$python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(VENV)/.ready: requirements.lock pyproject.toml | $(VENV)/bin/python
	@$(PIP) -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test-ready: tests/requirements.lock $(VENV)/.ready
	@$(PIP) -r tests/requirements.lock
	@touch $@

$(VENV)/.bench-ready: tests/benchmarks/requirements.lock $(VENV)/.test-ready
	@$(PIP) -r tests/benchmarks/requirements.lock
	@touch $@

$(TOOLS)/.ready: tests/security/requirements.lock | $(VENV)/bin/python
	@$(BIN)/python -m venv --clear $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	    -r tests/security/requirements.lock
	@touch $@

$(CLIENTS)/.ready: tests/clients/requirements.lock | $(VENV)/bin/python
	@$(BIN)/python -m venv --clear $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	    -r tests/clients/requirements.lock
	@touch $@

$(TYPESCRIPT)/.ready: tests/clients/package.json tests/clients/package-lock.json
	@command -v npm >/dev/null || { echo 'The TypeScript client needs Node.js 20 or newer, with npm.' >&2; exit 1; }
	@mkdir -p $(TYPESCRIPT)
	@cp tests/clients/package.json tests/clients/package-lock.json $(TYPESCRIPT)
	@cd $(TYPESCRIPT) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(SITE)/.ready: deploy/docs/requirements.lock | $(VENV)/bin/python
	@$(BIN)/python -m venv --clear $(SITE)
	@$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	    -r deploy/docs/requirements.lock
	@touch $@
