# On a machine with python3 (3.10 or newer) and make, every target does its own set-up.
PYTHON ?= python3
LAB_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
DOCS_ARGS ?=
# Two workers with one thread each: towers this small gain nothing from a second thread.
JOBS ?= 2
LOCK_PYTHON := 3.10
VENV := .venv/bin
COMPILE = $(VENV)/uv pip compile --quiet pyproject.toml --all-extras --python-version $(LOCK_PYTHON) \
	--generate-hashes --no-header --no-annotate --no-emit-index-url $(LOCK_ARGS)
# Notebooks are opened as copies in this folder, which git ignores.
COPIES := lab

# The wheels of PyTorch are large; a slow line must not end the set-up.
export UV_HTTP_TIMEOUT ?= 300

.DEFAULT_GOAL := help
.PHONY: help lab test pythons report docs bench figures lint format lock clean

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

lab: .venv/installed ## open JupyterLab on copies of the notebooks, in lab/ (options: LAB_ARGS="--no-browser --port 9999")
	$(VENV)/python notebooks/working_copies.py $(COPIES)
	$(VENV)/python -m jupyterlab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir="$(CURDIR)" \
		--LabApp.default_url="/lab/tree/$(COPIES)/00_quickstart.ipynb" $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

test: lint ## check style and types, then run every test (fewer: PYTEST_ARGS="-m 'not slow'")
	OMP_NUM_THREADS=1 $(VENV)/python -m pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

pythons: $(VENV)/uv ## the quick tests on the oldest Python with the lowest versions, and on the newest with the newest
	JOBS="$(JOBS)" .ci/pythons

report: .venv/installed ## run the notebooks on the embedded default and write results/report/index.html
	OMP_NUM_THREADS=1 $(VENV)/xgap report

docs: .venv/installed ## build the site of the documentation, results/site/index.html (quickly: DOCS_ARGS=--plain)
	OMP_NUM_THREADS=1 $(VENV)/python docs/site/build.py $(DOCS_ARGS)

bench: .venv/installed ## measure speed against naive baselines; writes results/bench.json and a record in docs
	$(VENV)/python -m benchmarks --record docs $(BENCH_ARGS)

figures: .venv/installed ## draw the README's pictures
	OMP_NUM_THREADS=1 $(VENV)/python docs/figures.py

lint: .venv/installed ## check style and types
	$(VENV)/python -m ruff check
	$(VENV)/python -m ruff format --check
	$(VENV)/python -m mypy

format: .venv/installed ## put the code in the project's style
	$(VENV)/python -m ruff check --fix
	$(VENV)/python -m ruff format

lock: $(VENV)/uv ## choose versions anew (after a change of pyproject.toml, or with LOCK_ARGS=--upgrade)
	$(COMPILE) --universal --output-file requirements.lock
	$(COMPILE) --resolution lowest-direct --python-platform linux --output-file requirements-lowest.lock

clean: ## delete results and caches (and the environment too: rm -r .venv)
	rm -rf results build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find xgap_analysis tests -name __pycache__ -type d -prune -exec rm -rf {} +

# uv alone first, in the locked version and with its hash; it then installs the rest.
$(VENV)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; $(PYTHON) is %s. \
	Name another one: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	@$(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: \
	apt-get install python3-venv"; exit 1; }
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.txt
	$(VENV)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt

.venv/installed: requirements.lock pyproject.toml | $(VENV)/uv
	$(VENV)/uv pip install --python $(VENV)/python --require-hashes -r requirements.lock
	$(VENV)/uv pip install --python $(VENV)/python --no-deps --no-build-isolation -e .
	@touch $@
