# Everything runs in .venv, which any target makes and keeps in step with pyproject.toml.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: demo test test-slow fuzz accuracy bench bench-quick lint format clean

demo: .venv/demo.done  ## build, explain, train, save and load a convnet on handwritten digits
	$(BIN)/tally demo

test: .venv/test.done  ## all but the slow tests
	$(PYTEST) -m "not slow"

test-slow: .venv/test.done  ## the slow ones alone
	$(PYTEST) -m slow

MINUTES ?= 10
fuzz: .venv/test.done  ## break files by chance and read them, for MINUTES (10); what fails is kept in build/fuzz
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

accuracy: .venv/test.done  ## how many planted mistakes diagnose finds, and how often it is wrong
	$(BIN)/python -m tests.accuracy

bench: .venv/bench.done  ## tally beside its peers and all other measurements; writes docs/performance.md
	$(BIN)/python -m benchmarks

bench-quick: .venv/bench.done  ## a little of each measurement; keeps nothing
	$(BIN)/python -m benchmarks --quick

lint: .venv/dev.done  ## format, style, direction of imports, types
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/lint-imports
	$(BIN)/pyright

format: .venv/dev.done  ## bring the code into shape
	$(BIN)/ruff format src tests benchmarks examples
	$(BIN)/ruff check --fix src tests benchmarks examples

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.done: pyproject.toml | .venv/bin/python
	$(PIP) --editable ".[demo]"
	touch $@

# PyTorch by its exact version first: a range would bring the newest build with its CUDA packages. Keras 2 alone: it
# asks for all of TensorFlow, and the CPU's build is there.
.venv/test.done: pyproject.toml | .venv/bin/python
	$(PIP) torch==2.13.0
	$(PIP) --editable ".[test]"
	$(PIP) --no-deps "tf_keras>=2.21"
	touch $@ .venv/demo.done

.venv/bench.done: .venv/test.done
	$(PIP) --editable ".[bench]"
	touch $@

.venv/dev.done: .venv/test.done
	$(PIP) --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache
