# `make run` starts everything, `make test` proves it. Nothing is needed but Python 3.11 or newer,
# pip and make; whatever else is used goes into .venv and .data.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PROCESSES ?= 2
TESTS ?=

.DEFAULT_GOAL := help
.PHONY: help run test test-all bench lint format lock clean

help: ## Say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

run: $(INSTALLED) ## Start web, worker and database; HOST, PORT and DATA_DIR may be set
	@exec $(BIN)/python manage.py dev

test: $(INSTALLED) ## Run the tests (TESTS=tests/billing for some of them)
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(TESTS)

test-all: $(INSTALLED) ## Run the tests with the full figures
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder -m "slow or not slow" $(TESTS)

bench: $(INSTALLED) ## Measure, as benchmarks/RESULTS.md reports it
	$(BIN)/python -m benchmarks

lint: $(INSTALLED) ## Check style, the direction of imports and that no migration is missing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/djade --check --target-version 5.2 $$(git ls-files '*.html')
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run

format: $(INSTALLED) ## Write code and templates as lint wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/djade --target-version 5.2 $$(git ls-files '*.html')

lock: $(INSTALLED) ## Pin every dependency with its hashes anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev pyproject.toml -o requirements-dev.txt

clean: ## Remove the environment and the caches; data stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .import_linter_cache staticfiles

# PYTHON, or the newest Python that is there and really runs (a pyenv shim may not).
# Debian's Python comes without ensurepip: there its own pip installs into the environment.
$(INSTALLED): requirements-dev.txt
	@set -e; \
	for python in $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3); do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "Python 3.11 or newer is needed and was not found$(if $(PYTHON), in $(PYTHON)); name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$($$found --version); this happens once."; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    $$found -m venv --clear $(VENV) >/dev/null 2>&1 || { \
	        $$found -m venv --clear --without-pip $(VENV); \
	        $$found -m pip --quiet --python $(BIN)/python install pip || { \
	            echo "$$found has no pip, which is needed to install the parts." >&2; exit 1; }; }; \
	fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt; \
	touch $@
