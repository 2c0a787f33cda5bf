.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.venv/run.stamp: requirements/runtime.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 …")'
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	$(PIP) install --require-hashes -r requirements/runtime.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

.venv/dev.stamp: .venv/run.stamp requirements/dev.txt
	$(PIP) install --require-hashes -r requirements/dev.txt
	touch $@

setup: .venv/dev.stamp ## Install everything that development needs, into .venv

run: .venv/run.stamp ## Run the main job on embedded defaults, beside upstreams that misbehave
	$(BIN)/fetchd demo --for 30s

test: setup ## Run the tests
	$(BIN)/pytest -n 4 --dist loadscope -m "not alone"
	$(BIN)/pytest -m alone
	@echo "Heavier: make test-systemd, test-image, test-packages, test-browser, test-crash, test-reload, soak; CONTRIBUTING.md"

test-systemd: setup ## Boot a real systemd in a container, try the units and follow the pages in it; as root (3 minutes)
	$(BIN)/python -m tests.systemd $(if $(SUITE),--suite $(SUITE))

test-crash: setup ## Kill the daemon 200 times at random instants, and a Run at each step; look for what is missing (14 minutes)
	FETCHD_KILLS=200 $(BIN)/pytest tests/process/test_crash.py tests/process/test_walks.py tests/process/test_steps.py

test-reload: setup ## Reload the daemon 500 times under load, every third time with findings (1 minute)
	FETCHD_RELOADS=500 $(BIN)/pytest tests/process/test_reload.py -k under_load

test-browser: setup ## Look at the page in a real browser; needs the Debian package chromium (1 minute)
	FETCHD_BROWSER=1 $(BIN)/pytest tests/browser

test-packages: setup ## Install the wheel with all that it needs from a package index, by pip and by pipx (2 minutes)
	FETCHD_INDEX=1 $(BIN)/pytest tests/packages/test_index.py

test-image: setup ## Build the image and run it, hardened, under a hostile upstream; as root, it names packages (3 minutes)
	$(BIN)/python -m tests.image $(if $(TWICE),--twice)

soak: setup ## Run the daemon among all misbehaviours, reload and kill it, follow its memory (6 minutes)
	$(BIN)/python -m benchmarks.soak --for 5m

check: setup ## Check format, lint, types and the directions of the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header

generate: setup ## Write anew what is made of the code: the JSON Schema, the manual page, the reference
	$(BIN)/fetchd schema > config.schema.json
	$(BIN)/python -m man.page > man/fetchd.1
	$(BIN)/python -m docs.generating

.venv/docs.stamp: .venv/run.stamp requirements/docs.txt
	$(PIP) install --require-hashes -r requirements/docs.txt
	touch $@

docs: .venv/docs.stamp ## Build the documents as a site, into build/docs, and follow every link in them
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: setup ## Lock the requirements anew, with hashes and without addresses
	$(COMPILE) pyproject.toml requirements/build.in -o requirements/runtime.txt
	$(COMPILE) pyproject.toml requirements/build.in requirements/dev.in --all-extras -o requirements/dev.txt
	$(COMPILE) requirements/docs.in --constraints requirements/dev.txt -o requirements/docs.txt

clean: ## Remove what setup and the tests made
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis build dist

.PHONY: help setup run test test-crash test-systemd test-reload test-browser test-packages test-image soak check generate docs lock clean
