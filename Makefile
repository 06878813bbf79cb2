# The list of commands. `make demo` and `make test` do all the set-up themselves.

python := .venv/bin/python

.PHONY: help setup lock lint check test test-slow test-unit demo databases upstream bench schema clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install system packages (as root or by sudo) and the locked Python packages; says what
	@.ci/setup

demo: setup ## run matrices/demo.yaml on real guests; 0 only if exactly the expected cell fails
	@$(python) -m tests.demo

databases: setup ## test a client program against PostgreSQL and MariaDB, each in a guest, on two architectures
	@.venv/bin/farm run matrices/databases.yaml

upstream: setup ## build and test a real upstream release on all architectures
	@.venv/bin/farm run matrices/upstream.yaml

check: setup ## static checks: ruff, mypy, import directions, generated files
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

test: setup ## all tests, with real guests
	@.venv/bin/pytest

test-slow: setup ## every release of every architecture
	@.venv/bin/pytest -m slow

test-unit: setup ## the tests that need no guest
	@.venv/bin/pytest -m "not guest"

bench: setup ## measure the figures of docs/performance.md
	@$(python) -m tests.bench

schema: setup ## write the generated schemas again
	@$(python) -m farm.matrix.schema
	@$(python) -m farm.report > docs/report.schema.json

lock: ## resolve the dependencies again (needs uv)
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 -q \
	  --custom-compile-command 'make lock' pyproject.toml -o requirements.txt
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 -q \
	  --custom-compile-command 'make lock' pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt

clean: ## remove what was made in this folder (not the cache of images)
	rm -rf .venv build farm-report *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
