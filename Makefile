# make demo: everything end to end on drawn faces    make test: lint, types, tests
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: demo results test lint format install install-dev clean

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev

# Drawn people, no download, no photograph: data, age trunk, three heads, submission, report.
demo: install
	rm -rf demo
	$(BIN)/python -m data.synthetic demo/data --people 600 --eval-people 100 --size 72x96 --seed 0
	set -e; for task in age_backbone age gender mask; do \
		$(BIN)/python train_task.py --task $$task --config configs/demo/$$task.yaml \
			--data demo/data/train --runs demo/runs; \
	done
	$(BIN)/python combine.py --config configs/demo/joint.yaml --data demo/data/eval --runs demo/runs \
		--out demo/submission.csv
	$(BIN)/python evaluate.py --config configs/demo/joint.yaml --submission demo/submission.csv \
		--answers demo/data/eval/answers.csv

# The figures of the README, on your own copies: make results DATA=DIR PORTRAITS=DIR WEIGHTS=FILE [RUNS=DIR]
# DATA holds train/ and eval/ with answers.csv; PORTRAITS has faces with ages; WEIGHTS is resnet18 from ImageNet.
RUNS ?= runs
SEED ?= 0
TRAIN = $(BIN)/python train_task.py --runs $(RUNS) --set training.seed=$(SEED)
results: install
	$(TRAIN) --task age_backbone --data $(PORTRAITS) --set backbone.weights=$(WEIGHTS)
	$(TRAIN) --task age --data $(DATA)/train
	$(TRAIN) --task gender --data $(DATA)/train --data $(PORTRAITS)
	$(TRAIN) --task mask --data $(DATA)/train --set backbone.weights=$(WEIGHTS)
	$(BIN)/python combine.py --data $(DATA)/eval --runs $(RUNS) --out $(RUNS)/out/submission.csv
	$(BIN)/python evaluate.py --submission $(RUNS)/out/submission.csv --answers $(DATA)/eval/answers.csv

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
