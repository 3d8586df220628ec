# Everything is made in .venv from requirements.lock. Another Python: make setup PYTHON=python3.12
PYTHON ?= python3.11
VENV := .venv/bin
PIP_INSTALL = -m pip install -q --disable-pip-version-check

.PHONY: setup demo test test-all lint bench bench-gpu lock

setup: .venv/.stamp

.venv/.stamp: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(VENV)/python $(PIP_INSTALL) -r requirements.lock
	$(VENV)/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	touch $@

demo: setup
	OMP_NUM_THREADS=1 $(VENV)/python examples/seq2seq.py
	$(VENV)/python examples/data.py dates
	OMP_NUM_THREADS=1 $(VENV)/raytrainer tune tune_configs/demo.yaml

test: setup
	OMP_NUM_THREADS=1 $(VENV)/python -m pytest -m "not slow and not gpu"

test-all: setup
	OMP_NUM_THREADS=1 $(VENV)/python -m pytest

lint: setup
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

BENCHMARKS := startup throughput report_latency shipping checkpoint_stall scale
BENCHMARKS += sweep_throughput sweep_efficiency sweep_many tracking tracking_trials
# Each against a peer, both in one run; on a machine that does nothing else.
bench: setup
	@for each in $(BENCHMARKS); do echo "== $$each"; OMP_NUM_THREADS=1 $(VENV)/python benchmarks/$$each.py || missed=1; \
	done; exit $${missed:-0}

# Where there is a GPU; without one, toy models, whose figures say nothing.
bench-gpu: setup
	$(VENV)/python benchmarks/gpu.py

# The newest versions that fit pyproject.toml, names and versions only; torch stays where TORCH says.
TORCH := 2.13.0
lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python $(PIP_INSTALL) torch==$(TORCH) ".[test,dev]"
	build/lock/bin/python -m pip freeze --all --exclude pip --exclude raytrainer | sed -E 's/\+[a-z0-9.]+$$//' > requirements.lock
