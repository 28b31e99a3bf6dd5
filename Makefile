# `make help` lists what can be made. A variable: make PYTHON=python3.12 run

.DEFAULT_GOAL := help
.PHONY: help run test check clients bench image lock clean

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

help: ## list what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

run: $(VENV)/.run ## start all of Interlock on this machine, with a demo environment (ARGS="--dns-listen …" for more)
	@exec $(BIN)/interlock up --demo $(ARGS)

test: $(VENV)/.dev ## install what the tests need, then run all of them (ARGS="-k names -x" goes to pytest)
	@tests/setup
	@tests/clients/setup some
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## format, lint, types, arrows, and the tests but those of whole systems, clients and meshes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --ignore tests/system --ignore tests/clients --ignore tests/mesh $(ARGS)

clients: $(VENV)/.dev ## run every client resolver that this machine can have, and write docs/compatibility.md (root)
	@tests/clients/setup
	$(BIN)/python -m tests.clients $(ARGS)

bench: $(VENV)/.dev ## measure, beside Knot DNS
	@tests/setup
	$(BIN)/python -m bench $(ARGS)

image: ## build the image with docker, podman or buildah (BASE=… another base image, IMAGE_FLAGS=… to the engine)
	@BASE='$(BASE)' deploy/image $(IMAGE_FLAGS)

lock: $(VENV)/.dev ## pin anew what the image is made of: requirements*.lock
	@deploy/venv $(VENV) uv
	PYTHON=$(BIN)/python deploy/lock $(BIN)/uv

clean: ## remove what was made here; the data of `make run` lies elsewhere and stays
	rm -rf $(VENV) dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp stands for what is installed, and is made anew when pyproject.toml changes.
$(VENV)/.run: pyproject.toml
	@echo "Installing Interlock into $(VENV) …"
	@PYTHON='$(PYTHON)' deploy/venv $(VENV) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml
	@echo "Installing Interlock and its tests into $(VENV) …"
	@PYTHON='$(PYTHON)' deploy/venv $(VENV) --editable '.[check,test]'
	@touch $@ $(VENV)/.run
