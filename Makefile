# One environment, .venv, made from requirements.lock; a second call installs nothing.
# Elsewhere than on a CPU machine the same pins bring the CUDA build of torch.
PYTHON ?= $(shell command -v python3.11 || echo python3)
ARGS ?=
.DEFAULT_GOAL := help
.PHONY: help install sweep lint docs test test-fast test-slow test-gpu coverage chaos kills lock

# The site, into the folder site: warnings are errors, and no network is asked for. The variable silences an advertisement.
SITE = NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs --quiet build
PAGES = $(addprefix tests/test_,readme.py papers.py site.py numbers.py troubleshooting.py)

# Tests of formulas, models, data and settings, without Ray, MLflow, a browser or further processes.
FAST = tests/test_latentune.py tests/test_readme.py tests/test_troubleshooting.py tests/analysis/judgement/test_ranking.py \
	tests/searchers/bayesopt tests/searchers/study tests/trainables/data/formats tests/trainables/data/synthetic \
	tests/trainables/data/test_batches.py tests/trainables/latent tests/trainables/metrics tests/trainables/models
NOT_FAST = tests/searchers/bayesopt/test_searcher.py tests/trainables/latent/test_optimization.py \
	tests/trainables/metrics/extractors tests/trainables/metrics/test_reference.py \
	tests/trainables/models/test_options.py

help:
	@echo "make sweep [ARGS='--dataset PATH …']   tune a beta-VAE-GAN (python -m searchers.beta_vaegan)"
	@echo "make test                              lint, import rules, types, tests"
	@echo "make test-fast                         the tests that start no further process, in a minute"
	@echo "make test-slow                         the tests marked slow"
	@echo "make test-gpu                          the tests marked gpu, on a machine with a GPU"
	@echo "make lint                              style, import rules, types, the site"
	@echo "make docs                              the site, and its pages against the tree: commands, files, links, numbers"
	@echo "make coverage                          the lines that make test runs"
	@echo "make chaos [ARGS='--minutes N']        faults at random on three machines in namespaces (root)"
	@echo "make kills [ARGS='--kills N']          the driver of a sweep killed at random, Tune's snapshots damaged"
	@echo "make lock                              pin requirements.lock anew from pyproject.toml"

install: .venv/.installed

# --no-build-isolation: the build back end is pinned in the lock, too.
.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "latentune needs Python 3.11 or later; name one with make PYTHON=…"; exit 2; }
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "Installing the packages of requirements.lock into .venv (once; some minutes)."
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch .venv/.installed

sweep: .venv/.installed
	@.venv/bin/python -m searchers.beta_vaegan $(ARGS)

lint: .venv/.installed
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/python -m mypy
	$(SITE)

docs: .venv/.installed
	$(SITE)
	.venv/bin/python -m pytest -m "not slow" $(PAGES) $(ARGS)

# The tests of a file run in one process: they share what its fixtures start.
test: lint
	.venv/bin/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile $(ARGS)

test-fast: .venv/.installed
	.venv/bin/python -m pytest -m "not slow" $(FAST) $(NOT_FAST:%=--ignore=%) $(ARGS)

coverage: .venv/.installed
	.venv/bin/python -m pytest -m "not slow" --cov --cov-report=term-missing:skip-covered $(ARGS)

test-slow: .venv/.installed
	.venv/bin/python -m pytest -m slow $(ARGS)

test-gpu: .venv/.installed
	.venv/bin/python -m pytest -m gpu $(ARGS)

chaos: .venv/.installed
	.venv/bin/python -m tests.cluster.chaos $(ARGS)

kills: .venv/.installed
	.venv/bin/python -m tests.searchers.kills $(ARGS)

# The local part of a version (torch 2.13.0+cpu) names one build; the lock serves every machine.
lock: .venv/.installed
	.venv/bin/python -m piptools compile --quiet --extra dev --extra docs --extra happy-people \
		--extra importance --extra login --strip-extras --allow-unsafe --no-emit-index-url \
		--no-emit-find-links --no-annotate --no-header $(ARGS) --output-file requirements.lock pyproject.toml
	sed -i 's/+cpu$$//' requirements.lock
