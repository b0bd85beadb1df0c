# Two commands do everything on a fresh clone with Python 3.11, pip and make:
#   make demo    builds the bundled example for four targets and proves each package
#   make test    runs the default test suite
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_TARGETS := host aarch64-generic cortex-m7 wasm32-simd

.PHONY: demo test lint clean

demo: $(READY)
	rm -rf demo
	$(BIN)/mlopsc import examples/digits/digits.onnx \
	  --preprocess examples/digits/preprocess.onnx --vectors examples/digits/vectors.npz \
	  -o demo/digits.mlb
	$(BIN)/mlopsc build demo/digits.mlb $(addprefix --target ,$(DEMO_TARGETS)) -o demo/packages
	$(BIN)/mlopsc conform --bundle demo/digits.mlb $(addprefix demo/packages/,$(DEMO_TARGETS))

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

# One environment for both; made again when what it depends on changes.
$(READY): pyproject.toml
	command -v $(PYTHON) >/dev/null || { echo "need $(PYTHON) (set PYTHON=...)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build
