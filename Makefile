# The front door. Every target sets up what it needs, and only that; a second run needs no network.
# docs/build.md explains; `make help` lists.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory --no-builtin-rules

setup := tools/setup.sh
python := .venv/bin/python
# It looks for Bazel when it runs, and so finds one that the recipe's first line has installed.
bazel := tools/bazel
# Our sources, ahead of whatever .venv holds.
export PYTHONPATH := $(CURDIR)/python:$(CURDIR)
# More flags for every Bazel command, such as --jobs=1, and arguments for demo and bench.
export BAZEL_FLAGS ?=
ARGS ?=
# Progress is for people: a log would hold thousands of lines of it.
quiet := --ui_event_filters=-info $(shell [ -t 2 ] || echo --noshow_progress)
# What `make bench` measures: one or both; ARGS go to each.
BENCH ?= embedding lightcc harp
# How long `make soak` keeps each fuzz test and each long test going.
TACO_SOAK_SECONDS ?= 600

# The demo needs no more than the first, and so neither PyTorch nor the time that its headers take.
demo_artefacts := //tf_ops:libtaco_tf.so
artefacts := $(demo_artefacts) //torch_ext:libtaco_torch.so //nccl_plugin:libnccl-net-harp.so //nccl_plugin:libharp-dpdk.so //nccl_plugin/tools/harp_helper:harp-helper
library_files := $(addprefix bazel-bin/,tf_ops/libtaco_tf.so torch_ext/libtaco_torch.so nccl_plugin/libnccl-net-harp.so nccl_plugin/libharp-dpdk.so)
program_files := bazel-bin/nccl_plugin/tools/harp_helper/harp-helper

.PHONY: help
help: ## list the targets
	@echo "make TARGET, where TARGET is one of"
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1 \2/p' $(MAKEFILE_LIST) | while read -r name text; do printf '  %-8s%s\n' "$$name" "$$text"; done
	@echo 'ARGS="..." hands arguments to demo and bench: make demo ARGS="--help"'

.PHONY: demo
demo: demo-libraries ## train with and without dynamic embeddings, side by side
	@$(python) -m taco.cli demo $(ARGS)

.PHONY: demo-harp
demo-harp: harp-tools ## TCP against HARP between two network namespaces, clean and with loss (needs root)
	@$(python) -m benchmarks.harp.demo $(ARGS)

.PHONY: harp-tools
harp-tools:
	@$(setup) build harp venv-run
	@$(bazel) build $(quiet) $(BAZEL_FLAGS) //nccl_plugin:libnccl-net-harp.so //nccl_plugin:libharp-dpdk.so //nccl_plugin/tools/harp_check:harp-check //nccl_plugin/tools/harp_perf:harp-perf //nccl_plugin/tools/harp_soak:harp-soak

.PHONY: build
build: libraries ## the native libraries, into bazel-bin/
	@ls -l $(library_files) $(program_files)

.PHONY: demo-libraries
demo-libraries:
	@$(setup) build venv-run
	@echo "taco: building $(demo_artefacts)" >&2
	@$(bazel) build $(quiet) $(BAZEL_FLAGS) $(demo_artefacts)

.PHONY: libraries
libraries:
	@$(setup) build venv-torch
	@echo "taco: building $(artefacts)" >&2
	@$(bazel) build $(quiet) $(BAZEL_FLAGS) $(artefacts)

.PHONY: test
test: ## every test, and the cores' under the sanitizers
	@$(setup) build test venv-torch venv-dev
	@$(python) tools/run_tests.py

.PHONY: soak
soak: ## the long fuzz, property and race tests (TACO_SOAK_SECONDS each, 600)
	@$(setup) build test soak venv-torch venv-dev
	@TACO_SOAK_SECONDS=$(TACO_SOAK_SECONDS) $(python) tools/run_tests.py --soak

.PHONY: bench
bench: $(addprefix bench-,$(BENCH)) ## our speed beside its peers', in one run (BENCH="embedding lightcc harp")

.PHONY: bench-embedding
bench-embedding: demo-libraries
	@$(python) -m benchmarks.embedding $(ARGS)

.PHONY: bench-lightcc
bench-lightcc: libraries
	@$(setup) bench venv-bench
	@$(python) -m benchmarks.lightcc $(ARGS)

.PHONY: bench-harp
bench-harp: harp-tools
	@$(python) -m benchmarks.harp $(ARGS)

.PHONY: wheel
wheel: ## one wheel with every library inside, into dist/
	@$(setup) build venv-torch venv-dev
	@$(MAKE) libraries
	@$(python) tools/build_wheel.py --out dist $(addprefix --program=,$(program_files)) $(library_files)

.PHONY: lint
lint: ## formatting, types, and the dependency laws
	@$(setup) build test venv-torch venv-dev buildifier
	@tools/lint.sh

.PHONY: format
format: ## rewrite the sources in the style that lint wants
	@$(setup) build venv-dev buildifier
	@tools/lint.sh --fix

.PHONY: lock
lock: ## pin requirements/*.in anew
	@$(setup) build venv-run
	@tools/lock.sh

.PHONY: clean
clean: ## remove what was built; .venv stays
	@if command -v bazel || command -v bazelisk; then $(bazel) clean $(quiet); fi >/dev/null
	@rm -rf build/stage dist
