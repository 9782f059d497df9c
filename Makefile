# Every target first creates its environment. Only Python 3.11, 3.12 or 3.13 (with
# venv) and make are needed. PYTHON=... selects the interpreter, also one that is
# not tested; VENV=... the folder.

VENV ?= .venv
PYTHON ?= $(shell .ci/find-python 3.11 3.12 3.13)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Extras of setup.py to install, such as cuda13 or tpu,gcs. The stamp lists the
# installed ones, so that a later `make test` keeps them.
INSTALLED_EXTRAS := $(shell cat $(STAMP) 2>/dev/null)
EXTRAS ?= $(INSTALLED_EXTRAS)
COMMA := ,
PEERS := $(VENV)/.peers-installed
# Playwright, which opens pages in the system's Chromium; no browser is downloaded.
BROWSER := $(VENV)/.browser-installed
DEMO_DIR ?= runs/demo
# The demo run, and a weaker model whose predictions are new, to be reviewed.
REVIEW_DIR ?= runs/review
REVIEW = $(REVIEW_DIR)/.imported
# TensorFlow, which only preparing data sets needs. Without it tests on the
# prepared synthetic ImageNet skip.
PREPARE := .venv-prepare
# PyTorch with timm and torchvision, the benchmark's baselines.
BENCH_PEERS := .venv-bench-peers
PEER_MODELS := $(BENCH_PEERS)/.imgbench-installed
# XLA's compiler for GPUs, without CUDA: it compiles programs for a GPU that this
# machine lacks. Its tests also need IMGBENCH_TARGET_CONFIG, the description of
# the device (docs/gpu_programs.md).
COMPILE_ONLY := .venv-compile-only
COMPILE_ONLY_PYTHON ?= $(shell .ci/find-python 3.12)
export IMGBENCH_COMPILE_ONLY_PYTHON := \
  $(wildcard $(CURDIR)/$(COMPILE_ONLY)/bin/python)
export IMGBENCH_PREPARE_PYTHON := $(wildcard $(CURDIR)/$(PREPARE)/bin/python)
PYTEST := $(BIN)/python -m pytest -n 2

# Packages and data for a host with an accelerator and without network. KIT: the
# folder; KIT_MB: its largest size in MiB; CIFAR10: data_dir of the prepared
# CIFAR-10; AIRBENCH: a clone of KellerJordan/cifar10-airbench.
KIT ?= kit
KIT_MB ?= 45
CIFAR10 ?=
AIRBENCH ?=
KIT_DATA := build/accelerator-kit
# The packages of such a host, for CPUs, to rehearse the suite.
HOST := .venv-accelerator-host
CHECK_DIR := runs/accelerator-check

.PHONY: help demo review-demo review-demo-check smoke test test-slow test-browser test-all walks \
  test-peers lint types format venv \
  prepare-venv bench-peers compile-only-venv accelerator-kit \
  accelerator-kit-check constraints clean

help:
	@echo "make demo         train and evaluate on the embedded synthetic set"
	@echo "make review-demo  review predictions on it in a browser"
	@echo "make review-demo-check  get every page of that once"
	@echo "make smoke        one fast test of each kind, under a minute"
	@echo "make test         fast tests"
	@echo "make test-browser pages in Chromium (Debian: apt-get install chromium)"
	@echo "make walks        the package as new users install and use it"
	@echo "make test-all     fast and long tests, and pages"
	@echo "make test-peers   comparisons with other libraries (installs them)"
	@echo "make lint         ruff: lint and format check"
	@echo "make types        mypy on the packages that pyproject.toml lists"
	@echo "make format       ruff: fix both"
	@echo "make prepare-venv an environment that can prepare data sets ($(PREPARE))"
	@echo "make bench-peers  an environment with PyTorch models ($(BENCH_PEERS))"
	@echo "make compile-only-venv  XLA's compiler for GPUs ($(COMPILE_ONLY))"
	@echo "make accelerator-kit        files for a host without network ($(KIT))"
	@echo "make accelerator-kit-check  rehearse the accelerator suite with them"
	@echo "make venv         only the environment, in $(VENV);"
	@echo "                  EXTRAS=cuda13 (or cuda12, tpu): for accelerators"
	@echo "make constraints  pin the versions of a fresh resolution"

venv: $(STAMP)

ifneq ($(EXTRAS),$(INSTALLED_EXTRAS))
.PHONY: $(STAMP)
endif

