# Two commands do everything on a fresh machine: make repro, and make test.
# PATH leads to .venv, since the stages of dvc.yaml run `python`.

PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: repro test bench lint docs lock clean

repro: .venv/installed  ## run what is out of date, then print the scored table; JOBS=2: two trainings at once
	@echo "== dvc repro: runs only the stages whose parameters, code or data changed"
	@$(if $(JOBS),.venv/bin/python -m stages.shared.side_by_side $(JOBS),.venv/bin/dvc repro)
	@.venv/bin/python -m stages.shared.score_table metrics

test: .venv/installed  ## run the tests; they need no network and no GPU
	@echo "== pytest"
	@.venv/bin/python -m pytest

lint: .venv/installed  ## check style
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .

docs: .venv/installed  ## write the tables of what reruns what into README.md, from dvc.yaml and params.yaml
	@.venv/bin/python .ci/rerun_tables.py

bench: .venv/installed  ## measure training, growth and DVC's own time; writes benchmarks/results/ (half an hour on 2 cores)
	@.venv/bin/python -m benchmarks $(ARGS)

lock:  ## pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-annotate --custom-compile-command "make lock" --upgrade -o requirements.txt

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	    f"error: Python 3.11 or newer is needed, $(PYTHON) is {v[0]}.{v[1]}; name another: make PYTHON=python3.12 ...")'
	@echo "== .venv: a virtual environment with the pinned packages of requirements.txt (PyTorch is several GB: minutes)"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

clean:  ## remove the virtual environment; data, cache and metrics stay
	rm -rf .venv
