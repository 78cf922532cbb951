# Every target sets up first; a stamp makes the second time quick.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench lock format clean

# Any Python from 3.11 on makes the private uv; the same one makes .venv.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
NEEDS_PYTHON = "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "tidegate: $(or $(PYTHON),python3) is not Python 3.11 or newer; install one (or run: make PYTHON=/path/to/python3.11)" >&2; exit 2; }
UV ?= $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
BIN := .venv/bin
STAMP := .venv/.tidegate-setup
# Compiled kernels are kept between processes and runs.
export NUMBA_CACHE_DIR ?= $(CURDIR)/.numba_cache

help:
	@echo "make setup   .venv with both distributions and the tidegate command"
	@echo "make demo    the main job on an embedded broker, about 90 s"
	@echo "make test    the whole test suite (real Kafka too where Java 17+ and Maven are present)"
	@echo "make check   what CI runs: format, lint, types, import contracts, tests, wheels"
	@echo "make bench   the figures of docs/benchmarks.md"
	@echo "make lock    resolve requirements-lock.txt anew"

setup: $(STAMP)

.uv/bin/uv:
	@$(NEEDS_PYTHON)
	@echo "uv is not installed: putting it into .uv"
	@"$(PYTHON)" -m venv .uv || { echo "tidegate: $(PYTHON) can't make a virtual environment; install its venv module (Debian: apt-get install python3-venv)" >&2; exit 2; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'

$(STAMP): requirements-lock.txt pyproject.toml schemas/pyproject.toml | $(filter .uv/bin/uv,$(UV))
	@$(NEEDS_PYTHON)
	@test -x $(BIN)/python && $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| "$(UV)" venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" .venv
	@"$(UV)" pip sync --quiet --python $(BIN)/python --require-hashes requirements-lock.txt
	@"$(UV)" pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation \
		--editable ./schemas --editable .
	@touch $@

demo: $(STAMP)
	@$(BIN)/tidegate demo

# Three processes on two cores: most of the time tests wait for brokers. Files stay whole, they share what they start.
PYTEST = $(BIN)/python -m pytest -n 3 --dist loadfile

test: $(STAMP)
	$(PYTEST)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)
	$(BIN)/python tests/check_wheels.py

bench: $(STAMP)
	$(BIN)/python -m tests.bench.run $(BENCH)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Both distributions, the otel extra and the dev group; hashes and no download addresses. The
# second file is what the container image installs: the same versions, without the dev group.
COMPILE = "$(UV)" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --no-annotate \
	--no-emit-package tidegate-client --no-emit-package tidegate

lock: | $(filter .uv/bin/uv,$(UV))
	$(COMPILE) --upgrade pyproject.toml schemas/pyproject.toml --all-extras --group dev \
		--output-file requirements-lock.txt
	$(COMPILE) --constraint requirements-lock.txt pyproject.toml \
		--output-file docs/compose/requirements-runtime.txt
	@$(MAKE) setup

clean:
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .numba_cache dist
