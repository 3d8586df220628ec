# Everything is made in .venv from requirements.lock. Another Python: make setup PYTHON=python3.12
PYTHON ?= python3.11
VENV := .venv/bin
PIP_INSTALL = -m pip install -q --disable-pip-version-check

.PHONY: setup demo test test-all coverage mutate lint docs bench bench-gpu lock wheel test-wheel test-lowest test-newest

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

# Without Ray on two processes. Those with Ray wait for its processes with limits in seconds: one after the other.
PYTEST := OMP_NUM_THREADS=1 $(VENV)/python -m pytest
ON_TWO := -n 2 --dist loadfile
QUICK := not slow and not gpu
test: setup
	$(PYTEST) $(ON_TWO) tests/unit -m "$(QUICK) and not trains"
	$(PYTEST) $(ON_TWO) tests/unit -m "$(QUICK) and trains"
	$(PYTEST) tests/ray tests/e2e -m "$(QUICK)"

test-all: setup
	OMP_NUM_THREADS=1 $(VENV)/python -m pytest

# Which lines make test runs, on the driver, on Ray's workers and in programs that tests start.
MEASURED := COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/build/coverage/data
coverage: setup
	rm -rf build/coverage && mkdir -p build/coverage
	$(MEASURED) PYTHONPATH=$(CURDIR)/tests/measured $(MAKE) test
	$(MEASURED) $(VENV)/coverage combine -q
	$(MEASURED) $(VENV)/coverage report

# Whether the tests tell each pure decision from one that is changed in one place.
mutate: setup
	OMP_NUM_THREADS=1 $(VENV)/python -m tests.mutate

# The sdist, and the wheel that is built from it; nothing is downloaded, setuptools is the lock's.
wheel: setup
	rm -rf dist
	$(VENV)/python -m build --no-isolation

# The wheel in an empty environment, away from this folder; and what each extra resolves to.
test-wheel: setup
	$(VENV)/python -m pytest tests/e2e/test_wheel.py

lint: setup
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

# In build/site, to be read from there: no page may load anything from elsewhere.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs build --strict
	! grep -rnE '<(script|link|img|iframe)[^>]+(src|href)="(https?:)?//' build/site --include='*.html'

BENCHMARKS := startup throughput report_latency shipping checkpoint_stall scale
BENCHMARKS += sweep_throughput sweep_efficiency sweep_many tracking tracking_trials
# Each against a peer, both in one run; on a machine that does nothing else. A table of goals at the end: a goal that is
# missed is told there, a benchmark that breaks is an error.
# Some of them: make bench BENCHMARKS="startup throughput"
FIGURES := build/figures
bench: setup
	@rm -rf $(FIGURES)
	@for each in $(BENCHMARKS); do echo "== $$each"; OMP_NUM_THREADS=1 $(VENV)/python benchmarks/$$each.py \
	--json $(FIGURES)/$$each.json; done; $(VENV)/python benchmarks/table.py $(FIGURES) $(BENCHMARKS)

# Where there is a GPU; without one, toy models, whose figures say nothing.
bench-gpu: setup
	$(VENV)/python benchmarks/gpu.py

# Environments of their own, in build/, with the lowest and the newest versions that pyproject.toml allows; all unit
# tests, and some that train. torch is TORCH in both, for which pip finds a CPU build here: LOWEST_TORCH=2.8.0 where
# there is an index with one.
LOWEST_PYTHON ?= $(PYTHON)
LOWEST_TORCH ?= $(TORCH)
VERSION_TESTS ?= tests/unit tests/ray/test_run.py tests/ray/test_resume.py \
	tests/e2e/test_train.py::test_a_config_leaves_a_run tests/e2e/test_tune.py
test-lowest: setup
	rm -rf build/lowest
	$(LOWEST_PYTHON) -m venv build/lowest
	$(VENV)/python -m tests.floors torch==$(LOWEST_TORCH) > build/lowest/floors.txt
	build/lowest/bin/python $(PIP_INSTALL) -c build/lowest/floors.txt -e ".[test]"
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest -m "not slow and not gpu" $(VERSION_TESTS)

test-newest: setup
	rm -rf build/newest
	$(PYTHON) -m venv build/newest
	build/newest/bin/python $(PIP_INSTALL) torch==$(TORCH) -e ".[test]"
	OMP_NUM_THREADS=1 build/newest/bin/python -m pytest -m "not slow and not gpu" $(VERSION_TESTS)

# The newest versions that fit pyproject.toml, names and versions only; torch stays where TORCH says.
TORCH := 2.13.0
lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python $(PIP_INSTALL) torch==$(TORCH) ".[test,docs,dev]"
	build/lock/bin/python -m pip freeze --all --exclude pip --exclude raytrainer | sed -E 's/\+[a-z0-9.]+$$//' > requirements.lock
