# Two commands do everything: `make demo` and `make test`. Both install into .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-lowest check lint install clean

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[dev]'
	@touch $@

install: .venv/installed

demo: install
	$(BIN)/python -m zoo.demo out

test: install
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# The oldest versions that pyproject.toml allows, in an environment that uv keeps in its cache.
test-lowest: install
	$(BIN)/uv run --isolated --no-project --python 3.11 --resolution lowest-direct \
		--with-editable '.[dev,umap]' --with pip \
		python -m pytest -n auto --maxprocesses 4 --dist worksteal $(TESTS)

check: lint test

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv out build dist
