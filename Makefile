# make demo: everything end to end on drawn faces    make digits: the same on handwritten digits
# make test: lint, types, tests (also: test-browser, test-scale)
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: bench demo digits page results test test-browser test-faults test-mutants test-scale lint format install install-dev clean

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements-bring.txt requirements-fast.txt requirements-boxes.txt $(VENV)/installed-embeddings
	$(BIN)/pip install --quiet -r requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps -r requirements-boxes.txt
	touch $@

$(VENV)/installed-embeddings: requirements-embeddings.txt $(VENV)/installed
	$(BIN)/pip install --quiet --no-deps -r requirements-embeddings.txt
	touch $@

$(VENV)/installed-browser: requirements-browser.txt $(VENV)/installed-dev
	$(BIN)/pip install --quiet -r requirements-browser.txt
	touch $@

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev

# On drawn people, without a download: data, age backbone, three heads, submission, report.
demo: install
	rm -rf demo
	$(BIN)/python -m data.synthetic demo/data --people 600 --eval-people 100 --size 72x96 --seed 0
	cp "$$(ls demo/data/eval/images/*.jpg | head -n 1)" demo/photo.jpg
	set -e; for task in age_backbone age gender mask; do \
		$(BIN)/python train_task.py --task $$task --config configs/demo/$$task.yaml \
			--data demo/data/train --runs demo/runs; \
	done
	$(BIN)/python combine.py --config configs/demo/joint.yaml --data demo/data/eval --runs demo/runs \
		--out demo/submission.csv
	$(BIN)/python evaluate.py --config configs/demo/joint.yaml --submission demo/submission.csv \
		--answers demo/data/eval/answers.csv --runs demo/runs --images demo/data/eval/images
	@echo "make page: try these heads in a browser (it needs npm)"

# The demo's heads, after make demo, as a page that runs in a browser, in int8 and opened on 127.0.0.1. npm is of Node.js.
$(VENV)/installed-page: requirements-bring.txt requirements-boxes.txt $(VENV)/installed
	$(BIN)/pip install --quiet -r requirements-bring.txt
	$(BIN)/pip install --quiet --no-deps -r requirements-boxes.txt
	touch $@

page: $(VENV)/installed-page
	rm -rf demo/page
	$(BIN)/python -m ensemble.web --runs demo/runs --config configs/demo/joint.yaml --out demo/page \
		--precision int8 --calibration demo/data/train --serve

# Three tasks of handwritten digits, without a download: images that are not of faces.
digits: install
	rm -rf digits
	$(BIN)/python -m data.digits digits/data
	$(BIN)/python train_task.py --task digit loops parity below_five --config configs/digits --data digits/data/train \
		--runs digits/runs
	$(BIN)/python combine.py --config configs/digits/joint.yaml --data digits/data/eval/images --runs digits/runs \
		--out digits/submission.csv
	$(BIN)/python evaluate.py --config configs/digits/joint.yaml --submission digits/submission.csv \
		--answers digits/data/eval/answers.csv --runs digits/runs --images digits/data/eval/images

# The training of the README on your own data: make results DATA=DIR PORTRAITS=DIR MASKS=DIR WEIGHTS=FILE
# [RECIPE=quick] [RUNS=DIR] [SEED=0] [FOLDS="0 1 2 3 4"]. DATA holds train/ and eval/ with answers.csv; PORTRAITS has
# faces with age and gender; MASKS has images of masks with a column mask; WEIGHTS is resnet18 from ImageNet. What
# configs/recipes/RECIPE.yaml has finished is not trained again. WORKERS processes load images for each head: one is enough
# for two cores, a GPU needs several.
RECIPE ?= faces
RUNS ?= runs
SEED ?= 0
WORKERS ?= 1
results: $(VENV)/installed-embeddings
	$(BIN)/python train_task.py --recipe configs/recipes/$(RECIPE).yaml --runs $(RUNS) --cache $(RUNS)/cache \
		--set training.seed=$(SEED) --set training.workers=$(WORKERS) $(if $(FOLDS),--fold $(FOLDS))
	$(BIN)/python combine.py --data $(DATA)/eval --runs $(RUNS) --out $(RUNS)/out/submission.csv
	$(BIN)/python evaluate.py --submission $(RUNS)/out/submission.csv --answers $(DATA)/eval/answers.csv --runs $(RUNS)

# Speed on this machine, in 25 minutes, into bench/results.md: make bench DATA=DIR [RUNS=DIR] [CALIBRATION="DIR DIR"]
# RUNS holds trained heads with the validation images of their training in place; DATA holds train/, CALIBRATION is all that
# they were trained on. SECTIONS="combine help" and BENCH="--rounds 9 ..." choose; "memory" takes 10 minutes, "frozen" and
# "training" an hour and WEIGHTS=FILE.
bench: install-dev
	$(BIN)/python -m bench.speed --data $(DATA) --runs $(RUNS) $(if $(WEIGHTS),--weights $(WEIGHTS)) \
		$(if $(CALIBRATION),--calibration $(CALIBRATION)) $(if $(SECTIONS),--only $(SECTIONS)) $(BENCH)

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Two processes, each with whole files, which share their trained heads. OpenVINO's tests have processes of their own: forks
# after them crashed.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile
test: lint
	$(PYTEST)
	$(PYTEST) -m engines tests/ensemble/backends tests/bench

# Random kills, damage and hostile bytes for longer than a minute each; prints what it counted.
test-faults: install-dev
	$(BIN)/pytest -m faults -s -q tests

# Break one law of the code at a time: some test must fail. About half an hour on two cores.
test-mutants: install-dev
	$(BIN)/python tests/mutants.py --jobs 2

# The report and the page in Debian's chromium, which apt-get installs, as npm, where it is missing (Node.js may bring its own npm).
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
test-browser: $(VENV)/installed-browser
	missing=; for each in chromium:chromium chromedriver:chromium-driver npm:npm; do \
		command -v $${each%:*} > /dev/null || missing="$$missing $${each#*:}"; done; \
	[ -z "$$missing" ] || { $(ROOT) apt-get update -q && $(ROOT) apt-get install -y -q --no-install-recommends $$missing; }
	$(BIN)/pytest tests/browser

# Several training processes, a Ray cluster of two workers, an S3 server: all on this machine.
$(VENV)/installed-scale: requirements-scale.txt requirements-ray.txt $(VENV)/installed-dev
	$(BIN)/pip install --quiet -r requirements-scale.txt
	touch $@

test-scale: $(VENV)/installed-scale
	OMP_NUM_THREADS=1 $(BIN)/pytest -m scale tests/scale

clean:
	rm -rf demo digits .mypy_cache .pytest_cache .ruff_cache
