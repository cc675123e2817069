# What there is to do here. `make setup` first; then any of these:
#   make test | lint | types | docs | check     before a change is offered
#   make reference | pictures | samples         after a change of options, outlines or the model
#   make figures                                figures of the README and of Performance
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: setup test lint types docs check reference pictures samples figures

setup:
	python3 -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[test,train,docs,dask]'

test:
	$(BIN)/pytest

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types:
	$(BIN)/mypy

docs:
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: lint types docs test

reference:
	$(BIN)/python docs/make_reference.py

pictures:
	$(BIN)/python docs/make_pictures.py

samples:
	$(BIN)/python sample_projects/make_samples.py --renew

figures:
	$(BIN)/python benchmarks/accuracy.py synthetic
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/run.py
