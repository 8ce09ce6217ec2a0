# The whole interface: demo, test, check, bench, bench-history, soak, faults. The first run makes .venv; later ones install nothing and need no network.
PYTHON ?= python3
BIN := .venv/bin
SOAK_SECONDS ?= 600
ROUNDS ?= 50

.PHONY: demo test check bench bench-history soak faults format clean

.venv: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: .venv
	$(BIN)/raftpay demo

test: .venv
	$(BIN)/python -m pytest

check: .venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv
	$(BIN)/python -m bench

# Millions of transfers: rate, memory, disk, restarts, a node that lost its disk.
bench-history: .venv
	$(BIN)/python -m bench.history

# Fresh seeds of the simulator on all cores.
soak: .venv
	$(BIN)/raftpay sim --for $(SOAK_SECONDS)

# Real processes: kills, at each step of what changes the disk too, pauses, lost disks, clocks, cut networks, lost packets, full disks. As root all kinds, else those that signals bring.
faults: .venv
	$(BIN)/python -m tests.faults --rounds $(ROUNDS)
	$(BIN)/python -m tests.failpoints

format: .venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv demo-out bench-out .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
