# Two commands set up everything on a fresh Debian machine (git, make, Python 3.11 or later; root or sudo).
PYTHON ?= python3
VENV ?= .venv
ONCE ?=
ORTHANC_PORT ?= 18042
HOME_FOLDER ?= .run

.PHONY: run test check viewer fetch-viewer setup setup-test format clean

run: setup fetch-viewer  ## start a node with a local Orthanc, send two phantom studies, show the results, keep serving
	@$(VENV)/bin/chexnode demo --home $(HOME_FOLDER) --orthanc-port $(ORTHANC_PORT) $(if $(ONCE),--once)

test: setup-test fetch-viewer check  ## static checks and every test
	@$(VENV)/bin/python -m pytest --numprocesses 2 --no-loadscope-reorder

check: setup-test  ## format, lint, types, import contracts
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

viewer: setup  ## fetch the OHIF viewer for the worklist page (needs npm)
	@$(VENV)/bin/chexnode viewer install

# Where npm is at hand. Nothing depends on it: without a viewer the page links to the PACS's own page.
fetch-viewer:
	@if command -v npm >/dev/null 2>&1; then $(VENV)/bin/chexnode viewer install || echo "going on without it"; fi

setup:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh deploy/setup.sh training

setup-test:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh deploy/setup.sh test

format: setup-test
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

clean:
	rm -rf .run .test-artefacts build *.egg-info
