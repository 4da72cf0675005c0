# `make demo` and `make test` on Linux with Python 3.11, 3.12 or 3.13, git and make. `make help` lists the rest.
ifneq ($(shell uname -s),Linux)
$(error facet needs Linux and this is $(shell uname -s): use WSL 2 on Windows, a container or a virtual machine elsewhere)
endif
VENV ?= .venv
bin := $(VENV)/bin
# the first that starts: pyenv puts programs on PATH that end with an error
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do $$python -c \
	'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; done)
# a uv that pyproject.toml takes, else one in a folder of its own
uv := $(shell uv python dir >/dev/null 2>&1 && command -v uv || echo .venv-uv/bin/uv)
# which build of torch: what was asked for when the environment was made, unless it is set
UV_TORCH_BACKEND ?= $(shell cat $(VENV)/installed 2>/dev/null)
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export MLFLOW_DISABLE_TELEMETRY = true
export DO_NOT_TRACK = 1
export DVC_NO_ANALYTICS = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# the certificates of the machine: behind a company's proxy no others will do
export UV_SYSTEM_CERTS = 1
export PATH := $(abspath $(bin)):$(PATH)

.PHONY: help install demo test check quick lint down test-mxnet real-faces ablations site browser faults operations fuzz soak machines machines-s3 cluster audit reference deps quality-real-faces bench-quality lock locked clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

locked_torch = $(shell sed -n '/^name = "torch"$$/{n;s/version = "\(.*\)"/torch==\1/p}' uv.lock)

# Not `uv sync`: it takes every file from PyPI itself, past a mirror, and knows nothing of UV_TORCH_BACKEND. Where that is
# set, torch comes from PyTorch's own index, and the CUDA libraries that PyPI's torch brings are left out.
define install
	$(uv) export --quiet --frozen --python $(bin)/python --no-emit-project $(1) \
		$(if $(UV_TORCH_BACKEND),--prune torch) --output-file $(VENV)/locked.txt
	$(uv) pip install --python $(VENV) --no-deps --require-hashes --requirements $(VENV)/locked.txt
	$(if $(UV_TORCH_BACKEND),$(uv) pip install --python $(VENV) --torch-backend $(UV_TORCH_BACKEND) $(locked_torch))
	$(uv) pip install --quiet --python $(VENV) --no-deps --editable .
	cp pipeline/base/facet_path.pth "$$($(bin)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
endef

# pip before 24.2 knows neither the machine's certificates nor SSL_CERT_FILE: Debian's and Red Hat's places are given to it
certificates := $(firstword $(wildcard $(SSL_CERT_FILE) /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt))
.venv-uv/bin/uv:
	@test -n "$(PYTHON)" || { echo 'facet needs Python 3.11, 3.12 or 3.13 and none is on PATH: install one, or name it: make PYTHON=/path/to/python3.12'; exit 1; }
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet $(certificates:%=--cert %) 'uv>=0.13,<0.14'

# one stamp for all commands; it says which build of torch was asked for
$(VENV)/installed: uv.lock pyproject.toml | $(uv)
	test -x $(bin)/python || $(uv) venv --quiet --seed $(PYTHON:%=--python %) $(VENV)
	$(call install,--extra test)
	echo '$(UV_TORCH_BACKEND)' > $@

install: $(VENV)/installed  ## the environment only; EXTRAS="s3 brisque" adds to it
	$(if $(EXTRAS),$(call install,--extra test $(EXTRAS:%=--extra %)))

demo: $(VENV)/installed  ## one ablation table, end to end, on the synthetic data
	$(bin)/facet demo

down: $(VENV)/installed  ## stop the servers that `make demo` left running
	$(bin)/facet down

lint: $(VENV)/installed locked  ## ruff, import layers, types, uv.lock
	$(bin)/ruff check .
	$(bin)/lint-imports
	$(bin)/mypy

# workers of pytest; JOBS=0 runs the tests in pytest's own process. ORDER=--random-order-seed=N repeats the order of another run
JOBS ?= 2
ORDER ?= --random-order
# the tests of a file share what it makes; files of long tests come first (tests/conftest.py)
pytest := $(bin)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: lint  ## lint, types, all tests
	$(pytest) $(ORDER)

check: $(VENV)/installed  ## lint, types and the tests that are not slow; run it before each commit
	@$(MAKE) --no-print-directory -j 2 lint quick

quick: $(VENV)/installed
	HYPOTHESIS_PROFILE=check $(pytest) $(ORDER) -m 'not slow' --durations=5

# mxnet 1.9.1 goes with no newer numpy, and that numpy with no newer Python
.venv-mxnet/installed: | $(uv)
	test -x .venv-mxnet/bin/python || $(uv) venv --quiet --python 3.11 .venv-mxnet
	$(uv) pip install --python .venv-mxnet 'mxnet==1.9.1' 'numpy==1.23.5'
	touch $@

