# `make help` lists the targets. A variable is set like this: make PYTHON=python3.12 run

.DEFAULT_GOAL := help
.PHONY: help run test check vm vm-test clients bench soak image lock clean

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Tests wait for real programs most of the time, so two processors carry three workers. All tests of a file run in one.
WORKERS := --numprocesses 3 --dist loadfile
LEFT_OUT := system clients console mesh faults security vm

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 10

run: $(VENV)/.run ## start all of Interlock on this machine, with a demo environment (ARGS="--dns-listen …" for more)
	@exec $(BIN)/interlock up --demo $(ARGS)

test: $(VENV)/.dev ## install the programs that the tests need, then run all tests (ARGS="-k names -x" goes to pytest)
	@tests/setup
	@tests/clients/setup some
	@tests/vm/build --if-cached >/dev/null || echo "The tests that need it are skipped." >&2
	@TEST_PYTHON=$(BIN)/python tests/run $(WORKERS) $(ARGS)

check: $(VENV)/.dev ## format, lint, types, import rules, and the tests except tests/system, clients, console, mesh, faults, security and vm
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@TEST_PYTHON=$(BIN)/python tests/run $(WORKERS) $(LEFT_OUT:%=--ignore tests/%) $(ARGS)

vm: ## build the kernel with WireGuard that tests/vm boots, once (root on Debian 12; 16 minutes of processor time)
	@tests/vm/build

vm-test: $(VENV)/.dev vm ## run tests/mesh on that kernel's WireGuard (ARGS="-k faults -x" goes to pytest)
	@tests/setup
	@tests/clients/setup some
	@TEST_WIREGUARD=kernel tests/vm/run --memory 4G $(BIN)/python -m pytest -p no:cacheprovider tests/mesh $(ARGS)

clients: $(VENV)/.dev ## test each client resolver that this machine can install, and write docs/compatibility.md (root)
	@tests/clients/setup
	$(BIN)/python -m tests.clients $(ARGS)

bench: $(VENV)/.dev ## measure, beside Knot DNS
	@tests/setup
	$(BIN)/python -m bench $(ARGS)

soak: $(VENV)/.dev ## an hour of mixed load and store outages: are answers right, and do processes stay level? (ARGS="--minutes 10")
	@tests/setup
	$(BIN)/python -m tests.faults.soak $(ARGS)

image: ## build the image with docker, podman or buildah (BASE=… another base image, IMAGE_FLAGS=… to the engine)
	@BASE='$(BASE)' deploy/image $(IMAGE_FLAGS)

lock: $(VENV)/.dev ## update the pinned versions of what the image is made of: requirements*.lock
	@deploy/venv --own $(VENV) uv
	PYTHON=$(BIN)/python deploy/lock $(BIN)/uv

clean: ## remove the files that make has made here; the data of `make run` is elsewhere and stays
	rm -rf $(VENV) dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp file records an installation, which is repeated when pyproject.toml changes.
$(VENV)/.run: pyproject.toml
	@echo "Installing Interlock into $(VENV) …"
	@PYTHON='$(PYTHON)' deploy/venv --own $(VENV) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml
	@echo "Installing Interlock and its tests into $(VENV) …"
	@PYTHON='$(PYTHON)' deploy/venv --own $(VENV) --editable '.[check,test]'
	@touch $@ $(VENV)/.run
