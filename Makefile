# Two commands do it all: `make notebooks` runs the series, `make test` tests it.
# They set up .venv first, once; `make PYTHON=python3.12 …` chooses the Python for it.

PYTHON ?= python3
BIN := .venv/bin
NOTEBOOK ?=
AGAINST ?=
READY := .venv/.ready
# Threads that spin while they wait slow one another tenfold as soon as something else runs
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help notebooks test lint lab bench refresh verify numbers book clean
.DELETE_ON_ERROR:

help:
	@echo "make notebooks   execute the whole series into build/notebooks/"
	@echo "make test        lint, unit tests, every notebook in its quick size"
	@echo "make lab         open the series in JupyterLab"
	@echo "make bench       run the benchmarks"
	@echo "make refresh     execute the notebooks in place and keep their records"
	@echo "                 (one of them: make refresh NOTEBOOK=notebooks/02*.ipynb)"
	@echo "make verify      prove that a change of code changes no record, where none has changed"
	@echo "                 (quick runs of the old code and the new: make verify AGAINST=commit)"
	@echo "make numbers     put the records' numbers into README and prose again"
	@echo "make book        the series as HTML in build/book/"
	@echo "make clean       remove what was built; .venv stays"

notebooks: $(READY)
	@$(BIN)/python -m helpers run

# Two tests at a time, then the short runs of the notebooks, each alone since they are timed
test: lint
	@$(BIN)/python -m pytest -n 2 --dist worksteal -k "not quick_run"
	@$(BIN)/python -m pytest tests/test_notebooks.py -k quick_run

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

lab: $(READY)
	@JUPYTER_PREFER_ENV_PATH=1 $(BIN)/jupyter lab notebooks

bench: $(READY)
	@$(BIN)/python benchmarks/bench.py

refresh: $(READY)
	@$(BIN)/python -m helpers run --refresh $(NOTEBOOK)
	@$(MAKE) --no-print-directory numbers

verify: $(READY)
	@$(BIN)/python -m helpers verify $(NOTEBOOK) $(if $(AGAINST),--against $(AGAINST))

numbers: $(READY)
	@$(BIN)/python benchmarks/readme.py
	@$(BIN)/python -m helpers numbers

book: $(READY)
	@$(BIN)/jupyter nbconvert --to html --output-dir build/book notebooks/[0-9][0-9]_*.ipynb

clean:
	rm -rf build .pytest_cache .ruff_cache .hypothesis

# The stamp is written last and goes first: a set-up that was interrupted starts from nothing.
# seqeval comes as source; a pip before 23.1 builds it only with --use-pep517.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "The series needs Python 3.11 or newer, and '$(PYTHON)' is not:" \
	       "name one, as in make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up .venv (minutes, once)"
	@if [ -e $@ ]; then rm $@; else rm -rf .venv && $(PYTHON) -m venv .venv; fi
	@$(BIN)/python -m pip install --disable-pip-version-check --use-pep517 \
	  --constraint constraints.txt --editable '.[series,chinese,elmo,gguf,lora,dev]'
	@touch $@
