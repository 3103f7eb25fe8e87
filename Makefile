# Two commands do all set-up on a fresh machine: `make demo` and `make test`.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' && echo $$p && break; done)
DEMO_VENV ?= .venv-demo
VENV ?= .venv
CONSTRAINTS = requirements/constraints.txt
# Installing makes the stubs of the wire contract out of them.
PROTOS = $(wildcard protos/coverslip/*/v1/*.proto protos/coverslip/v1/*.proto)
NODE = serving/examples/node
PIP = -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)

.PHONY: help demo originals test node check lint types bench disturbances matrix evaluate model card clean \
	system-packages lint-protos docs sbom coverage

help:
	@echo "make demo      base install only; the whole way on a real CT, with a picture, in out/demo"
	@echo "make test      everything installed, system packages too; all tests"
	@echo "make check     lint, types and the fast tests; needs no npm and no system packages"
	@echo "make lint      ruff, spelling, and which package may import which"
	@echo "make types     mypy"
	@echo "make lint-protos  the wire contract against buf's rules; buf comes from npm"
	@echo "make node      the Node.js example's packages and generated stubs, and buf"
	@echo "make system-packages  dcmtk, libgdcm-tools, dicom3tools, orthanc, libzbar0 for the tests (root)"
	@echo "make coverage  all tests; which lines and branches they run, in build/coverage/html"
	@echo "make docs      the documentation as a site, with the API reference, in build/site"
	@echo "make sbom      bill of materials: base install and released model, in build/sbom.cdx.json"
	@echo "make bench     time of each part, as ratios in one run"
	@echo "make disturbances  share of slices of ../shared/data read back after noise, lossy codecs and cropping"
	@echo "make matrix    every runtime writes, every runtime and numpy read"
	@echo "make originals    every slice of ../shared/data embedded, restored, compared; records moved between images"
	@echo "make evaluate  every slice of ../shared/data embedded and read back, as a table"
	@echo "make model     train and export the released model again from ../shared/data, measure it and write its card"
	@echo "make card      only measure the released model and write its card"
	@echo "make clean     remove the environments and what was built"

# Programs of others that the tests let read what Coverslip writes, and zbar, a second QR reader
# beside zxing-cpp. Nothing needs them: a test whose program is missing is skipped. Debian's Orthanc
# comes with a service, which is stopped: the tests start their own.
system-packages:
	@missing=; PATH="$$PATH:/usr/sbin"; \
	for pair in dcmdump:dcmtk gdcmconv:libgdcm-tools dciodvfy:dicom3tools Orthanc:orthanc; do \
		command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair#*:}"; \
	done; \
	$(PYTHON) -c 'import ctypes.util, sys; sys.exit(not ctypes.util.find_library("zbar"))' \
		|| missing="$$missing libzbar0"; \
	test -z "$$missing" && exit; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing system packages with apt-get:$$missing"; \
		if { apt-get update -q && apt-get install -y -q $$missing; } >/dev/null 2>&1; then \
			case "$$missing" in *orthanc*) \
				systemctl disable --quiet --now orthanc >/dev/null 2>&1;; esac; \
			exit 0; \
		fi; \
	fi; \
	echo "system packages not installed, tests that need them are skipped:$$missing"

$(DEMO_VENV)/.ready: pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11 or 3.12 is needed, with venv"; exit 2; }
	$(PYTHON) -m venv --clear $(DEMO_VENV)
	$(DEMO_VENV)/bin/python $(PIP) -e .
	touch $@

$(VENV)/.ready: pyproject.toml $(CONSTRAINTS) requirements/full.txt requirements/no-deps.txt $(PROTOS)
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11 or 3.12 is needed, with venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) -e . -r requirements/full.txt
	$(VENV)/bin/python $(PIP) --no-deps -r requirements/no-deps.txt
	touch $@

demo: $(DEMO_VENV)/.ready
	$(DEMO_VENV)/bin/coverslip demo --output out/demo

# The example of a client in another language, its generated stubs, and buf, which lints the contract. Node.js comes out of the environment.
$(NODE)/node_modules/.ready: $(VENV)/.ready $(NODE)/package.json $(PROTOS)
	cd $(NODE) && export PATH="$(abspath $(VENV))/bin:$$PATH" \
	&& npm install --silent --no-package-lock --ignore-scripts --no-audit --no-fund && npm run --silent generate
	touch $@

node: $(NODE)/node_modules/.ready

test: system-packages $(VENV)/.ready lint-protos
	$(VENV)/bin/python -m pytest

coverage: system-packages $(VENV)/.ready node
	$(VENV)/bin/python -m pytest --cov --cov-report=term --cov-report=html

check: $(VENV)/.ready lint types
	$(VENV)/bin/python -m pytest -q -m "not slow"

lint: $(VENV)/.ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/typos

# Apart from lint because buf comes from npm.
lint-protos: node
	PATH="$(abspath $(VENV))/bin:$$PATH" $(NODE)/node_modules/.bin/buf lint protos

types: $(VENV)/.ready
	$(VENV)/bin/python -m mypy -p coverslip -p coverslip_edge -p coverslip_graph -p coverslip_serving -p coverslip_training
	$(VENV)/bin/python -m mypy tools benchmarks

docs: $(VENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet

sbom: $(VENV)/.ready $(DEMO_VENV)/.ready
	$(VENV)/bin/python tools/sbom.py $(DEMO_VENV) --output build/sbom.cdx.json

bench: $(VENV)/.ready
	$(VENV)/bin/python benchmarks/parts.py
	$(VENV)/bin/python benchmarks/series.py

disturbances: $(VENV)/.ready
	$(VENV)/bin/python benchmarks/disturbances.py

matrix: $(VENV)/.ready
	$(VENV)/bin/python benchmarks/matrix.py

evaluate: $(VENV)/.ready
	$(VENV)/bin/python benchmarks/evaluate.py

# The figures come last and are those of what was exported; they are printed, and the card is written from them.
model: $(VENV)/.ready
	$(VENV)/bin/coverslip train fit --data ../shared/data --out runs/model
	cp runs/model/weights.npz models/weights.npz
	$(VENV)/bin/coverslip export --weights models/weights.npz --out models --version 7 --force
	$(MAKE) --no-print-directory card

# Measures the released model again, and writes its card.
originals: $(VENV)/.ready
	$(VENV)/bin/python benchmarks/originals.py --transplants 20

card: $(VENV)/.ready
	$(VENV)/bin/coverslip train evaluate --data ../shared/data --model models/coverslip.tflite --metrics models/metrics.json --out runs/evaluation
	$(VENV)/bin/python -m coverslip_training.card models

clean:
	rm -rf build out $(DEMO_VENV) $(VENV)
