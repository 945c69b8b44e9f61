# Two commands do all: `make demo` and `make test`. Both build .venv when it is missing or out of date.
PYTHON ?= python3
# Extra arguments for pip, for example an index with CPU builds of torch.
PIP_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
DEMO := demo

.PHONY: demo test check format golden clean

demo: $(READY)
	$(BIN)/lat-export doctor
	$(BIN)/lat-export model golden/longformer/question-answering/checkpoint --to trt --out $(DEMO)/longformer-qa --force
	$(BIN)/lat-export inspect $(DEMO)/longformer-qa

test: $(READY) check
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: $(READY)
	for recipe in golden/*/recipe.json; do $(BIN)/lat-export golden make $$(dirname $$recipe) || exit 1; done

clean:
	rm -rf $(VENV) $(DEMO) build

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lat-export needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --editable '.[dev,h5,rtx]'
	touch $(READY)
