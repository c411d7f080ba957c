# `make results` and `make test` work on a fresh machine with Python 3.11 or newer, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: env results cifar10 test lint crosscheck readme method speed
results: env
	$(BIN)/snakemake

cifar10: env
	$(BIN)/snakemake --configfile configs/cifar10_cpu.yaml

test: env
	$(BIN)/python -m pytest -n 2 -m 'fast or slow or workflow'

lint: env
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/python .ci/snakemake_lint.py

crosscheck: env
	$(BIN)/python -m pytest -m crosscheck

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0])'
	@echo "Setting up $(VENV) (a few minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@# Without what it draws plots with (visdom), which does not build; its attacks need no more than is there.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps adv-lib
	@touch $@

readme: env
	$(BIN)/snakemake --configfile $(or $(SUITE),configs/cifar10_cpu.yaml)
	$(BIN)/python -m reporting.readme $(or $(SUITE),configs/cifar10_cpu.yaml)

method: env
	@$(BIN)/python -m methods.new '$(NAME)'

speed: env
	$(BIN)/python -m benchmarks.training $(SUITE)