$(STAMP): setup.py imgbench/data/turbo.c $(wildcard requirements/constraints-*.txt)
	@test -n "$(PYTHON)" || { echo "no Python 3.11 to 3.13 was found;" \
	  "install one or give PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv --clear $(VENV) || { echo "python has no venv module;" \
	  "on Debian: apt-get install python3-venv"; exit 2; }
	$(BIN)/python -m pip install --quiet \
	  $$(.ci/pip-constraints $(PYTHON)) \
	  -e '.[test,dev$(if $(EXTRAS),$(COMMA)$(EXTRAS))]'
	@echo '$(EXTRAS)' > $@

prepare-venv: $(PREPARE)/.installed

$(PREPARE)/.installed: setup.py
	$(PYTHON) -m venv --clear $(PREPARE)
	$(PREPARE)/bin/python -m pip install --quiet \
	  $$(.ci/pip-constraints $(PYTHON)) \
	  -e . 'tensorflow-cpu>=2.18'
	@touch $@

# TORCH_INDEX=URL: where the build of PyTorch comes from, if not from pip's
# default, which for Linux is the CUDA one; test-peers takes it too.
bench-peers: $(BENCH_PEERS)/.installed

$(BENCH_PEERS)/.installed: requirements/bench-peers.txt
	$(PYTHON) -m venv --clear $(BENCH_PEERS)
	$(BENCH_PEERS)/bin/python -m pip install --quiet \
	  $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(BENCH_PEERS)/bin/python -m pip install --quiet numpy pillow pyyaml
	$(BENCH_PEERS)/bin/python -m pip install --quiet --no-deps -r $<
	@touch $@

compile-only-venv: $(COMPILE_ONLY)/.installed

$(COMPILE_ONLY)/.installed: requirements/compile-only.txt setup.py \
  requirements/constraints-py312.txt
	@test -n "$(COMPILE_ONLY_PYTHON)" || { echo "no Python 3.12 was found;" \
	  "install it or give COMPILE_ONLY_PYTHON=/path/to/python"; exit 2; }
	$(COMPILE_ONLY_PYTHON) -m venv --clear $(COMPILE_ONLY)
	$(COMPILE_ONLY)/bin/python -m pip install --quiet \
	  -c requirements/constraints-py312.txt -e '.[test]'
	$(COMPILE_ONLY)/bin/python -m pip install --quiet --no-deps -r $<
	@touch $@

accelerator-kit $(KIT)/kit.json: $(KIT_DATA)/data
	$(PREPARE)/bin/python experiments/accelerator/kit.py --out=$(KIT) \
	  --max_mb=$(KIT_MB) --imagenet=$(KIT_DATA)/data \
	  $(if $(CIFAR10),--cifar10=$(CIFAR10)) \
	  $(if $(AIRBENCH),--airbench=$(AIRBENCH))

# Few synthetic pictures, as large as ImageNet's.
$(KIT_DATA)/data: $(PREPARE)/.installed
	rm -rf $(KIT_DATA)
	$(PREPARE)/bin/python -m imgbench.data.fake_imagenet \
	  --out=$(KIT_DATA)/manual --classes=8 --train_per_class=12 --only_base
	$(PREPARE)/bin/python -m imgbench.data.prepare --skip_checksums \
	  --manual_dir=$(KIT_DATA)/manual --data_dir=$(KIT_DATA)/part \
	  --dataset=imagenet2012
	mv $(KIT_DATA)/part $@

accelerator-kit-check: $(STAMP) $(KIT)/kit.json $(HOST)/.installed \
  $(BENCH_PEERS)/.installed
	rm -rf $(CHECK_DIR) $(CHECK_DIR).work
	PYTHON=$(HOST)/bin/python \
	  IMGBENCH_PEERS_PYTHON=$(CURDIR)/$(BENCH_PEERS)/bin/python \
	  sh experiments/accelerator/run.sh $(KIT) --out=$(CHECK_DIR) --tiny
	$(BIN)/python -m experiments.accelerator.results --check=$(CHECK_DIR) \
	  --complete

$(HOST)/.installed: requirements/accelerator-host.txt \
  requirements/constraints-py312.txt
	@test -n "$$(.ci/find-python 3.12)" || { echo "no Python 3.12 was found;" \
	  "install one, the kit is for it"; exit 2; }
	$$(.ci/find-python 3.12) -m venv --clear $(HOST)
	$(HOST)/bin/python -m pip install --quiet \
	  -c requirements/constraints-py312.txt -r $<
	@touch $@

demo: $(STAMP)
	$(BIN)/python -m imgbench.main --config=configs/scenes.py \
	  --workdir=$(DEMO_DIR)
	@echo "report: $(DEMO_DIR)/report.html"

review-demo: $(REVIEW)
	$(BIN)/imgbench review serve --db=$(REVIEW_DIR)/demo.db

review-demo-check: $(REVIEW)
	$(BIN)/python -m tests.review.demo_check $(REVIEW_DIR)/demo.db

$(REVIEW): $(STAMP)
	test -e $(DEMO_DIR)/report.html || $(MAKE) demo
	rm -rf $(REVIEW_DIR)
	$(BIN)/imgbench train --config=scenes --workdir=$(REVIEW_DIR)/second \
	  --config.steps.total="20 steps" --config.evaluation.sets.train_clean=
	$(BIN)/imgbench review init --db=$(REVIEW_DIR)/demo.db \
	  --classes=$(DEMO_DIR)
	$(BIN)/imgbench review import --db=$(REVIEW_DIR)/demo.db \
	  --annotations=$(DEMO_DIR) --predictions=demo=$(DEMO_DIR) \
	  --predictions=second=$(REVIEW_DIR)/second --campaign="New predictions"
	$(BIN)/imgbench review guide import imgbench/scenes/guide \
	  --db=$(REVIEW_DIR)/demo.db
	for mode in training evaluation; do \
	  $(BIN)/imgbench review tasks --db=$(REVIEW_DIR)/demo.db --create="Scenes, $$mode" \
	    --mode=$$mode --dataset=scenes:validation --sample=20 || exit 1; done
	@touch $@

test: $(STAMP)
	$(PYTEST)

smoke: $(STAMP)
	$(PYTEST) -m smoke --dist=loadfile --durations=5

# A file stays on one worker: its tests share a run, a bucket or a cluster.
test-slow: $(STAMP)
	$(PYTEST) -m slow --dist=loadfile --no-loadscope-reorder

# Needs Python 3.11, which has CPU builds of all of them. Networks are compared in
# the environment with torchvision: torchmetrics would import it, and with a CPU
# build of PyTorch it lacks some operators.
test-peers: $(PEERS) $(PEER_MODELS)
	$(BIN)/python -m pytest -m peers tests/peers
	IMGBENCH_PEERS_PYTHON=$(BENCH_PEERS)/bin/python \
	  $(BENCH_PEERS)/bin/python -m pytest -m peers \
	  tests/peers/models_test.py tests/peers/torch_peer_test.py

$(PEERS): $(STAMP) requirements/peers.txt
	$(BIN)/python -m pip install --quiet -r requirements/peers.txt
	@touch $@

$(PEER_MODELS): $(BENCH_PEERS)/.installed setup.py imgbench/data/turbo.c \
  $(wildcard requirements/constraints-*.txt)
	$(BENCH_PEERS)/bin/python -m pip install --quiet \
	  $$(.ci/pip-constraints $(PYTHON)) -e '.[test]'
	@touch $@

test-browser: $(BROWSER)
	IMGBENCH_BROWSER=1 $(BIN)/python -m pytest -m "browser or not slow" \
	  tests/browser tests/review/study_test.py

$(BROWSER): $(STAMP)
	$(BIN)/python -m pip install --quiet \
	  $$(.ci/pip-constraints $(BIN)/python) -e '.[browser]'
	@touch $@

# The last two mostly wait for a browser or for pip, so they run together.
test-all: test test-slow $(BROWSER)
	$(MAKE) -j 2 --output-sync=target test-browser walks

# Wheel and source distribution, installed in clean environments and used in
# empty folders.
walks: $(STAMP)
	PYTHON=$(CURDIR)/$(BIN)/python tests/walks/all.sh

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: $(STAMP)
	$(BIN)/python -m mypy

format: $(STAMP)
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# Names and versions only, as pip resolves setup.py's ranges.
constraints:
	for version in 3.11 3.12 3.13; do .ci/make-constraints $$version || exit 1; done

clean:
	rm -rf $(VENV) $(PREPARE) $(BENCH_PEERS) $(COMPILE_ONLY) $(HOST) $(KIT) \
	  build *.egg-info \
	  .pytest_cache .ruff_cache .mypy_cache imgbench/data/_turbo*
