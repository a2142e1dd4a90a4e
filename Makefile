# `make` alone lists the targets. Pass options on with ARGS: make test ARGS="-k inbox -x"
.DEFAULT_GOAL := help
.PHONY: help run install uninstall prove test check bench lock clean
MAKEFLAGS += --no-print-directory

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# `exec`: Python is make's own child, so that a signal to make reaches it.
run: ## start a small colony on this machine and try it; Ctrl-C ends it
	@bin/prepare runtime
	@exec .venv/bin/python -m colony_agent.demo $(ARGS)

install: ## make this machine a host of agents, or bring it up to date: sudo make install (ARGS="--dry-run")
	@exec bin/install $(ARGS)

uninstall: ## take the colony off this machine; data stay unless ARGS=--purge, said at once or later
	@exec bin/uninstall $(ARGS)

prove: ## kill a private colony in every way and see what is lost (ARGS="--kills 1000")
	@bin/prepare runtime
	@exec .venv/bin/colony prove $(ARGS)

test: ## run the tests
	@bin/prepare test
	@exec .venv/bin/pytest -n auto --dist worksteal $(ARGS)

check: ## lint, types and who may import whom
	@bin/prepare test
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy --strict
	.venv/bin/lint-imports --no-logo

bench: ## measure against the budgets and the peers
	@bin/prepare test
	@exec .venv/bin/python -m bench $(ARGS)

# Keeps the pins it finds; ARGS=--upgrade takes the newest. One dev.lock first: the others take its versions.
PIN = .uv/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(ARGS)
lock: ## pin every dependency again, with hashes (ARGS=--upgrade for newer versions)
	@test -x .uv/bin/uv || { python3 -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check uv; }
	$(PIN) pyproject.toml --extra postgres --extra dev --extra bench -o requirements/dev.lock
	$(PIN) pyproject.toml -c requirements/dev.lock -o requirements/runtime.lock
	$(PIN) pyproject.toml -c requirements/dev.lock --extra host --extra postgres -o requirements/host.lock
	$(PIN) --group build -o requirements/build.lock
	$(PIN) --group claude --no-deps -o requirements/claude.lock
	$(PIN) --group synapse -o requirements/synapse.lock

clean: ## remove .venv, caches and what was built; data in var/ stays
	rm -rf .venv .uv .synapse build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
