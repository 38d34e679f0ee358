# Every target but help makes .venv first; a second time that costs nothing.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHONS := $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11
UV := .venv/uv/bin/uv
RUNTIME := .venv/.runtime
DEV := .venv/.dev
UV_PIP := VIRTUAL_ENV=.venv $(UV) pip
# Where the system has a list of authorities, an operator may have added the proxy's to it; uv's own list lacks that.
CERTIFICATES := $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),--system-certs)
COMPILE := $(UV) pip compile $(CERTIFICATES) --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-config --quiet

# Modules are compiled once and kept: without that a start takes three times as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run test lint bench lock

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

setup: $(RUNTIME) ## make .venv with everything that ticketqc needs to run
	@:

run: $(RUNTIME) ## start ticketqc here; PORT=8080 and MODEL=none|local|<model id> choose, Ctrl-C stops
	@exec .venv/bin/ticketqc up
ifneq ($(PORT),)
run: export TICKETQC_PORT := $(PORT)
endif
ifneq ($(MODEL),)
run: export TICKETQC_WORKER_MODEL := $(MODEL)
endif
ifeq ($(MODEL),none)
run: export TICKETQC_STRONG_MODEL := none
endif

test: lint ## everything CI runs: format, lint, types, import rules, migrations, tests
	.venv/bin/pytest -q -n 2

lint: $(DEV) ## the part of test that runs no code
	.venv/bin/ruff format --check --quiet .
	.venv/bin/ruff check --quiet .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

bench: $(DEV) ## 62 tickets against the test double: time and cost
	.venv/bin/python -m bench.review

lock: $(DEV) ## write the locks again after a change of pyproject.toml
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock

# A Python that was upgraded away leaves a dangling link behind: begin again.
ifeq ($(shell test -x .venv/bin/python && echo there),)
.PHONY: $(UV)
endif

# The installer lives in a folder of its own: a sync takes away whatever is not in the lock.
$(UV): requirements-uv.lock
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo 'ticketqc needs Python 3.11 or newer, and there is no python3 of that version here' >&2; exit 1; fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "ticketqc needs Python's venv module: install it (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; fi; \
	"$$found" -m venv --clear .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --target .venv/uv --require-hashes -r requirements-uv.lock
	@touch $@

# Where the tools for development are installed already, they stay.
$(RUNTIME): $(UV) requirements.lock pyproject.toml
	@echo 'installing what ticketqc needs into .venv (the first time: about 190 MB to download)' >&2
	@$(UV_PIP) sync --quiet $(CERTIFICATES) --require-hashes $(if $(wildcard $(DEV)),requirements-dev.lock,requirements.lock)
	@$(UV_PIP) install --quiet --no-deps --offline -e .
	@touch $@

$(DEV): $(RUNTIME) requirements-dev.lock
	@echo 'installing the tools for tests and checks into .venv' >&2
	@$(UV_PIP) sync --quiet $(CERTIFICATES) --require-hashes requirements-dev.lock
	@$(UV_PIP) install --quiet --no-deps --offline -e .
	@touch $@
