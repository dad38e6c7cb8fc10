# Two commands, each enough on a fresh machine with Python 3.11 or later, git and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test check clean

demo: $(READY)        ## train, prune, distil, quantize, measure and judge a network on handwritten digits
	$(BIN)/edgelathe run

test: $(READY) check  ## style, types, tests
	$(BIN)/python -m pytest -q --durations=10

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p .typecheck && ln -sfn .. .typecheck/edgelathe
	MYPYPATH=.typecheck $(BIN)/mypy --no-namespace-packages -p edgelathe

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .typecheck build *.egg-info
