# Two commands do all: `make demo` and `make test`. Both build .venv when it is missing or out of date.
PYTHON ?= python3
# Extra arguments for pip, for example an index with CPU builds of torch.
PIP_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
DEMO := demo

# The machine with a GPU has a Python with torch, nvcc, and no lat-export: nothing is installed there.
GPU_PYTHON ?= python3
CUDA_ARCHS ?= native
# Which of benchmarks/gpu; BENCH_ARGS are the options of one.
GPU_BENCH ?= $(filter-out race dense,$(basename $(notdir $(wildcard benchmarks/gpu/*.py))))
LAT_COMMIT ?= $(shell git rev-parse HEAD 2> /dev/null)
export LAT_COMMIT
GPU_PYTEST := -m pytest -c /dev/null --rootdir tests/gpu --confcutdir tests/gpu -p no:cacheprovider -p gpu.runs -q tests/gpu

.PHONY: demo test test-ray docs triton-server check format golden plugins sanitize sanitize-runner clean gpu-library gpu-test gpu-bench gpu-engines gpu-engines-carry

demo: $(READY) plugins
	$(BIN)/lat-export doctor
	$(BIN)/lat-export model golden/longformer/question-answering/checkpoint --to trt --out $(DEMO)/longformer-qa --force
	$(BIN)/lat-export inspect $(DEMO)/longformer-qa
	$(BIN)/lat-export bench $(DEMO)/longformer-qa --tokens 256 --repeat 10 --no-profile

# Types are checked on one core and the server is fetched while the plugins are compiled. An error of one ends it all.
test: $(READY)
	+$(MAKE) --jobs=3 --output-sync=target check plugins triton-server
	$(BIN)/python -m pytest

# A real Triton Inference Server for its tests, in an environment of its own; where there is none, they say why.
triton-server: $(READY)
	$(BIN)/python tests/deploy/triton_environment.py build/triton-server $(PIP_ARGS)

# The pages of docs/ as a site in build/site; a warning is an error.
docs: $(READY)
	$(BIN)/python docs/write_help.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Documents on a Ray cluster of two nodes in this machine. `make test` skips these where ray is not installed: it takes
# 620 MB with what it needs, and a process for each of its services.
test-ray: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --editable '.[ray]'
	$(BIN)/python -m pytest -n0 tests/documents/test_document_ray.py

# Native ops, where there is what it takes to build them; everything else works without.
plugins: $(READY)
	@if command -v cmake > /dev/null && command -v ninja > /dev/null && command -v c++ > /dev/null; then $(BIN)/lat-export plugins build; \
	else echo "native ops are left out: they need cmake, ninja and a C++17 compiler; all runs as ONNX function bodies"; fi

# The kernels' own tests with AddressSanitizer and UndefinedBehaviorSanitizer, then with ThreadSanitizer; then compiled
# for aarch64, and run where there is an emulator.
sanitize:
	for checks in address,undefined thread; do \
	  cmake -S plugins -B build/sanitize-$$checks -G Ninja -DLAT_SANITIZE=$$checks -DLAT_WITHOUT_ORT=ON && \
	  cmake --build build/sanitize-$$checks && ctest --test-dir build/sanitize-$$checks --output-on-failure || exit 1; \
	done
	@if command -v aarch64-linux-gnu-g++ > /dev/null; then \
	  cmake -S plugins -B build/aarch64 -G Ninja --toolchain cmake/aarch64.cmake -DLAT_WITHOUT_ORT=ON && \
	  cmake --build build/aarch64 && \
	  if command -v qemu-aarch64 > /dev/null; then ctest --test-dir build/aarch64 --output-on-failure; \
	  else echo "compiled for aarch64 but not run: no qemu-aarch64 (apt install qemu-user)"; fi; \
	else echo "aarch64 is not checked: no aarch64-linux-gnu-g++ (apt install g++-aarch64-linux-gnu)"; fi

# The edge runner's C ABI under threads and bad calls, with AddressSanitizer (leaks too) and UndefinedBehaviorSanitizer.
sanitize-runner: $(READY) plugins
	$(BIN)/lat-export model golden/longformer/text-classification/checkpoint --to onnx --out build/runner-sanitize/bundle --force
	$(BIN)/lat-export bundle build/runner-sanitize/bundle --format edge --out build/runner-sanitize/device --force
	cmake -S runner -B build/runner-sanitize/build -G Ninja -DLAT_RUNNER_TESTS=ON -DLAT_SANITIZE=address,undefined
	cmake --build build/runner-sanitize/build --target runner_test lat_edge
	build/runner-sanitize/build/runner_test build/runner-sanitize/device
	build/runner-sanitize/build/lat_edge --folder build/runner-sanitize/device --check

gpu-library:
	cmake -S plugins -B build/cuda -G Ninja -DLAT_WITHOUT_ORT=ON -DLAT_FETCH_HEADERS=OFF "-DLAT_CUDA_ARCHS=$(CUDA_ARCHS)"
	cmake --build build/cuda --target lat_contents

# On a machine with an NVIDIA GPU: the kernels against float64, then fewer cases under the compute sanitizer. torch's
# allocator would hide what is read or written beside a tensor. What passed, and where, goes to $$OUT/gpu_runs.json.
gpu-test: gpu-library
	PYTHONPATH=exporter:tests $(GPU_PYTHON) $(GPU_PYTEST)
	for tool in memcheck racecheck; do \
	  PYTHONPATH=exporter:tests LAT_GPU_CASES=small PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
	    compute-sanitizer --tool $$tool --error-exitcode 1 --kernel-name kns=3lat $(GPU_PYTHON) $(GPU_PYTEST) -k "not graph" || exit 1; \
	done

gpu-bench: gpu-library
	for bench in $(GPU_BENCH); do \
	  PYTHONPATH=exporter:tests:benchmarks/gpu $(GPU_PYTHON) benchmarks/gpu/$$bench.py $(BENCH_ARGS) || exit 1; \
	done

# TensorRT-RTX engines of all golden models on a machine with a GPU: the first here, the second there (docs/gpu.md).
gpu-engines-carry: $(READY)
	$(BIN)/python benchmarks/engines/carry.py --out build/gpu-engines

gpu-engines:
	PYTHONPATH=exporter $(GPU_PYTHON) benchmarks/engines/run.py --carried build/gpu-engines $(ENGINES_ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: $(READY)
	for recipe in golden/*/recipe.json; do $(BIN)/lat-export golden make $$(dirname $$recipe) || exit 1; done

clean:
	rm -rf $(VENV) $(DEMO) build

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lat-export needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --editable '.[dev,h5,rtx]'
	touch $(READY)
