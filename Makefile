# The verbs of this project. `make install` is called by the others; running it again is cheap.
PYTHON ?= $(shell python3 tools/interpreter.py)
VENV   := .venv
PORT   ?= $(or $(AIP_HTTP_PORT),8080)
STAMP  := $(VENV)/.installed
SCRIPTS = .ci/run tools/*.sh requirements/*.sh
LOCK    = $(VENV)/bin/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate \
          --python-platform x86_64-manylinux_2_28 --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help install run test test-long image-test check fix lock audit model bench bench-quick load chaos chaos-quick soak stops clean

help: ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## one virtual environment, .venv, with every extra

$(STAMP): setup.cfg pyproject.toml
	@python=$(PYTHON) && $$python tools/preflight.py && echo "installing into $(VENV) with $$python (a minute the first time)" && \
	  { $(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $$python -m venv --clear $(VENV); }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[local,images,otel,tools,deploy,train,test,bench,load,dev]'
	@touch $@

run: install ## Triton and the listener on PORT (8080); REPOSITORY=DIR or gs://BUCKET/PREFIX for other models
	@LISTENER_REPOSITORY="$${REPOSITORY:-$$LISTENER_REPOSITORY}" AIP_HTTP_PORT=$(PORT) LISTENER_HOST=127.0.0.1 LISTENER_TRITON_LOG_LEVEL=$${LISTENER_TRITON_LOG_LEVEL:-warning} exec $(VENV)/bin/listener up

test: install ## every test, those against the real Triton included
	@$(VENV)/bin/python -m pytest -m "not long" -n 3 --dist loadfile

test-long: install ## the tests that take longer
	@$(VENV)/bin/python -m pytest -m long -n 3 --dist loadfile --timeout 900

image-test: install ## builds the images without an engine and tests them, as root; Debian packages: see the script
	@PYTHON=$(VENV)/bin/python tools/image_test.sh

check: install ## lint, format, types; writes nothing
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/shellcheck $(SCRIPTS)
	@$(VENV)/bin/hadolint Dockerfile tests/image/*.Dockerfile

fix: install ## what lint and format can mend by themselves
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

lock: install ## the newest packages that setup.cfg allows, with their hashes, for the image: requirements/*.lock
	@for version in 3.11 3.12 3.13; do \
	  $(LOCK) --python-version $$version setup.cfg --extra container --extra images -o requirements/py$$(echo $$version | tr -d .).lock; \
	done
	@$(LOCK) --python-version 3.11 --python-platform x86_64-manylinux_2_36 setup.cfg --extra container --extra images --extra local -o requirements/py311-cpu.lock
	@$(LOCK) --python-version 3.11 requirements/build.in -o requirements/build.lock

audit: install ## known vulnerabilities of what the images are made from, and bills of materials in build/sbom; asks PyPI
	@$(VENV)/bin/python -m tools.audit

model: install ## trains the sample model anew
	@$(VENV)/bin/python tools/train_digits.py

bench: install ## the listener against direct Triton and others, half an hour; writes benchmarks/RESULTS.md
	@$(VENV)/bin/python -m benchmarks full

bench-quick: install ## the listener against direct Triton, five minutes; prints only. BENCH_JSON=FILE writes the figures
	@$(VENV)/bin/python -m benchmarks quick

load: install ## the highest rate at which URL (make run's) keeps SLO=50ms; DURATION=30s; writes build/load/report.html
	@mkdir -p build/load && exec $(VENV)/bin/listener load $(or $(URL),http://127.0.0.1:$(PORT)/predict) --slo-p99 $(or $(SLO),50ms) \
	  --duration $(or $(DURATION),30s) --html build/load/report.html --json build/load/report.json --csv build/load/report.csv

chaos: install ## asks a real listener while processes, connections and clients fail, half an hour; CHAOS_JSON=FILE writes the rows
	@$(VENV)/bin/python -m chaos --seconds 60

chaos-quick: install ## the same, each fault once, three minutes
	@$(VENV)/bin/python -m chaos

soak: install ## an hour of steady load, and whether memory, descriptors, threads or files grow; SOAK_JSON=FILE writes the samples
	@$(VENV)/bin/python -m chaos.soak --minutes $(or $(MINUTES),60)

stops: install ## fifty stops under load, five minutes: no request lost, nothing left
	@$(VENV)/bin/python -m chaos.stops

clean: ## removes the virtual environment and caches
	@rm -rf $(VENV) .venv-* benchmarks/.venvs benchmarks/.work .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