test-mxnet: $(VENV)/installed .venv-mxnet/installed  ## compare RecordIO reading and writing with mxnet 1.9.1
	FACET_MXNET_PYTHON=$(CURDIR)/.venv-mxnet/bin/python $(bin)/python -m pytest -m mxnet tests

ablations: $(VENV)/installed  ## all tables of the papers (50 minutes); SEEDS=0,1,2 TABLES="..." SCALE=faces REPORT=folder
	$(bin)/facet ablations $(TABLES) --scale $(or $(SCALE),demo) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(REPORT),--report $(REPORT))

site: $(VENV)/installed  ## the pages as a site, in site/; strict: a link that leads nowhere fails
	$(call install,--extra test --extra docs)
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict --quiet

# pictures of invented numbers do not replace those of a table that ran
browser: pictures = $(if $(FACET_BROWSER),docs/images,.facet/pictures)
browser: $(VENV)/installed  ## test MLflow's pages in a headless Chromium (`chromium` of Debian), with pictures in .facet/pictures (half a minute)
	$(call install,--extra test --extra browser)
	mkdir -p $(pictures)
	FACET_SCREENSHOTS=$(CURDIR)/$(pictures) $(bin)/python -m pytest -m browser tests/browser

faults: $(VENV)/installed  ## kill each process, fill disks, write docs/faults.md (some minutes)
	FACET_FAULTS=$(CURDIR)/docs/faults.md $(bin)/python -m pytest -m faults tests/faults

operations: $(VENV)/installed  ## fail each file operation of everything that writes, write docs/operations.md (half an hour)
	$(bin)/python -m tests.operations.table --write docs/operations.md

# another seed each time, which is printed: SEED=7 repeats one
fuzz: $(VENV)/installed  ## read mutated files with every reader: INPUTS=1000000 within MINUTES=60; ONLY=".bin" SEED=7 KEEP=folder
	$(bin)/python -m tests.fuzz --inputs $(or $(INPUTS),1000000) --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED)) \
		$(if $(ONLY),--only $(ONLY)) $(if $(KEEP),--keep $(KEEP)) --write docs/damaged-files.md

soak: $(VENV)/installed  ## disturb one run after another for MINUTES=60: kill, stop, starve, edit; SEED=7; curves in .facet/soak
	$(bin)/python -m tests.faults.soak --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED))

machines: $(VENV)/installed  ## run over several clones, write the transcript in docs/machines.md (ten minutes)
	$(bin)/python -m tests.machines.proof --write docs/machines.md
	FACET_FULL=1 $(bin)/python -m pytest tests/machines -k survives

machines-s3: $(VENV)/installed  ## as machines, with an S3-compatible server as the DVC remote
	$(call install,--extra test --extra s3-test)
	$(bin)/python -m tests.machines.proof --s3 --write docs/machines.md

cluster: $(VENV)/installed  ## run deploy/compose.yaml's servers on PostgreSQL (Debian's) and an S3 store, with a pool and four of the papers' tables (half an hour)
	$(call install,--extra test --extra s3-test --extra postgres)
	$(bin)/python -m pytest -m cluster tests/cluster

audit: | $(uv)  ## compare uv.lock with known advisories (asks api.osv.dev)
	$(uv) audit --frozen --preview-features audit-command

reference: $(VENV)/installed  ## write docs/params.md and docs/commands.md from the models and the program
	$(bin)/python -m tests.docs.reference

deps: $(VENV)/installed  ## write what each stage imports to the deps of dvc.yaml and graph/
	$(bin)/python -m tests.deps

real-faces: $(VENV)/installed  ## run docs/real-faces.md (some minutes); needs ../shared/faces or FACET_FACES
	FACET_FULL=1 $(bin)/python -m pytest -s tests/test_real_faces.py -k 80_percent

quality-real-faces: $(VENV)/installed  ## measure the table of degraded real faces in docs/quality.md (two minutes); needs ../shared
	OMP_NUM_THREADS=1 $(bin)/python benchmarks/quality_real_faces.py --images 400 --training 4000

bench-quality: $(VENV)/installed  ## measure what a quality head adds to a training step (three minutes on an idle machine)
	OMP_NUM_THREADS=1 $(bin)/python benchmarks/bench_quality_step.py

# PyPI by name: a mirror that uv is set to would stand in uv.lock for everybody
lock: $(uv)  ## write uv.lock after a change of pyproject.toml; UPGRADE=--upgrade takes newer versions
	$(uv) lock --quiet --default-index https://pypi.org/simple $(UPGRADE)

locked: $(uv)  ## check that uv.lock fits pyproject.toml
	@$(uv) lock --quiet --check --offline --default-index https://pypi.org/simple \
		|| { echo 'error: uv.lock does not fit pyproject.toml: run `make lock` and commit it'; exit 1; }

clean:  ## remove the environments (data and results stay)
	rm -rf .venv .venv-*
