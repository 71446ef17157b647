# What people run. Everything happens in a virtual environment of its own (.venv); nothing but
# `make install` puts anything outside it. PYTHON chooses the interpreter, VENV the place.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
SAMPLE ?= /tmp/jobkeep-sample
TEST_PROCESSES ?= $(shell expr 2 '*' $$(nproc))
INSTALLED := $(VENV)/.installed

# Where `make install` puts things, and the interpreter that runs them there.
export PREFIX ?= /usr/local
export DESTDIR ?=
export INSTALL_PYTHON ?= /usr/bin/python3

.DEFAULT_GOAL := help
.PHONY: help run sample test test-system lint soak fuzz fmt bench bench-full install uninstall clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

$(BIN)/pip:
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/pip
	@echo 'Installing into $(VENV), once'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -m compileall -q protocol client daemon  # as pip does what it copies
	@touch $@

run: $(INSTALLED) ## start a daemon and run a real job through it
	@$(BIN)/python examples/demo.py

sample: $(INSTALLED) ## fill a database with some 3,000 real executions, and serve it: SAMPLE=DIRECTORY
	@$(BIN)/python -m examples.sample $(SAMPLE)

# A test waits for processes and disks half of its time, hence more processes than processors. Those
# of one file stay together, since they share what they need; and the order is that of the files,
# because the longest tests are in the middle of it.
test: lint ## everything that decides whether a change may land
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --maxprocesses 8 \
		--dist loadfile --no-loadscope-reorder

test-system: $(INSTALLED) ## boot a real systemd in a container, as root, and try the service in it
	$(BIN)/python -m pytest -m system

soak: $(INSTALLED) ## the long versions of the tests of faults: about half an hour
	$(BIN)/python -m pytest -m soak

fuzz: $(INSTALLED) ## look for bytes that break something: five minutes, or FUZZ_SECONDS=…
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet \
		--disable-pip-version-check --only-binary atheris --editable '.[fuzz]' || true
	@$(BIN)/python -m tests.fuzz

lint: $(INSTALLED) ## formatting, style, types and the arrows between packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(INSTALLED) ## format the code and sort its imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## measure, side by side, in one run: under two minutes
	$(BIN)/python -m bench

bench-full: $(INSTALLED) ## measure everything, an hour of load included: an hour and a half
	$(BIN)/python -m bench full

install: export PIP := $(BIN)/pip
install: $(BIN)/pip ## install for all users, as root: PREFIX=/usr/local, DESTDIR=, INSTALL_PYTHON=
	@install/install.sh install

uninstall: ## remove what `make install` has put there
	@install/install.sh uninstall

clean: ## remove what the commands above have made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .fuzz .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
