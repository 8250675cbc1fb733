# crl_node: `make demo` shows it, `make test` proves it. Everything lives in .venv; nothing outside the tree is touched.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
REQUIREMENTS := requirements/run.txt requirements/build.txt requirements/dev.txt
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1
SECONDS_OF_DEMO ?= 180

.PHONY: help
help: ## Show this list.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

.PHONY: demo
demo: venv ## A simulated arm finds out how the things on its table work (three simulated minutes, then a report).
	@$(BIN)/crl sim --seconds $(SECONDS_OF_DEMO) $(DEMO_OPTIONS)

.PHONY: test
test: venv ## Run all tests.
	@$(BIN)/python -m pytest $(TEST_OPTIONS)

.PHONY: lint
lint: venv ## Check style and types.
	@$(BIN)/ruff check .
	@$(BIN)/mypy

.PHONY: format
format: venv ## Sort imports and lay out the code.
	@$(BIN)/ruff check --fix --select I .
	@$(BIN)/ruff format .

.PHONY: venv
venv: $(STAMP) ## Set everything up in .venv (about 3 GB; again only what changed).
	@tools/build_interfaces.sh $(VENV)
	@tools/install_share.sh $(VENV) >/dev/null

$(STAMP): $(REQUIREMENTS) setup.py pyproject.toml tools/install_venv.sh
	@PYTHON=$(PYTHON) tools/install_venv.sh $(VENV) $(REQUIREMENTS)
	@touch $@

.PHONY: clean
clean: ## Remove what was built (the environment and runs/ stay).
	@rm -rf build ros_ws/build ros_ws/install ros_ws/log .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -not -path './ros_ws/src/crl_node/*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Remove the environment too.
	@rm -rf $(VENV)
