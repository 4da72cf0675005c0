# `make demo` and `make test` on a machine with only Python 3.11, git and make. `make help` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export MLFLOW_DISABLE_TELEMETRY = true
export DO_NOT_TRACK = 1
export DVC_NO_ANALYTICS = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
bin := .venv/bin
export PATH := $(CURDIR)/$(bin):$(PATH)

.PHONY: help demo test lint down test-mxnet real-faces ablations browser faults machines machines-s3 deps quality-real-faces bench-quality clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# one stamp for both commands: installing twice would cost minutes
.venv/installed: constraints.txt pyproject.toml
	test -x $(bin)/python || $(PYTHON) -m venv .venv
	$(bin)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

demo: .venv/installed  ## one ablation table, end to end, on the embedded data
	$(bin)/facet demo

down: .venv/installed  ## stop the servers that `make demo` left running
	$(bin)/facet down

lint: .venv/installed  ## ruff, import layers, types
	$(bin)/ruff check .
	$(bin)/lint-imports
	$(bin)/mypy

test: lint  ## lint, types, tests
	$(bin)/python -m pytest

.venv-mxnet/installed:
	test -x .venv-mxnet/bin/python || $(PYTHON) -m venv .venv-mxnet
	.venv-mxnet/bin/python -m pip install --quiet 'mxnet==1.9.1' 'numpy==1.23.5'
	touch $@

test-mxnet: .venv/installed .venv-mxnet/installed  ## RecordIO both ways against mxnet 1.9.1
	FACET_MXNET_PYTHON=$(CURDIR)/.venv-mxnet/bin/python $(bin)/python -m pytest -m mxnet tests

ablations: .venv/installed  ## every table of the documents, 50 minutes; SEEDS=0,1,2 TABLES="..." PROFILE=faces REPORT=folder
	$(bin)/facet ablations $(TABLES) --profile $(or $(PROFILE),demo) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(REPORT),--report $(REPORT))

# pictures of invented numbers do not replace those of a table that ran
browser: pictures = $(if $(FACET_BROWSER),docs/images,.facet/pictures)
browser: .venv/installed  ## MLflow's pages in a headless Chromium (`chromium` of Debian), pictures into .facet/pictures; half a minute
	$(bin)/python -m pip install --quiet -c constraints.txt -e '.[browser]'
	mkdir -p $(pictures)
	FACET_SCREENSHOTS=$(CURDIR)/$(pictures) $(bin)/python -m pytest -m browser tests/browser

faults: .venv/installed  ## kill one process after another, fill disks: docs/faults.md, some minutes
	FACET_FAULTS=$(CURDIR)/docs/faults.md $(bin)/python -m pytest -m faults tests/faults

machines: .venv/installed  ## the proof over several clones, into docs/machines.md, and restarts; ten minutes
	$(bin)/python -m tests.machines.proof --write docs/machines.md
	FACET_FULL=1 $(bin)/python -m pytest tests/machines tests/pipeline/test_pool.py -k "survives or never_comes or stopped"

machines-s3: .venv/installed  ## the same with an S3-compatible server as the DVC remote
	$(bin)/python -m pip install --quiet -c constraints.txt -e '.[s3]' 'moto[server]'
	$(bin)/python -m tests.machines.proof --s3 --write docs/machines.md

deps: .venv/installed  ## write what the stages really import into the deps of dvc.yaml
	$(bin)/python -m tests.deps

real-faces: .venv/installed  ## docs/real-faces.md in full, some minutes; wants ../shared/faces or FACET_FACES
	FACET_FULL=1 $(bin)/python -m pytest -s tests/test_real_faces.py -k 80_percent

quality-real-faces: .venv/installed  ## real faces degraded in known steps, docs/quality.md's table; two minutes, wants ../shared
	OMP_NUM_THREADS=1 $(bin)/python benchmarks/quality_real_faces.py --images 400 --training 4000

bench-quality: .venv/installed  ## what a quality head adds to a training step; three minutes alone
	OMP_NUM_THREADS=1 $(bin)/python benchmarks/bench_quality_step.py

clean:  ## remove the environments (data and results stay)
	rm -rf .venv .venv-mxnet
