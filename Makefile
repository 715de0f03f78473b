# Two commands do everything on a machine with Python 3.11, git and make: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-full mutants simulate torture check format bench lock screenshots

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP) ## server, dashboard address, worker and real runs, on SQLite (EXIT=1 ends by itself)
	$(BIN)/outlast demo $(if $(EXIT),--exit)

# many tests wait, for a lease to end above all: on two cores three processes take a fifth less time than two
test: WORKERS := 3
test: $(STAMP) ## all tests, on SQLite and PostgreSQL
	$(BIN)/python -m pytest -n $(WORKERS) -m "not full"

test-full: $(STAMP) ## the hour-long tier too
	$(BIN)/python -m pytest -n $(WORKERS)

simulate: $(STAMP) ## seeded simulation of servers, workers, network and crashes (SEEDS=50000)
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),50000) --first $(or $(FIRST),0) --workers $(WORKERS)

torture: $(STAMP) ## real servers, workers and PostgreSQL under kill -9 and worse (MINUTES=3, DATABASE=sqlite, RATE=6)
	$(BIN)/python -m tests.torture --minutes $(or $(MINUTES),30) --database $(or $(DATABASE),postgresql) $(if $(RATE),--rate $(RATE))

check: $(STAMP) ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(STAMP) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

mutants: $(STAMP) ## break the product in twelve ways: the simulation or the torture must notice
	$(BIN)/python -m tests.mutants

bench: $(STAMP) ## measure; one JSON line a scenario and database
	$(BIN)/python -m benchmarks

screenshots: $(STAMP) ## every page of the dashboard in both themes, in build/screenshots (DOCS=1 renews those of the docs)
	$(BIN)/python -m tests.dashboard.screenshots build/screenshots $(if $(DOCS),--docs)

lock: ## make requirements.lock anew (hashes, and no index host)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--all-extras --group dev pyproject.toml -o requirements.lock
