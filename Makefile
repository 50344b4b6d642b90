# Few targets, each a verb of lcm-scale or a check. `make` alone lists them.
# TORCH_INDEX=<index of PyTorch's CPU wheels> takes those, where the index at hand offers CUDA ones.

PYTHON ?= python3
TORCH_INDEX ?=
DATA ?= abide
ABIDE_DIR ?=
ABIDE_PHENO ?=
PPMI_DIR ?=
TAOWU_DIR ?=
EYES_DIR ?=
AUCKLAND_DIR ?=
TESTS ?= tests
JOBS ?= 2

BIN := .venv/bin
LCM := $(BIN)/lcm-scale
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help .venv demo demo-real shard paper-mix reproduce test test-slurm test-package check docs golden clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-zA-Z.-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: $(INSTALLED) ## Virtual environment with pinned versions (PYTHON=python3.12, TORCH_INDEX=...)

$(INSTALLED): constraints.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "error: '$(PYTHON)' does not run, or is older than Python 3.11; name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		--constraint constraints.txt --editable '.[deepspeed,explain,imaging,loggers,test,dev,docs]'
	@touch $@

demo: $(INSTALLED) ## Simulated scans to an honest report, in minutes: runs/demo/report.html
	$(LCM) shard recipes/data/demo_pretrain.yaml
	$(LCM) shard recipes/data/demo_finetune.yaml
	$(LCM) shard recipes/data/demo_test.yaml
	$(LCM) verify shards/demo-pretrain
	$(LCM) verify shards/demo-finetune
	$(LCM) verify shards/demo-test
	$(LCM) pretrain recipes/demo.yaml
	$(LCM) finetune recipes/demo_finetune.yaml
	$(LCM) evaluate recipes/demo_evaluate.yaml
	@echo runs/demo/report.html

demo-real: $(INSTALLED) ## The same on 33 real people (heat pain and its regulation): runs/demo-real/report.html
	$(BIN)/python -m lcm_scale.fetch.ds000140 raw/ds000140
	$(LCM) shard recipes/data/ds000140.yaml
	$(LCM) verify shards/ds000140
	$(LCM) evaluate recipes/demo_real.yaml
	@echo runs/demo-real/report.html

shard: $(INSTALLED) ## Shard a data set: DATA=abide [ABIDE_DIR=folder] [ABIDE_PHENO=file.csv]
	$(LCM) shard recipes/data/$(DATA).yaml \
		$(if $(ABIDE_DIR),'source.dir=$(ABIDE_DIR)') $(if $(ABIDE_PHENO),'source.phenotypes=$(ABIDE_PHENO)')

paper-mix: $(INSTALLED) ## Pretrain on four real sets: ABIDE_DIR= PPMI_DIR= TAOWU_DIR= EYES_DIR= [ABIDE_PHENO=]
	$(LCM) shard recipes/data/abide_lw.yaml 'source.dir=$(ABIDE_DIR)' \
		$(if $(ABIDE_PHENO),'source.phenotypes=$(ABIDE_PHENO)')
	$(LCM) shard recipes/data/ppmi.yaml 'source.dir=$(PPMI_DIR)'
	$(LCM) shard recipes/data/taowu_lw.yaml 'source.dir=$(TAOWU_DIR)'
	$(LCM) shard recipes/data/eyes_lw.yaml 'source.dir=$(EYES_DIR)'
	$(LCM) pretrain recipes/paper_mix.yaml

reproduce: $(INSTALLED) ## The paper's table beside an honest protocol: AUCKLAND_DIR= (abide/, ppmi/) TAOWU_DIR=
	$(BIN)/python benchmarks/reproduce.py '$(AUCKLAND_DIR)/.' '$(TAOWU_DIR)/.'

# Two processes with one thread each; what counts the loopback device's bytes runs alone, afterwards.
test: $(INSTALLED) ## Run the tests (TESTS=tests/data for some of them, JOBS=1 one after the other)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slurm and not alone and not package" -n $(JOBS) --dist loadfile $(TESTS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "alone" $(TESTS) || test $$? -eq 5 # none among these

test-slurm: $(INSTALLED) ## Run the tests that start a real Slurm on this machine (minutes; installs it as root)
	$(BIN)/python -m pytest -m slurm tests/slurm

test-package: $(INSTALLED) ## Build wheel and sdist, install and run the wheel outside of the repository
	$(BIN)/python -m pytest -m package tests/test_package.py

check: $(INSTALLED) ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck slurm/*.sh slurm/*.env .ci/run

# A warning ends it: a link that leads nowhere, a docstring that is none, an example that fails. An example
# that is the same as at the last build is not run again; without docs/generated all are.
docs: $(INSTALLED) ## Build the documentation and run its examples: docs/_build/html/index.html
	PATH="$(abspath $(BIN)):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --keep-going \
		--quiet -c docs -d docs/_build/doctrees . docs/_build/html
	@echo docs/_build/html/index.html

golden: $(INSTALLED) ## Write the golden losses anew (a change that moves them says why)
	$(BIN)/python -m pytest tests -m golden --write-golden

clean: ## Remove the environment, caches and what the demos wrote
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	rm -rf docs/_build docs/generated
	rm -rf raw/demo* raw/ds000140 shards/demo-* shards/ds000140 runs/demo runs/demo-*
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
