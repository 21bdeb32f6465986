# What a machine needs: git, make, Python 3.11 or 3.12. Everything else goes into .venv.
# The first that really runs: a version manager's stand-in may be on the path without a Python behind it.
PYTHON ?= $(shell for python in python3.12 python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
RECIPES := chunk_size temperature whisper_models voice_context full_grid seams
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo docs docs-notebooks test test-sagemaker lint screenshots bench bench-gpu results lab moshi pocket clean
.DEFAULT_GOAL := demo

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer on the path: install 3.11 or 3.12, or say make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv

# One stamp per set of packages, renewed when the lists change.
.venv/%.stamp: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[$*]'
	@touch $@

.venv/moshi.stamp: .venv/dev.stamp
	$(INSTALL) -e '.[moshi]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps moshi==0.2.13
	@touch $@

demo: .venv/demo.stamp  ## say an answer, aloud where there is a sound card; writes response.wav
	$(BIN)/csmkit chat "Hello! Can you tell me a joke?" --save response.wav --play auto
	@echo
	@echo "Next, from this folder (or put csmkit on the path once: source $(BIN)/activate):"
	@echo "  $(BIN)/csmkit say 'It costs \$$3.50 at 10:30.' --play auto"
	@echo "  $(BIN)/csmkit chat --play auto --quiet"
	@echo "  make lab"

test: .venv/moshi.stamp .venv/browser.stamp .venv/sweep.stamp .venv/mlflow.stamp .venv/search.stamp .venv/wandb.stamp .venv/docs.stamp  ## all tests that a CPU can run; those in a browser where there is a chromium
	$(BIN)/python -m pytest -q

test-sagemaker:  ## the same with the older line that SageMaker ships, in an environment of its own
	$(PYTHON) -m venv .venv-sagemaker
	.venv-sagemaker/bin/pip install --quiet --disable-pip-version-check -c constraints-sagemaker.txt -e '.[dev,browser,mlflow]'
	.venv-sagemaker/bin/python -m pytest -q

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

screenshots: .venv/browser.stamp .venv/dev.stamp  ## the pictures of the README and the pages: by the tests in a browser, and figures of the codec
	CSMKIT_REQUIRE_BROWSER=1 CSMKIT_SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/test_quickstart_browser.py tests/test_talk_browser.py tests/test_serve_browser.py
	$(BIN)/python -m experiments.pictures

docs-notebooks: .venv/dev.stamp  ## notebooks with their figures as pages of the documentation; after make screenshots
	$(BIN)/python -m experiments.notebook_pages

bench: .venv/moshi.stamp  ## all that a CPU can measure, about an hour, and the tables of it in README and docs/performance.md
	for benchmark in full_size pocket clauses worker frame codec growth load reproducibility rounding; do \
		$(BIN)/python -m experiments.benchmarks.$$benchmark --save results/benchmarks/$$benchmark.json || exit 1; done
	$(BIN)/python -m experiments.benchmarks.tables --write

bench-gpu: .venv/moshi.stamp  ## all that a GPU is asked, in under ten minutes, and the tables of it
	$(BIN)/python -m experiments.benchmarks.gpu_checks --save results/benchmarks/gpu_checks.json
	$(BIN)/python -m experiments.benchmarks.gpu --save results/benchmarks/gpu.json
	$(BIN)/python -m experiments.benchmarks.frame --device cuda --dtype bfloat16 --sizes full --modes eager graph --save results/benchmarks/frame_gpu.json
	$(BIN)/python -m experiments.benchmarks.load --device cuda --sizes full --seconds 8 --speed 1 16 64 --listeners 16 32 64 --rates 4 8 16 24 --save results/benchmarks/load_gpu.json
	$(BIN)/python -m experiments.benchmarks.tables --write

# What is done stays done: stop it at any moment and call it again. All anew: make results SWEEP_OPTIONS=--fresh
results: .venv/dev.stamp  ## all reference sweeps, about 10 minutes on two idle cores, and their figures in experiments/LOG.md
	for recipe in $(RECIPES); do \
		$(BIN)/csmkit sweep experiments/$$recipe.toml --results results/$$recipe --renew --retry-failed $(SWEEP_OPTIONS) || exit 1; done
	$(BIN)/python -m experiments.log

lab: .venv/asr.stamp .venv/eval.stamp .venv/notebook.stamp  ## JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir notebooks $(LAB_OPTIONS)

moshi: .venv/moshi.stamp  ## the second step: moshi, as a codec plugin

docs: .venv/docs.stamp  ## the reference of the public API and the guides, as pages in site/; fails on a link that leads nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pocket: .venv/train.stamp  ## train the bundled models again (hours); see experiments/pocket/README.md
	$(BIN)/python -m experiments.pocket.all

clean:
	rm -rf .venv .venv-sagemaker
