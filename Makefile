# Everything is done from here; `make` alone says what there is.
#
# The environment lives in .venv, or in .venv-3.12 for `PYTHON=python3.12 make test`.
# The core is one abi3 file in the source tree, which every Python from 3.11 on shares.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ifdef PYTHON
VENV := .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
else
PYTHON := $(or $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done),python3)
VENV := .venv
endif
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
NATIVE := streamserve/core/_native.abi3.so

CORE_C := $(filter-out %/_native.c,$(wildcard streamserve/core/*.c streamserve/core/*/*.c))
CORE := $(CORE_C) $(wildcard streamserve/core/*/*.h)
C_FORMATTED := $(CORE) $(wildcard fuzz/*.[ch] bench/*.[ch] .ci/*.c)
C_STRICT := -Istreamserve/core -std=gnu11 -Wall -Wextra -Wshadow -Wconversion -Werror

APP ?= examples.chat.app:sio
BIND ?= 127.0.0.1:8000
ARGS ?=

.PHONY: help
help: ## list these commands
	@echo "Two do it all: 'make serve' and 'make test'. The others:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---- set-up -------------------------------------------------------------------

.PHONY: machine
machine:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"streamserve needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ". Say PYTHON=python3.11 make ...")'
	@$(PYTHON) -c 'import os, sys, sysconfig; header = sysconfig.get_path("include") + "/Python.h"; \
		sys.exit(not os.path.exists(header) and header + " is missing: install the headers of Python (Debian: python3-dev)")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make environments: install its venv module (Debian: python3-venv)" >&2; exit 1; }
	@command -v gcc >/dev/null || { echo "gcc is missing (Debian: gcc libc6-dev)" >&2; exit 1; }

$(INSTALLED): pyproject.toml setup.py
	@$(MAKE) machine
	@echo "Setting up $(VENV) for $$($(PYTHON) --version): about a minute, the first time only."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(NATIVE): $(CORE) streamserve/core/build.py | $(INSTALLED)
	@echo "Building the core."
	@$(BIN)/python streamserve/core/build.py
	@touch $@

.PHONY: ready
ready: $(INSTALLED) $(NATIVE)

# ---- the two commands of the README ---------------------------------------------

.PHONY: serve
serve: ready ## build, and serve the chat on http://127.0.0.1:8000 (APP=module:app BIND=host:port)
	@echo "Serving $(APP). Open http://$(BIND) in a browser; Ctrl-C stops it."
	@exec $(BIN)/streamserve $(APP) --bind $(BIND) $(ARGS)

.PHONY: test
test: ready ## build, and run the tests (ARGS='-k name' chooses)
	@$(BIN)/python -m pytest $(ARGS)

SOCKET_IO_CLIENT := 4.8.3

.PHONY: client
client: ## fetch socket.io-client from npm: the chat then needs no network
	@mkdir -p build/client
	@cd build/client && archive=$$(npm pack --silent socket.io-client@$(SOCKET_IO_CLIENT)) && \
		tar --extract --strip-components=2 --file "$$archive" package/dist/socket.io.min.js && rm "$$archive"
	@echo "build/client/socket.io.min.js is there: the chat takes it instead of the CDN's."

# ---- checks ---------------------------------------------------------------------

.PHONY: check
check: lint types layers fuzz-replay test ## all that must pass before a commit lands

.PHONY: lint
lint: $(INSTALLED) ## style and warnings, Python and C
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "Not formatted: run 'make fmt'." >&2; exit 1; }
	@$(BIN)/clang-format --dry-run -Werror $(C_FORMATTED)
	@gcc -fsyntax-only $(C_STRICT) $(CORE_C) $(wildcard .ci/*.c)
	@echo "lint: clean"

.PHONY: fmt
fmt: $(INSTALLED) ## format Python and C
	@$(BIN)/ruff check --quiet --fix-only --exit-zero
	@$(BIN)/ruff format --quiet
	@$(BIN)/clang-format -i $(C_FORMATTED)

.PHONY: types
types: $(INSTALLED) ## mypy --strict
	@$(BIN)/mypy streamserve

.PHONY: layers
layers: $(INSTALLED)
	@$(BIN)/lint-imports --no-logo

.PHONY: fuzz-replay
fuzz-replay:
	@$(MAKE) -C fuzz replay

.PHONY: fuzz
fuzz: ## fuzz the parsers of the core until Ctrl-C
	@$(MAKE) -C fuzz

.PHONY: test-stdlib
test-stdlib: ready ## CPython's own tests of sockets, threads and queues, patched (ARGS=--recheck: the disabled ones)
	@$(BIN)/python -m tests.stdlib $(ARGS)

.PHONY: asan
asan: $(INSTALLED) ## the tests of the core, built with ASan and UBSan, in a copy of the tree
	@.ci/asan "$(abspath $(BIN))/python" $(ARGS)

# ---- measurements and releases --------------------------------------------------

.PHONY: bench
bench: ready ## CPU per request beside other servers (ARGS=... goes to python -m bench)
	@$(BIN)/python -m bench $(or $(ARGS),wsgi)

.PHONY: wheel
wheel: $(INSTALLED) ## dist/: the sdist, and the wheel built from it
	@rm -rf dist
	@$(BIN)/python -m build --quiet

.PHONY: docker-replay
docker-replay: ## the Dockerfile's steps in a clean root; needs root and debootstrap
	@$(PYTHON) -m tests.docker.replay

.PHONY: clean
clean: ## remove what was built; environments stay
	@rm -rf build dist *.egg-info $(NATIVE) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
