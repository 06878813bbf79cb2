# The list of commands. `make demo` and `make test` do all the set-up themselves.

python := .venv/bin/python
# Half of what a test with a guest does is to wait: two go on at a time, a module each.
beside := -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: help setup setup-tests lock check test test-service test-guests test-slow test-unit lab lab-test demo databases upstream bench chaos fuzz schema clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install system packages (as root or by sudo) and the locked Python packages; says what
	@.ci/setup

setup-tests: ## the same, and what only the tests of the farm itself need: a browser, Prometheus, an SSH server
	@.ci/setup tests

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

test: setup-tests ## the tests of the engine, with real guests
	@.venv/bin/pytest $(beside)

test-service: setup-tests ## the tests of the service: a real server, a real browser, a real Prometheus
	@.venv/bin/pytest tests/service $(beside)

test-guests: setup ## guests of every architecture, kind of image and CPU, with layers and snapshots
	@.venv/bin/pytest tests/guests $(beside)

test-slow: setup ## every release of every architecture
	@.venv/bin/pytest -m slow tests/contract tests/e2e tests/guests

test-unit: setup-tests ## the tests that need no guest
	@.venv/bin/pytest -m "not guest"

lab: setup ## build the lab: emulated hosts with real KVM, LXC and Xen, saved while they run
	@$(python) -m tests.lab

lab-test: lab ## the tests that need a real hypervisor, in the lab
	@.ci/setup lab
	@.venv/bin/pytest tests/lab

bench: setup ## measure the figures of docs/performance.md
	@$(python) -m tests.bench

N ?= 1000
chaos: setup-tests ## break the farm N times (N=1000) and check what has to hold: SEED=… GUESTS=fake|real STORE=sqlite|postgresql
	@$(python) -m tests.chaos $(N) $(if $(SEED),--seed $(SEED)) $(if $(GUESTS),--guests $(GUESTS)) $(if $(STORE),--store $(STORE))

SECONDS := 30
fuzz: setup ## fuzz what reads a guest's bytes, each reader for SECONDS=30
	@$(python) -m tests.fuzz $(SECONDS)

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
