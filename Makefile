# Assay from a fresh clone. `make help` says what there is.
#
# Exit codes: GNU make answers 2 for any failing recipe, whatever its code was. `assay` therefore ends its output with
# `exit N: reason; path`, N being its own code (0 held, 1 violated, 2 unknown, 64 usage, 69 trouble, 70 internal), and
# make adds `Error N` on stderr. Who needs N as an exit code calls .venv/bin/assay without make.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup versions venv verify test unit check format stop clean

BIN := .venv/bin
ARGS ?=
PYTEST_ARGS ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make verify ARGS='--configuration NAME --fault NAME'     some cells only; .venv/bin/assay --help says more"
	@echo "  make test PYTEST_ARGS='-k journal'                       some tests only"
	@echo "  ASSAY_SKIP=engine,images make test                       leave steps of the set-up out"
	@echo "  ASSAY_NO_INSTALL=1 make setup                            install no system packages"
	@echo "  docker/bootstrap.sh says in its head what set-up does; .venv/bin/assay doctor says what is here"

setup: ## make all that is needed: venv, engine, programs, images (again: nothing to do)
	@docker/bootstrap.sh

versions: setup ## make brokers' images of other versions: RabbitMQ 3.10 and 4.0, NATS 2.12
	@docker/bootstrap.sh versions

venv: ## make only the virtual environment
	@docker/bootstrap.sh venv

verify: setup ## set up, run the suites and judge them: the product
	@$(BIN)/assay verify $(ARGS)

test: ## set up, test the harness itself, then run the suites' smoke tier
	@docker/bootstrap.sh venv engine programs images versions browser
	@ran=; part() { $(BIN)/pytest "$$@" $(PYTEST_ARGS) && ran=1 || { code=$$?; [[ $$code == $(if $(strip $(PYTEST_ARGS)),5,-) ]] || exit $$code; }; }; \
	  part tests -m 'not engine' -n 2 --dist loadfile; \
	  part tests -m engine; \
	  part suites --assay-tier smoke --assay-allow-unknown=5; \
	  [[ $$ran ]] || { echo "no test was asked for by PYTEST_ARGS='"$(PYTEST_ARGS)"'"; exit 5; }

unit: venv ## only those tests of the harness that need no engine
	@$(BIN)/pytest tests -m 'not engine' -n 2 --dist loadfile $(PYTEST_ARGS)

check: venv ## ruff, mypy, import-linter, length of files, documentation
	@echo "ruff check"; $(BIN)/ruff check .
	@echo "ruff format"; $(BIN)/ruff format --check .
	@echo "mypy --strict"; $(BIN)/mypy --strict
	@echo "import-linter"; out=$$($(BIN)/lint-imports --no-cache) || { echo "$$out"; exit 1; }; tail -n 1 <<<"$$out"
	@echo "files of at most 400 lines"; \
	  find harness -name '*.py' -exec awk 'END { if (NR > 400) { print FILENAME ": " NR " lines: split it along a noun"; exit 1 } }' {} \; \
	  | { ! grep .; }
	@if [[ -d tests/docs ]]; then echo "documentation"; $(BIN)/pytest -q tests/docs; fi

format: venv ## let ruff sort and format
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

stop: ## end the dockerd that set-up started, and no other
	@docker/engine.sh stop

clean: ## remove caches and runs; the venv and the published reference report stay
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	@if [[ -d reports ]]; then find reports -mindepth 1 -maxdepth 1 -not -name reference -not -name '.git*' -exec rm -rf {} +; fi
