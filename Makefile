# make demo: everything end to end on drawn faces    make test: lint, types, tests
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: demo test lint format install install-dev clean

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/pytest

clean:
	rm -rf demo .mypy_cache .pytest_cache .ruff_cache
