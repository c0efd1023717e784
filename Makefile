# Everything runs in .venv, which any target makes and keeps up to date with pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2

.PHONY: demo test test-all lint format clean

demo: .venv/demo.done  ## build, explain, train and save a convnet on handwritten digits
	$(BIN)/tally demo

test: .venv/test.done  ## everything but the slow tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow"

test-all: .venv/test.done  ## with the slow tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: .venv/dev.done  ## format, style, types, and the direction of imports
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/lint-imports
	$(BIN)/pyright

format: .venv/dev.done
	$(BIN)/ruff format src tests
	$(BIN)/ruff check --fix src tests

.venv/%.done: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(filter demo,$*),,torch==2.13.0)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache
