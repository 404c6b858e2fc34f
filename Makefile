# `make run` and `make test` are all that a fresh machine needs: Python 3.11 or newer, make, and a package index.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" pyproject.toml
# Three at a time on two cores: they wait as much as they work. With PostgreSQL beside them, two.
PROCESSES := -m processes -n 3 --dist loadfile --no-loadscope-reorder --durations 25 --durations-min 5
# Several API processes want PostgreSQL, so that is where they are tried.
SEVERAL := tests/controlplane/test_two_processes.py tests/controlplane/test_relay.py
# Drains and money on PostgreSQL; the rest of the process tests would only be repeated.
STORED := $(SEVERAL) $(addprefix tests/controlplane/, test_cloud_processes.py test_conflicts.py test_crashes.py \
	test_races.py) tests/processes/test_drain.py tests/processes/test_engine_killed.py
UNIT := -m "not browser and not processes" -n 3

# What a deployment would set, for the checks that look at one.
DEPLOYED := env -u EMBEDDED -u DEBUG -u DATABASE_URL -u CONTROLPLANE_DATABASE_URL DATA_DIR=$(VENV)/check \
	ALLOWED_HOSTS=portal.example SECRET_KEY=for-the-checks-only-0123456789-abcdefghijklmnopqrstuvwxyz \
	VAULT_KEYS=k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=

# Set in some containers; every process would then compile all of Django again at its start.
unexport PYTHONDONTWRITEBYTECODE

.NOTPARALLEL:
export SECONDS SEED
.PHONY: help run test test-sqlite test-postgres test-processes test-processes-postgres test-beside test-nemesis test-browser check nemesis bench lock screenshots clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 32

run: $(VENV)/run.stamp ## start everything on this machine; Ctrl-C stops it
	@$(BIN)/python manage.py up

test: test-sqlite test-beside ## run all tests

# What waits more than it works runs two at a time; the first one's output comes at its end, in one piece.
BESIDE = $(MAKE) $(1) > $(VENV)/$(1).log 2>&1 & first=$$!; trap "kill $$first" INT TERM; \
	$(MAKE) $(2); rest=$$?; wait $$first; code=$$?; cat $(VENV)/$(1).log; exit $$((code ? code : rest))
test-beside: $(VENV)/test.stamp $(VENV)/sdk.stamp
	@$(call BESIDE,test-browser,test-processes)
	@$(call BESIDE,test-nemesis,test-postgres test-processes-postgres)

test-sqlite: $(VENV)/test.stamp ## the tests in one process, on SQLite
	$(BIN)/python -m pytest $(UNIT)

test-postgres: $(VENV)/test.stamp ## the same on PostgreSQL
	$(BIN)/python -m tests.postgres $(BIN)/python -m pytest $(UNIT)

test-processes: $(VENV)/test.stamp $(VENV)/sdk.stamp ## the tests with real servers, workers and engines, on SQLite
	$(BIN)/python -m pytest $(PROCESSES) $(addprefix --ignore , $(SEVERAL))

test-processes-postgres: $(VENV)/test.stamp ## drains, money and several API processes on PostgreSQL
	$(BIN)/python -m tests.postgres $(BIN)/python -m pytest $(PROCESSES) -n 2 $(STORED)

test-browser: $(VENV)/test.stamp ## the tests in Chromium
	@$(BIN)/python -m tests.browser.chromium
	$(BIN)/python -m pytest -m browser

check: $(VENV)/test.stamp $(VENV)/runtime.stamp ## format, lint, types, migrations, deployment, bill of materials, known vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@mkdir -p $(VENV)/check
	$(DEPLOYED) $(BIN)/mypy portal engines & types=$$!; ( set -ex; \
	$(DEPLOYED) $(BIN)/python manage.py makemigrations --check --dry-run; \
	$(DEPLOYED) $(BIN)/python manage.py check --deploy --fail-level WARNING; \
	$(DEPLOYED) $(VENV)/runtime/bin/python -m tests.runtime; \
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-file $(VENV)/sbom.cdx.json $(VENV)/runtime; \
	$(BIN)/python -m tests.vulnerabilities $(VENV)/runtime ); rest=$$?; wait $$types && exit $$rest

lock: $(VENV)/test.stamp ## write what pyproject.toml asks for, and what that needs, with hashes; UPGRADE=1 takes newer ones
	$(LOCK) $(if $(UPGRADE),--upgrade) --output-file requirements.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) --group test --constraints requirements.txt --output-file tests/requirements.txt

nemesis: $(VENV)/test.stamp ## random people while everything dies, for 20 minutes; SECONDS=180 SEED=7 choose another run
	DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python -m tests.nemesis

test-nemesis: $(VENV)/test.stamp ## the same for three minutes
	SECONDS=$${SECONDS:-180} DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python -m tests.nemesis

bench: $(VENV)/test.stamp ## ratios against peers in the same run; ONLY=B1,B12 runs some
	$(BIN)/python -m tests.benchmarks

screenshots: $(VENV)/test.stamp ## every page of a running `make run`, two sizes, light and dark, into var/screenshots
	$(BIN)/python -m tests.screenshots

clean: ## remove what was installed and cached; the data in var stays
	rm -rf $(VENV) tests/sdk/node_modules .mypy_cache .ruff_cache .pytest_cache test-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and there is none on the PATH."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python's venv module is missing. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Making $(VENV)…"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements.txt | $(BIN)/python
	@echo "Installing requirements.txt…"
	@$(PIP) -r requirements.txt
	@touch $@

# Without the test tools: what they bring along must not hide a hole in requirements.txt.
$(VENV)/runtime.stamp: requirements.txt | $(BIN)/python
	@$(PYTHON) -m venv $(VENV)/runtime
	@$(VENV)/runtime/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(VENV)/test.stamp: tests/requirements.txt $(VENV)/run.stamp
	@echo "Installing tests/requirements.txt…"
	@$(PIP) -r tests/requirements.txt
	@touch $@

$(VENV)/sdk.stamp: tests/sdk/package.json tests/sdk/package-lock.json tests/sdk/node.py | $(BIN)/python
	@echo "Installing the official JavaScript SDK…"
	@$(BIN)/python -m tests.sdk.node
	@touch $@
