# The verbs of this project. `make install` is called by the others; running it again is cheap.
PYTHON ?= $(shell python3 tools/interpreter.py)
VENV   := .venv
PORT   ?= $(or $(AIP_HTTP_PORT),8080)
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install run test test-long check fix model bench bench-quick clean

help: ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## one virtual environment, .venv, with every extra

$(STAMP): setup.cfg pyproject.toml
	@python=$(PYTHON) && $$python tools/preflight.py && echo "installing into $(VENV) with $$python (a minute the first time)" && \
	  { $(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $$python -m venv --clear $(VENV); }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[local,images,tools,train,test,bench]'
	@touch $@

run: install ## Triton and the listener on PORT (8080); REPOSITORY=DIR or gs://BUCKET/PREFIX for other models
	@LISTENER_REPOSITORY="$${REPOSITORY:-$$LISTENER_REPOSITORY}" AIP_HTTP_PORT=$(PORT) LISTENER_HOST=127.0.0.1 LISTENER_TRITON_LOG_LEVEL=$${LISTENER_TRITON_LOG_LEVEL:-warning} exec $(VENV)/bin/listener up

test: install ## every test, those against the real Triton included
	@$(VENV)/bin/python -m pytest -m "not long" -n 2 --dist loadfile

test-long: install ## the tests that take longer
	@$(VENV)/bin/python -m pytest -m long

check: install ## lint, format, types; writes nothing
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

fix: install ## what lint and format can mend by themselves
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

model: install ## trains the sample model anew
	@$(VENV)/bin/python tools/train_digits.py

bench: install ## the listener against direct Triton and others, half an hour; writes benchmarks/RESULTS.md
	@$(VENV)/bin/python -m benchmarks full

bench-quick: install ## the listener against direct Triton, five minutes; prints only. BENCH_JSON=FILE writes the figures
	@$(VENV)/bin/python -m benchmarks quick

clean: ## removes the virtual environment and caches
	@rm -rf $(VENV) .venv-* benchmarks/.venvs benchmarks/.work .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
