# Two commands do everything on a fresh machine: make repro and make test.
# PATH starts with .venv, because the stages of dvc.yaml run `python`.

PYTHON ?= python3
UV := 0.13.9
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
# many containers forbid Python to keep its bytecode: each of our thirty processes would compile the stages again
export PYTHONDONTWRITEBYTECODE :=
# DVC runs stages in this shell: a login shell may change PATH, or forbid commands
export SHELL := /bin/sh
# DVC and PyTorch fail for a user without a name, as in many containers
export USER ?= $(shell id -u)

.DEFAULT_GOAL := help
.PHONY: help repro test test-all bench lint lock clean

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name what; do printf '%-9s %s\n' "$$name" "$$what"; done

repro: .venv/installed  ## run everything that is out of date, two stages at once, and print the scores; IMAGES=folder: use your photographs
	@$(if $(IMAGES),python -m stages.configure "$$IMAGES")
	@echo "== runs only the stages whose parameters, code or data changed"
	@python -m stages.reproduce $(JOBS)
	@python -m stages.show metrics

test: .venv/installed  ## run the everyday tests (no network, no GPU)
	@echo "== pytest"
	@OMP_NUM_THREADS=1 python -m pytest -n auto --dist worksteal -m "not slow"

test-all: .venv/installed  ## run the slow tests: kills, fuzz, whole recipes, every parameter through DVC
	@echo "== pytest, the slow tests"
	@OMP_NUM_THREADS=1 python -m pytest -n auto --dist worksteal -m slow

lint: .venv/installed  ## check style
	@ruff check . && ruff format --check .

bench: .venv/installed  ## measure training, growth and DVC; writes benchmarks/results/ (half an hour on 2 cores)
	@python -m benchmarks $(ARGS)

lock:  ## pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile pyproject.toml --extra dev --extra onnx --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-annotate --custom-compile-command "make lock" --upgrade -o requirements.txt

# TORCH=cpu or cu126: another build of the same PyTorch version, from PyTorch's own index, with other hashes
PACKAGES := $(if $(TORCH),--torch-backend $(TORCH) -c requirements.txt --no-verify-hashes -r pyproject.toml --extra dev --extra onnx,--require-hashes -r requirements.txt)
.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	    f"error: expected Python 3.11 or newer, found {v[0]}.{v[1]} ($(PYTHON)); name another: make PYTHON=python3.12 ...")'
	@echo "== .venv: a virtual environment with the pinned packages of requirements.txt (PyTorch is several GB: minutes)"
	@$(PYTHON) -m venv .venv
	@if .venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV); \
	then .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python $(PACKAGES); \
	elif [ '$(TORCH)' ]; then echo "error: TORCH=$(TORCH) needs uv, which cannot be installed here; run make without TORCH" >&2; exit 2; \
	else .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt; fi
	@touch $@

clean:  ## remove the virtual environment; data, cache and metrics stay
	rm -rf .venv
