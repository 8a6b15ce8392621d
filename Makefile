# Two commands do everything on a fresh machine: make repro, and make test.
# PATH leads to .venv, since the stages of dvc.yaml run `python`.

PYTHON ?= python3
UV := 0.13.9
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: repro side-by-side test test-all bench lint docs lock clean

repro: .venv/installed $(if $(JOBS),side-by-side)  ## run what is out of date, then print the table; JOBS=2: two trainings at once
	@echo "== dvc repro: runs only the stages whose parameters, code or data changed"
	@dvc repro
	@python -m stages.reporting.score_table metrics

# DVC runs one stage after another. So: all that trainings read, until nothing of it is out of date; the trainings of
# inputs, then the root's, JOBS at once, each through a dvc of its own, on a GPU of its own unless CUDA_VISIBLE_DEVICES
# names one; all else, and what failed here, is left to the plain `dvc repro` that follows.
OUT_OF_DATE = dvc repro --dry --keep-going 2>/dev/null | sed -n "s/^Running stage '\(.*\)':$$/\1/p"
GPUS := $(if $(JOBS),$(shell nvidia-smi -L 2>/dev/null | grep -c ^GPU))
side-by-side: .venv/installed
	@[ '$(JOBS)' -ge 1 ] 2>/dev/null || { echo "error: JOBS: expected 1 or more, found '$(JOBS)'" >&2; exit 2; }
	@while stages=$$($(OUT_OF_DATE) | grep -vE 'train@|evaluate@|^ensemble$$|^report$$'); do dvc repro $$stages || exit; done
	@export OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$$((($$(nproc) + $(JOBS) - 1) / $(JOBS)))}; \
	for trainings in '/dvc.yaml:train@' '^train@'; do \
	    $(OUT_OF_DATE) | grep "$$trainings" | xargs -r -P $(JOBS) -I STAGE --process-slot-var=SLOT sh -c '\
	        [ $(GPUS) = 0 ] || export CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES:-$$((SLOT % $(GPUS)))}; \
	        dvc --wait-for-lock repro --single-item STAGE 2>&1 | sed -u "s#^#[STAGE] #"'; \
	done

test: .venv/installed  ## run the everyday tests; they need no network and no GPU
	@echo "== pytest"
	@OMP_NUM_THREADS=1 python -m pytest -n auto -m "not slow"

test-all: .venv/installed  ## run the slow rest: soaks, fuzz, every parameter through real DVC
	@echo "== pytest, the slow tests"
	@OMP_NUM_THREADS=1 python -m pytest -n auto -m slow

lint: .venv/installed  ## check style
	@ruff check . && ruff format --check .

docs: .venv/installed  ## write the tables of what reruns what into docs/reruns.md
	@python .ci/rerun_tables.py

bench: .venv/installed  ## measure training, growth and DVC's own time; writes benchmarks/results/ (half an hour on 2 cores)
	@python -m benchmarks $(ARGS)

lock:  ## pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-annotate --custom-compile-command "make lock" --upgrade -o requirements.txt

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	    f"error: Python 3.11 or newer is needed, $(PYTHON) is {v[0]}.{v[1]}; name another: make PYTHON=python3.12 ...")'
	@echo "== .venv: a virtual environment with the pinned packages of requirements.txt (PyTorch is several GB: minutes)"
	@$(PYTHON) -m venv .venv
	@if .venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV); \
	then .venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.txt; \
	else .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt; fi
	@touch $@

clean:  ## remove the virtual environment; data, cache and metrics stay
	rm -rf .venv
